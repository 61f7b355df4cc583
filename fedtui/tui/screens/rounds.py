"""Place 3: who took part in which round, how long it took, what went wrong, and the way to the log of that moment."""
from __future__ import annotations

import asyncio
import datetime
from dataclasses import replace
from typing import Any, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from fedtui.tui.figures import round_times, started
from fedtui.tui.glyphs import colour, glyph
from fedtui.tui.pane import Pane
from fedtui.tui.rounds import PHASES, Going, Part, Rounds, duration, rounds_of, spell, with_going
from fedtui.tui.screens.logs import LogsPane
from fedtui.tui.store import Store
from fedtui.tui.widgets.frame import entitle
from fedtui.tui.widgets.listing import Column, Listing, Row
from fedtui.tui.widgets.nothing import Nothing
from fedtui.tui.widgets.round_grid import RoundGrid
from fedtui.tui.widgets.run_picker import RunPicker

SIGNS = (("fit", "fit"), ("eval", "eval"), ("waiting", "waiting"), ("late", "late"), ("failed", "failed"), ("excluded", "excluded"), ("straggler", "straggler"))


COLUMNS = (
    Column("ROUND", 6, right=True), Column("CLIENT", 20, 6), Column("PHASE", 5), Column("WHAT", 12), Column("AFTER", 6, right=True), Column("WHY"),
)  # fmt: skip
MOST_TROUBLES = 200
SMALL_HEIGHT = 28  # below it there is no room for the troubles


