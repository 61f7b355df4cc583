"""Rotates the log of a process that goes on writing into the same open file: no line is lost or split."""
from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

BLOCK = 1 << 20
LONGEST_LINE = 64 << 20  # a longer one is split


def old(log: Path, number: int) -> Path:
    """The `number`th newest of the rotated logs: `C1.log.1` is the newest."""
    return log.with_name(f"{log.name}.{number}")


class Rotation:
    """Moves the content of `log` to `log.1`, and `.1` to `.2` up to `keep`.

    The writer keeps its descriptor (opened with O_APPEND), so the file is copied and cut rather than renamed: `copy`
    takes the bulk while the writer goes on; then, while the writer is held, `copy` takes the rest, which takes long only
    after a flood, and `cut` ends it within milliseconds. A crash at any point leaves lines twice, never lost.

    Raises
    ------
    OSError
        From `need_room`, `copy` and `cut`, such as a full disk; the log is then as it was.
    """

    def __init__(self, log: Path, keep: int) -> None:
        self.log, self.keep = log, keep
        self._copied = 0

    def need_room(self) -> int:
        """The log's size; an `OSError` when the disk has little more room than its copy takes: trying would fill it again and again, and runs write there, too."""
        size, disk = self.log.stat().st_size, shutil.disk_usage(self.log.parent)
        if disk.total and disk.free < 2 * (size - self._copied):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.log))
        return size

    def copy(self) -> None:
        """Copy what there is. Takes its time: not for the event loop's thread."""
        try:
            self._append(self.need_room())
        except BaseException:
            self.discard()
            raise

    def cut(self, cutting: Callable[[int], None]) -> int:
        """Take what has been copied out of the log, up to the last line's end; the writer must be held.

        `cutting(bytes)` is called when nothing can fail any more but the cut itself.

        Returns
        -------
        int
            Bytes by which every offset in the log has moved; 0 when there is no whole line yet.
        """
        try:
            size = self.log.stat().st_size
            end = self._last_line_end(size)
            if end == 0:  # one line, still being written
                self.discard()
                return 0
            self._append(end)
            os.truncate(self._beside, end)  # without the line that is still being written
            with self.log.open("r+b") as file:
                file.seek(end)
                unfinished = file.read(size - end)
                cutting(end)
                for number in range(self.keep, 1, -1):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(old(self.log, number - 1), old(self.log, number))
                os.replace(self._beside, old(self.log, 1))
                file.seek(0)
                file.write(unfinished)
                file.flush()
                file.truncate(len(unfinished))
            return end
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Give up: the log stays as it is."""
        self._beside.unlink(missing_ok=True)

    @property
    def _beside(self) -> Path:
        return self.log.with_name(f".{self.log.name}.rotating")

    def _append(self, end: int) -> None:
        """Copy from where the copy ends up to `end`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (0 if self._copied else os.O_TRUNC)
        with os.fdopen(os.open(self._beside, flags, 0o600), "wb") as target, self.log.open("rb") as source:
            if self._copied:
                target.seek(self._copied)
            source.seek(self._copied)
            while self._copied < end and (data := source.read(min(end - self._copied, BLOCK))):
                target.write(data)
                self._copied += len(data)

    def _last_line_end(self, size: int) -> int:
        """The offset behind the last newline; `size` when the last line is longer than any should be."""
        with self.log.open("rb") as file:
            position = size
            while position > max(size - LONGEST_LINE, 0):
                block = min(1 << 16, position)
                position -= block
                file.seek(position)
                found = file.read(block).rfind(b"\n")
                if found >= 0:
                    return position + found + 1
        return size if size > LONGEST_LINE else 0
