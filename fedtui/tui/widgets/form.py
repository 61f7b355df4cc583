"""What all forms have in common: lines to type in, what is wrong with them as they are typed, and buttons."""
from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Static

from fedtui.cleaning import clean
from fedtui.tui.widgets.folder_browser import FolderBrowser
from fedtui.tui.widgets.frame import entitle
from fedtui.tui.widgets.line_input import LineInput
from poweranger.errors import UserError

T = TypeVar("T")


class Form(ModalScreen[T | None], Generic[T]):
    """Answers what was typed, or None. It can be accepted when nothing is wrong.

    Textual calls a handler in every class that defines it, so a handler of the same name does not replace the one here. A form
    extends this class by the methods that raise `NotImplementedError`, by `ready` and `buttons`, and by handlers of other names.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "cancel"),
        Binding("ctrl+s", "accept", "accept"),
        Binding("tab", "app.focus_next", "next field"),
        Binding("shift+tab", "app.focus_previous", show=False),
    ]
    DEFAULT_CSS = """
    Form { align: center middle; background: $background 60%; }
    Form > Vertical { width: 96; max-width: 98%; height: auto; max-height: 98%; border: round $accent; background: $surface; padding: 0 1; }
    Form .field { height: 1; margin-top: 1; }
    Form .images { height: 1fr; margin-top: 1; }
    Form .field Static, Form .images > Static { width: 12; color: $foreground-muted; }
    Form .field LineInput { width: 1fr; }
    Form #wrong { height: 2; color: $error; margin-top: 1; }
    Form #buttons { height: 1; }
    Form Button { margin-right: 2; min-width: 8; }
    """

    def __init__(self, heading: str, accept: str) -> None:
        super().__init__()
        self._heading, self._accept = heading, accept

    def compose(self) -> ComposeResult:
        """The fields, what is wrong with them, and the buttons."""
        with Vertical() as box:
            entitle(box, clean(self._heading))
            yield from self.fields()
            yield Static("", id="wrong", markup=False)
            with Horizontal(id="buttons"):
                yield Button(f"{self._accept} (ctrl+s)", id="accept", variant="primary", compact=True)
                yield from self.buttons()
                yield Button("cancel (esc)", id="cancel", compact=True)

    def fields(self) -> Iterable[Widget]:
        """What is asked."""
        raise NotImplementedError

    def buttons(self) -> Iterable[Button]:
        """Those between the one that accepts and the one that cancels."""
        return ()

    def first(self) -> Widget:
        """The field that has the focus at first."""
        raise NotImplementedError

    def answer(self) -> T:
        """What is typed; raises `UserError` when it cannot be."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether all is known that has to be before the form may be accepted."""
        return True

    def on_mount(self) -> None:
        """Say at once what is missing."""
        self.first().focus()
        self._check()

    @on(LineInput.Changed)
    @on(FolderBrowser.Changed)
    def _check(self) -> None:
        try:
            self.answer()
            wrong = ""
        except UserError as error:
            wrong = clean(str(error))
        self.query_one("#wrong", Static).update(wrong)
        self.query_one("#accept", Button).disabled = bool(wrong) or not self.ready()

    @on(LineInput.Cancelled)
    @on(Button.Pressed, "#cancel")
    def _cancelled(self) -> None:
        self.dismiss(None)

    @on(LineInput.Submitted)
    @on(Button.Pressed, "#accept")
    def action_accept(self) -> None:
        """Answer, when nothing is wrong."""
        if not self.query_one("#accept", Button).disabled:
            self.dismiss(self.answer())


def field(label: str, line: LineInput) -> Horizontal:
    """A line to type in, and what it is called."""
    return Horizontal(Static(label), line, classes="field")


def images(browser: FolderBrowser) -> Horizontal:
    """A browser for images, as high as there is room."""
    return Horizontal(Static("Images"), browser, classes="images")
