"""What is asked before a run's model is evaluated, asked about images, or exported. Each answers its program's arguments."""
from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.widget import Widget
from textual.widgets import Static

from fedtui.tui.widgets.folder_browser import FolderBrowser, at
from fedtui.tui.widgets.form import Form, field, images
from fedtui.tui.widgets.line_input import LineInput
from poweranger.errors import UserError

if TYPE_CHECKING:
    from fedtui.metrics import RunSummary

FORMATS = {".keras": "keras", ".onnx": "onnx", ".tflite": "litert"}  # by the file's ending


class RunForm(Form[list[str]]):
    """Which of the run's models, and what is to be done with it.

    Attributes
    ----------
    verb, module : what it is called, and the program that does it.
    """

    verb: ClassVar[str]
    module: ClassVar[str]
    DEFAULT_CSS = "RunForm .hint { height: auto; margin: 1 0 0 12; color: $foreground-muted; }"

    def __init__(self, run: RunSummary, root: Path) -> None:
        super().__init__(f"{self.verb.capitalize()} {run.name}", self.verb)
        self._run, self._root = run, root

    def fields(self) -> Iterable[Widget]:
        """The round, and what else is needed."""
        yield field("Round", LineInput("best" if self._run.best_round else str(self._run.rounds_done or 0), "a number, or best", id="round"))
        yield from self.others()

    def others(self) -> Iterable[Widget]:
        """What is asked beside the round."""
        raise NotImplementedError

    def first(self) -> Widget:
        """What has no answer yet comes first."""
        return self.query(LineInput)[1]

    def answer(self) -> list[str]:
        """The program's arguments."""
        which, last = self.query_one("#round", LineInput).value.strip(), self._run.rounds_done or 0
        if not (which == "best" and self._run.best_round) and not (which.isdecimal() and int(which) <= last):
            raise UserError(f"round {which!r} is none: give a number from 0 to {last}" + (", or best" if self._run.best_round else ""))
        return ["--run", self._run.name, "--round", which, *self.arguments()]

    def arguments(self) -> list[str]:
        """What the program is given beside run and round; raises `UserError` when it cannot be."""
        raise NotImplementedError

    def path(self, typed: str) -> str:
        """A path as the program understands it."""
        return str(at(self._root, typed))


class EvaluateForm(RunForm):
    """Asks for a folder of images that took no part in the run."""

    verb, module = "evaluate", "poweranger.evaluate"
    DEFAULT_CSS = "EvaluateForm > Vertical { height: 26; }"

    def others(self) -> Iterable[Widget]:
        """A browser for folders."""
        yield Static("on images that took no part in the run: all of a folder, or the test images of an .npz file", classes="hint")
        yield images(FolderBrowser(self._root, "", empty="no folder yet"))

    def arguments(self) -> list[str]:
        """The folder."""
        if not (path := self.query_one(FolderBrowser).path):
            raise UserError("choose a folder of class folders, or an .npz file")
        return ["--data", self.path(path)]


class PredictForm(RunForm):
    """Asks for images and folders of them."""

    verb, module = "predict", "poweranger.predict"

    def others(self) -> Iterable[Widget]:
        """A line for the paths."""
        yield Static("image files, and folders of which all files are taken; `fedtui predict --csv` makes a table of many", classes="hint", markup=False)
        yield field("Images", LineInput("", "scan_1.png folder_of_scans", id="images"))

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

    def others(self) -> Iterable[Widget]:
        """A line for the file."""
        yield Static(f"the ending is the format ({', '.join(FORMATS)}); a model card is written beside it", classes="hint", markup=False)
        yield field("File", LineInput(f"results/runs/{self._run.name}/model.keras", id="file"))

    def arguments(self) -> list[str]:
        """Format and file."""
        path = self.query_one("#file", LineInput).value.strip()
        form = FORMATS.get(Path(path).suffix)
        if form is None:
            raise UserError(f"the file's name has to end in {', '.join(FORMATS)}")
        return ["--format", form, "--out", self.path(path)]
