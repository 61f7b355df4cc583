"""The end of a log in a few rows."""
from __future__ import annotations

import os
from pathlib import Path

from textual.geometry import Region
from textual.strip import Strip

from fedtui.cleaning import LIMIT, clean
from fedtui.tui.widgets.log_widget import LogWidget

READ = 1 << 16  # bytes from the end in which the rows are looked for


class LogTail(LogWidget):
    """The last lines of a log, as many as fit, cut at the right edge. Only rows that have changed are painted again."""

    DEFAULT_CSS = "LogTail { height: 1fr; }"
    EMPTY = "no log yet: it begins when the process is started"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._path: Path | None = None
        self._seen: tuple[int, ...] | None = None
        self._rows: list[str] = []

    def show(self, path: Path | None) -> None:
        """Show the end of the log at `path`; call it again when there may be more. Reads 64 KiB at most, when it has changed."""
        try:
            status = path.stat() if path else None
        except OSError:
            status = None
        seen = (status.st_ino, status.st_size, status.st_mtime_ns, *self.size) if status else None
        if (path, seen) == (self._path, self._seen) and self._rows:
            return
        self._path, self._seen = path, seen
        self._show_rows(_last_lines(path, self.size.height) if path and status else [self.EMPTY])

    def on_resize(self) -> None:
        """Other rows fit now."""
        self.show(self._path)

    def render_line(self, y: int) -> Strip:
        """One row."""
        width = self.size.width
        if y >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        return self.strip(self._rows[y])

    def _show_rows(self, rows: list[str]) -> None:
        old, self._rows = self._rows, rows
        for y in range(max(len(old), len(rows))):
            if old[y : y + 1] != rows[y : y + 1]:
                self.refresh(Region(0, y, self.size.width, 1))


def _last_lines(path: Path, count: int) -> list[str]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - READ, 0))
            lines = file.read(READ).split(b"\n")
    except OSError:
        return []
    if size > READ and len(lines) > 1:
        del lines[0]  # its begin was not read
    if not lines[-1]:
        del lines[-1]
    return [clean(line[: 8 * LIMIT].decode("utf-8", "surrogateescape")) for line in lines[-count:]] if count > 0 else []
