"""What is asked before a run's model is evaluated, asked about images, or exported. Each answers its program's arguments."""
from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Static

from fedtui.cleaning import clean
from fedtui.tui.widgets.folder_browser import FolderBrowser, at
from fedtui.tui.widgets.frame import entitle
from fedtui.tui.widgets.line_input import LineInput
from poweranger.errors import UserError

if TYPE_CHECKING:
    from fedtui.metrics import RunSummary

FORMATS = {".keras": "keras", ".onnx": "onnx", ".tflite": "litert"}  # by the file's ending


class RunForm(ModalScreen[list[str] | None]):
    """Which of the run's models, and what is to be done with it.

    Attributes
    ----------
    verb, module : what it is called, and the program that does it.
    """

    verb: ClassVar[str]
    module: ClassVar[str]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "cancel"),
        Binding("ctrl+s", "accept", "accept"),
        Binding("tab", "app.focus_next", "next field"),
        Binding("shift+tab", "app.focus_previous", show=False),
    ]
    DEFAULT_CSS = """
    RunForm { align: center middle; background: $background 60%; }
    RunForm > Vertical { width: 96; max-width: 98%; height: auto; max-height: 98%; border: round $accent; background: $surface; padding: 0 1; }
    .-ascii RunForm > Vertical { border: ascii $accent; }
    RunForm .field { height: 1; margin-top: 1; }
    RunForm .field Static, RunForm .images > Static { width: 12; color: $foreground-muted; }
    RunForm .field LineInput { width: 1fr; }
    EvaluateForm > Vertical { height: 26; }
    RunForm .images { height: 1fr; margin-top: 1; }
    RunForm .hint { height: auto; margin: 1 0 0 12; color: $foreground-muted; }
    RunForm #wrong { height: 2; color: $error; margin-top: 1; }
    RunForm #buttons { height: 1; }
    RunForm Button { margin-right: 2; min-width: 8; }
    """

    def __init__(self, run: RunSummary, root: Path) -> None:
        super().__init__()
        self._run, self._root = run, root

    def compose(self) -> ComposeResult:
        """The round, what else is needed, what is wrong with it, and the buttons."""
        run = self._run
        with Vertical() as box:
            entitle(box, clean(f"{self.verb.capitalize()} {run.name}"))
            with Horizontal(classes="field"):
                yield Static("Round")
                yield LineInput("best" if run.best_round else str(run.rounds_done or 0), "a number, or best", id="round")
            yield from self.fields()
            yield Static("", id="wrong", markup=False)
            with Horizontal(id="buttons"):
                yield Button(f"{self.verb} (ctrl+s)", id="accept", variant="primary", compact=True)
                yield Button("cancel (esc)", id="cancel", compact=True)

    def fields(self) -> Iterable[Widget]:
        """What is asked beside the round."""
        raise NotImplementedError

    def arguments(self) -> list[str]:
        """What the program is given beside run and round; raises UserError when it cannot be."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """What has no answer yet comes first."""
        self.query(LineInput)[1].focus()
        self._check()

    @on(LineInput.Changed)
    @on(FolderBrowser.Changed)
    def _check(self) -> None:
        try:
            self._answer()
            wrong = ""
        except UserError as error:
            wrong = clean(str(error))
        self.query_one("#wrong", Static).update(wrong)
        self.query_one("#accept", Button).disabled = bool(wrong)

    @on(LineInput.Cancelled)
    def _cancelled(self) -> None:
        self.dismiss(None)

    @on(LineInput.Submitted)
    def _submitted(self) -> None:
        self.action_accept()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Accept or cancel."""
        if event.button.id == "accept":
            self.action_accept()
        else:
            self.dismiss(None)

    def action_accept(self) -> None:
        """Answer, when nothing is wrong."""
        if not self.query_one("#accept", Button).disabled:
            self.dismiss(self._answer())

    def _answer(self) -> list[str]:
        which, last = self.query_one("#round", LineInput).value.strip(), self._run.rounds_done or 0
        if not (which == "best" and self._run.best_round) and not (which.isdecimal() and int(which) <= last):
            raise UserError(f"round {which!r} is none: give a number from 0 to {last}" + (", or best" if self._run.best_round else ""))
        return ["--run", self._run.name, "--round", which, *self.arguments()]

    def path(self, typed: str) -> str:
        """A path as the program understands it."""
        return str(at(self._root, typed))


class EvaluateForm(RunForm):
    """Asks for a folder of images that took no part in the run."""

    verb, module = "evaluate", "poweranger.evaluate"

    def fields(self) -> Iterable[Widget]:
        """A browser for folders."""
        yield Static("on images that took no part in the run: all of a folder, or the test images of an .npz file", classes="hint")
        yield Horizontal(Static("Images"), FolderBrowser(self._root, "", empty="no folder yet"), classes="images")

    def arguments(self) -> list[str]:
        """The folder."""
        if not (path := self.query_one(FolderBrowser).path):
            raise UserError("choose a folder of class folders, or an .npz file")
        return ["--data", self.path(path)]


class PredictForm(RunForm):
    """Asks for images and folders of them."""

    verb, module = "predict", "poweranger.predict"

    def fields(self) -> Iterable[Widget]:
        """A line for the paths."""
        yield Static("image files, and folders of which all files are taken; `fedtui predict --csv` makes a table of many", classes="hint", markup=False)
        yield Horizontal(Static("Images"), LineInput("", "scan_1.png folder_of_scans", id="images"), classes="field")

    def arguments(self) -> list[str]:
        """The paths."""
        try:
            paths = shlex.split(self.query_one("#images", LineInput).value)
        except ValueError as error:
            raise UserError(f"images: {error}".lower()) from None
        if not paths:
            raise UserError("name an image file or a folder")
        return [self.path(path) for path in paths]


class ExportForm(RunForm):
    """Asks for the file to write; its ending is the format."""

    verb, module = "export", "poweranger.export"

    def fields(self) -> Iterable[Widget]:
        """A line for the file."""
        yield Static(f"the ending is the format ({', '.join(FORMATS)}); a model card is written beside it", classes="hint", markup=False)
        yield Horizontal(Static("File"), LineInput(f"results/runs/{self._run.name}/model.keras", id="file"), classes="field")

    def arguments(self) -> list[str]:
        """Format and file."""
        path = self.query_one("#file", LineInput).value.strip()
        form = FORMATS.get(Path(path).suffix)
        if form is None:
            raise UserError(f"the file's name has to end in {', '.join(FORMATS)}")
        return ["--format", form, "--out", self.path(path)]
