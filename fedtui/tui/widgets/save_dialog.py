"""What will be changed in the file, before it is."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Button, Static

from fedtui.tui.dialogs import Dialog
from fedtui.tui.glyphs import MUTED


class Change(NamedTuple):
    """A line of the file before and after; `before` is empty for one that is added. `note` says when it counts."""

    before: str
    after: str
    note: str = ""


class SaveDialog(Dialog):
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
    DEFAULT_CSS = "SaveDialog VerticalScroll { height: auto; max-height: 40vh; margin-bottom: 1; }"

    def __init__(self, file: str, changes: Sequence[Change]) -> None:
        super().__init__(f"Save {file}?", "What changes in [tool.flwr.app.config]:")
        self._changes = changes

    def below(self) -> Iterable[Widget]:
        """The changes, and what may be done with them."""
        yield VerticalScroll(Static(Content("\n").join(map(_lines, self._changes))), can_focus=False)
        yield Horizontal(
            Button("save (w)", id="save", variant="primary", compact=True),
            Button("go on editing (esc)", id="edit", compact=True),
            Button("discard (d)", id="discard", variant="error", compact=True),
        )

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
