"""Questions over the screen: a choice among a few answers, or one line of text. Escape answers nothing."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Label

from fedtui.cleaning import clean
from fedtui.tui.widgets.line_input import LineInput
from poweranger.errors import UserError

if TYPE_CHECKING:
    from fedtui.tui.app import FedApp


NAMED = 8  # of many processes: however long their names are, the answers still fit below them


@dataclass(frozen=True)
class Answer:
    """One answer to choose; `kind` is "default", "primary" or "error"."""

    key: str
    label: str
    value: str
    kind: str = "default"


class Dialog(ModalScreen[str | None]):
    """A title, what it is about, and below them what answers it."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > Vertical { width: 76; max-width: 94%; height: auto; max-height: 90%; border: round $accent; background: $surface; padding: 1 2; }
    Dialog Label { width: 1fr; margin-bottom: 1; }
    Dialog .title { text-style: bold; }
    Dialog Horizontal { width: auto; height: 1; }
    Dialog Button { margin-right: 2; min-width: 8; }
    Dialog Input { width: 1fr; margin-bottom: 1; }
    Dialog .wrong { color: $error; height: auto; min-height: 1; margin: 0; }
    """

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = clean(title), clean(text)

    def compose(self) -> ComposeResult:
        """Title, text, and what answers."""
        with Vertical():
            yield Label(self._title, classes="title", markup=False)
            yield Label(self._text, markup=False)
            yield from self.below()

    def below(self) -> Iterable[Widget]:
        """What answers."""
        raise NotImplementedError


class Choice(Dialog):
    """Some answers. The first one has the focus; each has a key."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "stay", show=False),
        Binding("left,up,h,k", "app.focus_previous", show=False),
        Binding("right,down,j", "app.focus_next", show=False),
    ]

    def __init__(self, title: str, text: str, answers: Sequence[Answer]) -> None:
        super().__init__(title, text)
        self._answers = answers

    def below(self) -> Iterable[Widget]:
        """A button for each answer."""
        buttons = [Button(f"{answer.label} ({answer.key})", variant=answer.kind, compact=True) for answer in self._answers]  # type: ignore[arg-type]
        for button, answer in zip(buttons, self._answers, strict=True):
            button.answer = answer  # type: ignore[attr-defined]
        yield Horizontal(*buttons)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        self.dismiss(event.button.answer.value)  # type: ignore[attr-defined]

    def on_key(self, event: Any) -> None:
        """Each answer's own key."""
        for answer in self._answers:
            if event.character == answer.key:
                event.stop()
                self.dismiss(answer.value)


class Prompt(Dialog):
    """One line of text; `check` raises a `UserError` that says what is wrong with it, as it is typed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "cancel", show=False)]

    def __init__(self, title: str, text: str, value: str = "", check: Callable[[str], object] | None = None) -> None:
        super().__init__(title, text)
        self._value, self._check = value, check

    def below(self) -> Iterable[Widget]:
        """The line, and what is wrong with it."""
        yield LineInput(self._value)
        yield Label("", classes="wrong", markup=False)

    def on_line_input_cancelled(self) -> None:
        """Answer nothing."""
        self.dismiss(None)

    def on_input_changed(self, event: LineInput.Changed) -> None:
        """Say what is wrong so far."""
        self.query_one(".wrong", Label).update(self._wrong(event.value))

    def on_input_submitted(self, event: LineInput.Submitted) -> None:
        """Answer, when nothing is wrong."""
        if not self._wrong(event.value):
            self.dismiss(event.value)

    def _wrong(self, value: str) -> str:
        try:
            if self._check is not None:
                self._check(value)
        except UserError as error:
            return clean(str(error))
        return ""


def listed(names: Sequence[str]) -> str:
    """The names, of many only the first ones, and how many more there are."""
    return ", ".join(names) if len(names) <= NAMED else f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"


def confirm(app: App[Any], title: str, text: str, verb: str, then: Callable[[], object]) -> None:
    """Ask once whether to do what `text` says, then do it; the answer that has the focus is no."""
    answers = [Answer("n", "no", "no"), Answer("y", verb, "yes", "error")]

    def act(answer: str | None) -> None:
        if answer == "yes":
            then()

    app.push_screen(Choice(title, text, answers), act)


def ask_to_leave(app: FedApp) -> None:
    """Leave with processes running: they go on, or are stopped first."""
    answers = [Answer("l", "leave them running", "leave", "primary"), Answer("D", "stop all", "stop", "error"), Answer("n", "stay", "stay")]
    if app.store.read_only:
        del answers[1]

    def act(answer: str | None) -> None:
        if answer == "leave":
            app.leave()
        elif answer == "stop":
            app.actions.down(then=partial(app.leave, stopped=True))

    names = app.store.going_on
    text = f"{listed(names)} go on without this interface; `fedtui` comes back to them."
    if len(names) == 1:
        text = f"{names[0]} goes on without this interface; `fedtui` comes back to it."
    app.push_screen(Choice("Quit?", text, answers), act)
