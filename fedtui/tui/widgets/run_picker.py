"""A dialog to choose runs: several to overlay, or one to open."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from fedtui.tui.glyphs import colour, glyph
from fedtui.tui.widgets.listing import Cell, Column, Listing, Row
from fedtui.tui.widgets.scale import elapsed, number

if TYPE_CHECKING:
    from fedtui.metrics import RunSummary


class RunPicker(ModalScreen[list[str] | None]):
    """Gives the names of the chosen runs, newest first; None when it was cancelled.

    Parameters
    ----------
    several : `space` marks runs, `enter` takes the marked ones; else `enter` takes the one under the cursor.
    """

    DEFAULT_CSS = """
    RunPicker { align: center middle; }
    RunPicker Listing { width: 90%; max-width: 110; height: auto; max-height: 80%; background: $panel; padding: 1 1; border: round $accent; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark"),
        Binding("enter", "take", "show"),
        Binding("escape", "cancel", "cancel"),
    ]

    def __init__(self, runs: Sequence[RunSummary], marked: Iterable[str], *, several: bool = True) -> None:
        super().__init__()
        self._runs, self._marked, self._several = list(runs), set(marked), several

    def compose(self) -> ComposeResult:
        """The list."""
        columns = (
            Column("", 1), Column("RUN", 48, 12), Column("OUTCOME", 13, 9), Column("ROUNDS", 9, 6, right=True),
            Column("ACCURACY", 9, right=True, beyond=60), Column("TOOK", 9, right=True, beyond=70),
        )  # fmt: skip
        yield Listing(columns)

    def on_mount(self) -> None:
        """Fill it."""
        listing = self.query_one(Listing)
        listing.border_title = "Runs to overlay" if self._several else "Run to show"
        listing.border_subtitle = "space marks  enter shows  esc cancels" if self._several else "enter shows  esc cancels"
        self._fill()
        if self._marked:
            listing.go(next((run.name for run in self._runs if run.name in self._marked), ""))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """One run needs no marks."""
        return action != "mark" or self._several

    def on_listing_opened(self) -> None:
        """A second click is like enter."""
        self.action_take()

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take its mark away."""
        listing = self.query_one(Listing)
        if listing.key is not None:
            self._marked ^= {listing.key}
            self._fill()
            listing.action_move(1)

    def action_take(self) -> None:
        """Close with what is chosen."""
        key = self.query_one(Listing).key
        marked = [run.name for run in self._runs if run.name in self._marked] if self._several else []
        self.dismiss(marked or ([key] if key else []))

    def action_cancel(self) -> None:
        """Close without."""
        self.dismiss(None)

    def _fill(self) -> None:
        self.query_one(Listing).put([Row(run.name, self._cells(run)) for run in self._runs])

    def _cells(self, run: RunSummary) -> tuple[Cell, ...]:
        return (
            glyph("selected" if run.name in self._marked else "unselected") if self._several else "",
            run.name,
            (f"{glyph(run.outcome)} {run.outcome}", colour(run.outcome)),
            f"{run.rounds_done if run.rounds_done is not None else '–'}/{run.rounds if run.rounds is not None else '–'}",
            "" if run.best_accuracy is None else number(run.best_accuracy),
            "" if run.seconds is None else elapsed(run.seconds),
        )
