"""One line to type in, laid over what it edits, or below a list that it filters."""
from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from fedtui.cleaning import clean


class LineInput(Input):
    """An input of one row without a frame; escape is told as `Cancelled`, enter as `Submitted`."""

    DEFAULT_CSS = """
    LineInput { height: 1; border: none; padding: 0; background: $surface-lighten-1; color: $foreground; }
    LineInput:focus { border: none; background: $surface-lighten-1; }
    LineInput.-wrong { color: $error; text-style: bold; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "accept"),
        Binding("escape", "cancel", "cancel"),
    ]

    class Cancelled(Message):
        """Escape was pressed."""

        def __init__(self, input: LineInput) -> None:
            super().__init__()
            self.input = input

        @property
        def control(self) -> LineInput:
            """The input."""
            return self.input

    def __init__(self, value: str = "", placeholder: str = "", *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(value, placeholder=placeholder, compact=True, id=id, classes=classes)
        self.cursor_blink = False  # it would send bytes twice a second

    def validate_value(self, value: str) -> str:
        """What is pasted or comes from a file must not reach the terminal as it is."""
        return clean(value)

    def action_cancel(self) -> None:
        """Give up."""
        self.post_message(self.Cancelled(self))
