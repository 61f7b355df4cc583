"""What will be changed in the file, before it is."""
from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from fedtui.tui.glyphs import MUTED


class Change(NamedTuple):
    """A line of the file before and after; `before` is empty for one that is added. `note` says when it counts."""

    before: str
    after: str
    note: str = ""


class SaveDialog(ModalScreen[str | None]):
    """Answers "save", "discard", or None to go on editing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "go on editing"),
        Binding("w,ctrl+s,y", "dismiss('save')", "save"),
        Binding("d", "dismiss('discard')", "discard"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
    ]
    DEFAULT_CSS = """
    SaveDialog { align: center middle; background: $background 60%; }
    SaveDialog > Vertical { width: 76; max-width: 96%; height: auto; max-height: 90%; border: round $accent; background: $surface; padding: 1 2; }
    SaveDialog VerticalScroll { height: auto; max-height: 50vh; margin: 1 0; }
    SaveDialog Static { height: auto; }
    SaveDialog Horizontal { height: 1; }
    SaveDialog Button { margin-right: 2; min-width: 8; }
    """

    def __init__(self, file: str, changes: Sequence[Change]) -> None:
        super().__init__()
        self._file, self._changes = file, changes

    def compose(self) -> ComposeResult:
        """The changes, and what may be done with them."""
        with Vertical() as box:
            box.border_title = "Save"
            yield Static(Content.assemble((f"{self._file}", "bold"), ("  [tool.flwr.app.config]", MUTED)))
            with VerticalScroll(can_focus=False):
                yield Static(Content("\n").join(map(_lines, self._changes)))
            with Horizontal():
                yield Button("save (w)", id="save", variant="primary", compact=True)
                yield Button("go on editing (esc)", id="edit", compact=True)
                yield Button("discard (d)", id="discard", variant="error", compact=True)

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines, where there are more changes than fit."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        self.dismiss(None if event.button.id == "edit" else event.button.id)


def _lines(change: Change) -> Content:
    note = (f"   {change.note}", MUTED)
    before = [(f"- {change.before}\n", "$error")] if change.before else []
    return Content.assemble(*before, (f"+ {change.after}", "$success"), note)
