"""One of the project's programs in the background, and the sheet that shows what it prints."""
from __future__ import annotations

import codecs
import contextlib
import os
import signal
import subprocess
import textwrap
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Log

from fedtui.cleaning import clean
from fedtui.tui.actions import in_background
from fedtui.tui.glyphs import glyph
from fedtui.tui.widgets.frame import entitle

if TYPE_CHECKING:
    from fedtui.tui.app import FedApp

LINES = 10_000  # kept of what a program prints
CHUNK = 1 << 16
WIDEST = 120  # cells of the sheet, as in its CSS


class Program:
    """A program that has been started.

    Attributes
    ----------
    lines : what it has printed, clean, at most `LINES`.
    code : its exit code, negative after a signal; None while it runs.
    told : called on the UI thread with new lines, and with none when it has ended.
    """

    def __init__(self, title: str, command: Sequence[str], folder: Path) -> None:
        self.title = clean(title)
        self.lines: deque[str] = deque(maxlen=LINES)
        self.code: int | None = None
        self.told: Callable[[Sequence[str]], object] = _nobody
        self._process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def follow(self, tell: Callable[[list[str]], object]) -> int:
        """In a thread: give what it prints to `tell`, many lines at once; its exit code."""
        assert self._process.stdout is not None
        decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
        with self._process.stdout as pipe:
            while chunk := os.read(pipe.fileno(), CHUNK):
                *lines, rest = (rest + decoder.decode(chunk)).split("\n")
                tell([clean(line) for line in lines])
        tell([clean(rest)] if rest else [])
        return self._process.wait()

    def take(self, lines: Sequence[str]) -> None:
        """Keep new lines, and show them to whoever looks."""
        self.lines.extend(lines)
        self.told(lines)

    def end(self) -> None:
        """Interrupt it, as Ctrl+C would: it takes away what is half written."""
        if self.code is None:
            self._process.send_signal(signal.SIGINT)


def run_program(app: FedApp, title: str, module: str, arguments: Sequence[str]) -> None:
    """Start `python -m module` in the project folder and show it; one at a time, and none with `--read-only`."""
    if not app.actions.allowed():
        return
    if app.program is not None and app.program.code is None:
        app.say(f"{app.program.title} still runs", "warning", "o in Runs (7) shows it")
        return
    project = app.store.project
    try:
        program = Program(title, [project.python(), "-m", module, *arguments], project.root)
    except OSError as error:
        app.say(f"{title} cannot be started: {error.strerror}", "error")
        return
    app.program = program

    def ended(code: int) -> None:
        program.code = code
        shown = program.told is not _nobody
        program.told(())
        if not shown:
            app.say(f"{program.title}: {_outcome(program)[1]}", "error" if code else "information", "o in Runs (7) shows what it printed")

    def tell(lines: list[str]) -> None:
        with contextlib.suppress(RuntimeError):  # the interface has been left meanwhile
            app.call_later(program.take, lines)

    in_background(app, lambda: program.follow(tell), ended, lambda error: app.say(str(error), "error"))
    show_program(app)


def show_program(app: FedApp) -> None:
    """Show what the last program prints or has printed."""
    if app.program is not None:
        app.push_screen(ProgramSheet(app.program))


class ProgramSheet(ModalScreen[None]):
    """What a program prints. Escape hides it; the program goes on."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,o", "dismiss", "hide", key_display="esc"),
        Binding("x", "end", "end it"),
        Binding("c", "copy", "copy"),
        Binding("j", "scroll(1)", "down", show=False),
        Binding("k", "scroll(-1)", "up", show=False),
        Binding("g", "ends(True)", "begin", show=False),
        Binding("G", "ends(False)", "end", show=False),
    ]
    DEFAULT_CSS = """
    ProgramSheet { align: center middle; background: $background 60%; }
    ProgramSheet Vertical { width: 96%; max-width: 120; height: 90%; border: round $accent; background: $surface; padding: 0 1; border-title-color: $accent; border-title-style: bold; border-subtitle-color: $foreground 70%; }
    ProgramSheet Log { background: $surface; }
    """

    def __init__(self, program: Program) -> None:
        super().__init__()
        self._program = program

    def compose(self) -> ComposeResult:
        """The lines in a frame that says how it stands."""
        with Vertical():
            yield Log(max_lines=LINES, auto_scroll=False)

    def on_mount(self) -> None:
        """Show what there is, and from now on what comes."""
        self.query_one(Log).focus()
        self._take(list(self._program.lines))
        self._program.told = self._take

    def on_unmount(self) -> None:
        """Nobody looks any more, unless another sheet does already."""
        if self._program.told == self._take:
            self._program.told = _nobody

    def _take(self, lines: Sequence[str]) -> None:
        width = min(WIDEST, self.app.size.width * 96 // 100) - 5
        self.query_one(Log).write_lines(part or " " for line in lines for part in _fitting(line, width))  # it leaves empty ones out
        state, words = _outcome(self._program)
        keys = "esc hides it, x ends it" if self._program.code is None else "esc closes, c copies"
        entitle(self.query_one(Vertical), self._program.title, f"{glyph(state)} {words}  {keys}")

    def action_end(self) -> None:
        """End the program."""
        self._program.end()

    def action_copy(self) -> None:
        """Copy all lines."""
        self.app.copy_to_clipboard("\n".join(self._program.lines))

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines."""
        self.query_one(Log).scroll_relative(y=lines, animate=False)

    def action_ends(self, begin: bool) -> None:
        """To the begin or the end."""
        log = self.query_one(Log)
        log.scroll_home(animate=False) if begin else log.scroll_end(animate=False)


def _outcome(program: Program) -> tuple[str, str]:
    """How it stands: the name of a sign, and words."""
    if program.code is None:
        return "running", "it runs"
    if program.code in (-signal.SIGINT, 128 + signal.SIGINT):
        return "stopped", "ended"
    return ("finished", "done") if program.code == 0 else ("failed", f"failed with exit code {program.code}")


def _fitting(line: str, width: int) -> list[str]:
    """The lines to show a line in: a sentence is wrapped, a row of a table is not (it has wider gaps, and can be scrolled)."""
    return [line] if len(line) <= width or "  " in line.strip() else textwrap.wrap(line, width, break_on_hyphens=False)


def _nobody(lines: Sequence[str]) -> None:
    """Who looks when nobody does."""
