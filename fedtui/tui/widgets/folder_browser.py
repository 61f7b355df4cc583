"""Picks a data folder: a line to type its path in, the folders that it may go on with, and the images that lie there."""
from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget

from fedtui.data_folder import ClassCounts, count, subfolders
from fedtui.tui.widgets.class_counts import ClassCountsView
from fedtui.tui.widgets.line_input import LineInput
from fedtui.tui.widgets.listing import Column, Listing, Row
from poweranger.errors import UserError

PAUSE_S = 0.25  # in typing, before the disk is asked
UP = ".."
SYNTHETIC = "no folder: this client makes up synthetic images, to try things out"


class Folders(Listing):
    """Folders to go into."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("right", "open", show=False), Binding("left,backspace", "out", "up")]

    class Left(Message):
        """Go to the folder above."""

    def action_out(self) -> None:
        """Go to the folder above."""
        self.post_message(self.Left())


class FolderBrowser(Widget):
    """A path as the roster keeps it: relative to `root`, absolute, or from `~`; or none.

    Attributes
    ----------
    empty : what it means that there is none.
    counts : what lies at the path; None as long as nothing has been found there.
    error : why it cannot be taken; empty when it can, or is not known yet.
    """

    DEFAULT_CSS = """
    FolderBrowser { width: 1fr; height: 1fr; }
    FolderBrowser > Horizontal { height: 1fr; margin-top: 1; }
    FolderBrowser Folders { width: 2fr; margin-right: 2; }
    FolderBrowser ClassCountsView { width: 3fr; }
    """

    class Changed(Message):
        """The path, or what is known of it, has changed."""

    class _Seen(Message):
        def __init__(self, path: str, folders: list[str] | None, counts: ClassCounts | None, error: str) -> None:
            super().__init__()
            self.path, self.folders, self.counts, self.error = path, folders, counts, error

    def __init__(self, root: Path, path: str, empty: str = SYNTHETIC) -> None:
        super().__init__()
        self.root, self.path, self.empty = root, path, empty
        self.counts: ClassCounts | None = None
        self.error = ""
        self._timer: Timer | None = None
        self._stop = threading.Event()

    def compose(self) -> ComposeResult:
        """The line, folders to the left, counts to the right."""
        yield LineInput(self.path, "a folder of class folders, or an .npz file")
        with Horizontal():
            yield Folders([Column("FOLDERS")], "no folder here")
            yield ClassCountsView()

    def on_mount(self) -> None:
        """Look at once."""
        self._look()

    def on_unmount(self) -> None:
        """Stop counting."""
        self._stop.set()

    @property
    def known(self) -> bool:
        """Whether the path may be taken: nothing to count, or images found."""
        return not self.path or (not self.error and self.counts is not None and self.counts.total > 0)

    @on(LineInput.Changed)
    def _typed(self, event: LineInput.Changed) -> None:
        event.stop()
        if event.value.strip() == self.path:
            return
        self.path, self.counts, self.error = event.value.strip(), None, ""
        self._stop.set()
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(PAUSE_S, self._look)
        self.query_one(ClassCountsView).say("counting…" if self.path else self.empty)
        self.post_message(self.Changed())

    @on(Folders.Opened)
    def _opened(self, event: Folders.Opened) -> None:
        event.stop()
        self.go(str(event.listing.key))

    @on(Folders.Left)
    def _left(self, event: Folders.Left) -> None:
        event.stop()
        self.go(UP)

    def go(self, name: str) -> None:
        """Go into a folder that is listed, or out with `UP`."""
        base = self.path[: self.path.rfind("/") + 1] if name != UP or not self.path.endswith("/") else self.path
        path = os.path.normpath(base + UP) if name == UP else os.path.join(base, name)
        line = self.query_one(LineInput)
        line.value = path + "/" if path != "/" and not path.lower().endswith(".npz") else path
        line.cursor_position = len(line.value)

    def _look(self) -> None:
        self._stop = threading.Event()
        if not self.path:
            self.query_one(ClassCountsView).say(self.empty)
        threading.Thread(target=self._ask_disk, args=(self.path, self._stop), daemon=True).start()

    def _ask_disk(self, path: str, stop: threading.Event) -> None:
        """In a thread: a folder may lie on a slow disk, and hold a million files."""

        def tell(folders: list[str] | None = None, counts: ClassCounts | None = None, error: str = "") -> bool:
            if not stop.is_set():
                self.post_message(self._Seen(path, folders, counts, error))
            return not stop.is_set()

        base, _, begin = path.rpartition("/")
        folder = at(self.root, f"{base}/" if "/" in path else "")
        names = [name for name in subfolders(folder) if name.isprintable() and name.lower().startswith(begin.lower())]
        if tell([UP, *names]) and path:
            try:
                tell(counts=count(at(self.root, path), lambda counts: tell(counts=counts)))
            except UserError as error:
                tell(error=str(error).replace(str(at(self.root, path)), path))  # as it was typed

    def on_folder_browser__seen(self, event: _Seen) -> None:
        """Show what the disk has answered, unless the path is another one by now."""
        event.stop()
        if event.path != self.path or not self.is_attached:
            return
        if event.folders is not None:
            self.query_one(Folders).put([Row(name, (name if name == UP or name.lower().endswith(".npz") else f"{name}/",)) for name in event.folders])
            return
        self.counts, self.error = event.counts, event.error
        view = self.query_one(ClassCountsView)
        if event.counts is not None:
            view.show(event.counts)
        else:
            view.say(event.error, "$error")
        self.post_message(self.Changed())


def at(root: Path, path: str) -> Path:
    """Where a path of the roster leads to."""
    return Path(os.path.normpath(root / os.path.expanduser(path)))