class RoundsPane(Pane):
    """See the module."""

    TITLE, KEY = "Rounds", "3"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "run(1)", "older run", key_display="[]"),
        Binding("right_square_bracket", "run(-1)", "newer run", show=False),
        Binding("o", "open_run", "other run"),
        Binding("tab", "other", "rounds or troubles", show=False),
        Binding("shift+tab", "other", "rounds or troubles", show=False),
    ]
    DEFAULT_CSS = """
    RoundsPane { layout: vertical; }
    RoundsPane #about { height: 1; padding: 0 1; }
    RoundsPane RoundGrid { height: auto; max-height: 60%; }
    RoundsPane #cell { height: 5; }
    RoundsPane.-small RoundGrid { height: 1fr; max-height: 100%; }
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._going = Going()
        self._complete = Rounds()
        self._empty = True
        self._shown: tuple[Any, ...] | None = None  # run, its tables, what is known of the round that goes on, outcome, best round
        self._troubles: dict[str, tuple[str, int, str]] = {}
        self._wanted: tuple[str, int] | None = None  # a cell to go to when there is one

    def compose(self) -> ComposeResult:
        """What the signs mean, the grid, the cell under the cursor."""
        yield Static(id="about", markup=False)
        yield Nothing()
        yield RoundGrid(classes="panel")
        yield Static(id="cell", classes="panel", markup=False)
        yield Listing(COLUMNS, "nothing went wrong, and nobody kept the others waiting", id="troubles")

    def on_mount(self) -> None:
        """Titles."""
        troubles = self.query_one("#troubles", Listing)
        troubles.border_title = "What went wrong, or was slow"
        troubles.add_class("panel")
        self._arrange()

    def on_resize(self) -> None:
        """In a small window there is no room for the troubles."""
        self.set_class(self.size.height < SMALL_HEIGHT, "-small")
        self._arrange()

    def _arrange(self) -> None:
        """What there is to see: set at once, for what is not displayed cannot take the focus."""
        self.query_one(Nothing).display = self._empty
        self.query_one(RoundGrid).display = self.query_one("#cell").display = not self._empty
        self.query_one("#troubles").display = not self._empty and not self.has_class("-small")

    def show(self, store: Store, changed: frozenset[str]) -> None:
        """Bring the grid up to date."""
        if changed & {"metrics", "runs", "progress", "file"}:
            self._update()

    def state(self) -> dict[str, Any]:
        """The cell, unless it is on the latest round, and how dense."""
        grid = self.query_one(RoundGrid)
        return {"cell": None if grid.following else grid.cell, "density": grid.density}

    def restore(self, state: dict[str, Any]) -> None:
        """Take that back."""
        self.query_one(RoundGrid).density = str(state.get("density", ""))
        if isinstance(cell := state.get("cell"), list):
            self._wanted = str(cell[0]), int(cell[1])

    def take_focus(self) -> None:
        """The grid, or the text in its place."""
        self.query_one(Nothing if self._empty else RoundGrid).focus(scroll_visible=False)

    def on_round_grid_moved(self) -> None:
        """Say what stands in the cell."""
        self._show_cell()

    def on_listing_moved(self, event: Listing.Moved) -> None:
        """The cell goes along with the trouble under the cursor."""
        if event.listing.has_focus and event.listing.key is not None:
            client, number, _ = self._troubles[event.listing.key]
            self.query_one(RoundGrid).go(client, number)

    async def on_round_grid_opened(self) -> None:
        """Show the client's log at that moment."""
        await self.action_log()

    async def on_listing_opened(self) -> None:
        """Likewise."""
        await self.action_log()

    def action_other(self) -> None:
        """From the rounds to the troubles and back."""
        grid, troubles = self.query_one(RoundGrid), self.query_one("#troubles", Listing)
        (troubles if grid.has_focus and troubles.display else grid).focus(scroll_visible=False)

    async def action_log(self) -> None:
        """Go to what the client printed when that round began."""
        if (cell := self.query_one(RoundGrid).cell) is None:
            return
        client, number = cell
        run = next(run for run in self.store.runs if run.name == self.run_name)
        times = await asyncio.to_thread(round_times, run.path)
        before = [time for other, time in times.items() if other < number]
        self.store.selected = client
        await self.fed.action_go("logs")
        if isinstance(self.fed.pane, LogsPane):
            self.fed.pane.open_at(client, datetime.datetime.fromtimestamp(max(before, default=started(run))))

    def action_run(self, by: int) -> None:
        """An older or a newer run."""
        names = [run.name for run in self.store.runs]
        if self.run_name in names:
            self._view(names[min(max(names.index(self.run_name) + by, 0), len(names) - 1)])

    def action_open_run(self) -> None:
        """Choose a run."""

        def chosen(runs: list[str] | None) -> None:
            if runs:
                self._view(runs[0])

        self.app.push_screen(RunPicker(self.store.runs, [self.run_name], several=False), chosen)

    def _view(self, run: str) -> None:
        """Look at a run, here and in Metrics; at the newest one, whichever that will be, if it is that."""
        self.store.viewed = None if run == self.store.runs[0].name else run
        self._update()

    @property
    def run_name(self) -> str:
        """The run that is shown; "" without any."""
        names = [run.name for run in self.store.runs]
        return self.store.viewed if self.store.viewed in names else names[0] if names else ""

    def _update(self) -> None:
        name, grid = self.run_name, self.query_one(RoundGrid)
        tables = self.store.tables(name) if name else {}
        run = next((run for run in self.store.runs if run.name == name), None)
        outcome, best = (run.outcome, run.best_round) if run is not None else ("", None)
        news = (name, tables, self._going.take(name, self.store.progress), outcome, best, self.store.no_run)
        if self._shown is not None and news[1] is self._shown[1] and news == self._shown:
            return
        if self._shown is None or tables is not self._shown[1]:
            self._complete = rounds_of(tables)
        self._shown = news
        rounds = replace(with_going(self._complete, *news[2]), best=best)
        empty = not rounds.rounds
        if empty:
            self.query_one(Nothing).update(self._why_nothing(name, bool(tables)))
        if empty != self._empty:
            self._empty = empty
            self._arrange()
            self.take_focus()
        grid.put(rounds)
        if self._wanted and not empty:
            grid.go(*self._wanted)
            self._wanted = None
        self._show_about(rounds, outcome)
        self._troubles = {"/".join(map(str, key)): key for key in rounds.troubles[:MOST_TROUBLES]}
        self.query_one("#troubles", Listing).put([_row(name, key, rounds.parts[key]) for name, key in self._troubles.items()])

    def _show_about(self, rounds: Rounds, outcome: str) -> None:
        """What the signs mean, and which run it is."""
        text = Text(no_wrap=True)
        if rounds.rounds:
            for sign, word in SIGNS:
                text.append(f"{glyph(sign)} ", "bold").append(f"{word}  ")
        self.query_one("#about", Static).update(text)
        best = f"  {glyph('best')} best {rounds.best}" if rounds.best else ""
        entitle(self.query_one(RoundGrid), f"Rounds of {self.run_name}  {glyph(outcome)} {outcome}{best}")

    def _show_cell(self) -> None:
        grid, place = self.query_one(RoundGrid), self.query_one("#cell", Static)
        if grid.cell is None:
            return
        client, number = grid.cell
        entitle(place, f"{client} · round {number}" + (" · going on" if number == grid.rounds.going else ""))
        text = Text()
        for phase in PHASES:
            part = grid.rounds.parts.get((client, number, phase))
            nothing = "is not asked yet" if number == grid.rounds.going else "was not asked"
            text.append(f"{phase:<5}", "bold").append(f"{spell(part) if part else nothing}\n")
        text.append("enter shows the log of that moment", "dim")
        place.update(text)

    def _why_nothing(self, name: str, read: bool) -> str:
        if not self.store.loaded or (name and not read):
            return "looking …"
        if not name:
            return self.store.no_run or "No run yet.\n\nu starts the server and all clients; each round becomes a column here, each client a row."
        return f"Nobody has been asked to take part in {name} yet.\n\n1 shows who is there, [ leads to the run before, o to any."


def _row(name: str, key: tuple[str, int, str], part: Part) -> Row:
    client, number, phase = key
    what = "straggler" if part.straggles else part.outcome
    tone = "warning" if part.straggles else colour(part.outcome).removeprefix("$")
    why = f"the others took {part.usual:.1f} s" if part.straggles else part.reason
    return Row(name, (f"{number}", client, phase, (f"{glyph(what)} {what}", tone), duration(part.seconds), why))
