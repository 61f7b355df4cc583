"""Any line of a log of any size, at once and in little memory; the log may grow and be rotated all the while.

Kept is one number for each block of 64 KiB, the newlines before it. A line is found by bisection and one read. (No mmap: a
file that is cut while it is mapped would end the program.)
"""
from __future__ import annotations

import contextlib
import os
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from pathlib import Path

from fedtui.cleaning import LIMIT, clean
from fedtui.logs import old_logs

BLOCK = 1 << 16
LINE_BYTES = 8 * LIMIT  # of a line are read: `clean` looks at no more
BUDGET = 16 << 20  # bytes indexed by one update
_READ = 1 << 20
_CACHED = 16  # blocks


class Log:
    """The lines of a log and of its rotated logs, numbered from the first ever seen: a rotation changes no number.

    One thread calls `update`, any may read.

    Attributes
    ----------
    first, end : numbers of the first line that is still there, and behind the last.
    finished : behind the last line that has its newline.
    complete : whether all there was at the last update is indexed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first = self.end = self.finished = 0
        self.complete = False
        self.bytes = self.indexed = 0  # there are, and are indexed
        self._files: list[_File] = []  # oldest first, the log itself last
        self._lock = threading.Lock()

    def update(self) -> bool:
        """Index what is new, 16 MiB of it at most; whether anything has changed."""
        before = (self.first, self.end, self.finished, self.indexed)
        self._list()
        sizes = [file.there() for file in self._files]
        budget = BUDGET
        for file in self._files:
            budget -= file.update(budget, self._lock)
            if budget <= 0:
                break
        with self._lock:
            self.end = self.first + sum(file.lines for file in self._files)
            self.finished = self.end - (1 if self._files and self._files[-1].unfinished else 0)
            self.bytes, self.indexed = sum(sizes), sum(file.size for file in self._files)
            self.complete = all(file.size >= size for file, size in zip(self._files, sizes, strict=True))
        return before != (self.first, self.end, self.finished, self.indexed)

    def line(self, number: int) -> str:
        """One clean line; empty when it has been rotated away, or cannot be read."""
        with self._lock, contextlib.suppress(OSError):  # `update` says why it cannot be read
            file, number = self._place(number)
            return decode(file.line(number)) if file else ""
        return ""

    def before(self, number: int) -> tuple[int, list[bytes]]:
        """A block of lines that ends before line `number`: the number of its first, and the raw lines."""
        with self._lock:
            file, inside = self._place(number - 1)
            if not file:
                return self.first, []
            first, lines = file.block_of(inside)
            return number - 1 - inside + first, lines[: inside - first + 1]

    def after(self, number: int) -> tuple[int, list[bytes]]:
        """A block of finished lines that begins with line `number`, or with the first one still there."""
        with self._lock:
            number = max(number, self.first)
            file, inside = self._place(number)
            if not file:
                return number, []
            first, lines = file.block_of(inside)
            return number, lines[inside - first :][: max(self.finished - number, 0)]

    def tail(self, count: int) -> list[str]:
        """The last lines within 64 KiB, known before the log is indexed."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - BLOCK, 0))
            lines = file.read(BLOCK).split(b"\n")[1 if size > BLOCK else 0 :]
            return [decode(line) for line in (lines if lines and lines[-1] else lines[:-1])[-count:]]
        return []

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            while self._files:
                self._files.pop().close()

    def _place(self, number: int) -> tuple[_File | None, int]:
        """The file that holds a line, and the line's number in it."""
        number -= self.first
        for file in self._files:
            if 0 <= number < file.lines:
                return file, number
            number -= file.lines
        return None, 0

    def _list(self) -> None:
        """Open what is new and let go what is gone."""
        found = [file for path in (*reversed(old_logs(self.path)), self.path) if (file := _open(path))]
        try:
            self._take(found)
        except OSError:  # what is open has gone with its file system: what is there now is new, even where it is the same
            if not found:
                raise
            with self._lock:
                old, self.first, self._files = self._files, self.end, found
                _close(old)

    def _take(self, found: list[_File]) -> None:
        """Go on with the files found. A rotated log goes on with the index of the log it is a copy of."""
        old = self._files
        present = old[-1] if old else None
        shrunk = present is not None and present.there() < present.size
        if [file.identity for file in found] == [file.identity for file in old] and not shrunk:
            _close(found)
            return
        kept = {file.identity: file for file in old}
        rotated = None
        if present and found and found[-1].identity == present.identity:  # else it was replaced or renamed
            new = [file for file in found[:-1] if file.identity not in kept]
            if len(new) == 1 and new[0] is found[-2] and new[0].head().startswith(present.begin):
                rotated = new[0]
                if present.there() >= rotated.there() and present.head() == rotated.head():  # copied, and cut in a moment
                    _close(found)
                    return
                rotated.take_over(present)
            if rotated or shrunk:
                del kept[present.identity]
        files = [kept.get(file.identity, file) for file in found]
        with self._lock:
            stay = [file in files or (file is present and rotated is not None) for file in old]
            self.first += sum(file.lines for file in old[: stay.index(True) if True in stay else len(old)])
            self._files = files
            _close([file for file in (*old, *found) if file not in files])


class _File:
    """The index of one file."""

    def __init__(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self.size = self.newlines = 0
        self.unfinished = False
        self.begin = b""  # of what is indexed
        self._descriptor = descriptor
        self._before = array("Q", [0])  # newlines ahead of each block
        self._blocks: OrderedDict[int, tuple[int, list[bytes]]] = OrderedDict()

    @property
    def lines(self) -> int:
        return self.newlines + self.unfinished

    def there(self) -> int:
        return os.fstat(self._descriptor).st_size

    def head(self) -> bytes:
        return os.pread(self._descriptor, 4096, 0)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # its file system has gone
            os.close(self._descriptor)

    def take_over(self, log: _File) -> None:
        """Go on with the index of the log that this file is a copy of; its last line may have stayed behind."""
        blocks = min(len(log._before), self.there() // BLOCK + 1)
        self._before, self.begin = log._before[:blocks], log.begin
        self.size, self.newlines, self.unfinished = (blocks - 1) * BLOCK, self._before[-1], False

    def update(self, budget: int, lock: threading.Lock) -> int:
        """Index at most `budget` more bytes; how many there were."""
        begin, end = self.size, min(self.there(), self.size + budget)
        if not begin:
            self.begin = os.pread(self._descriptor, min(64, end), 0)
        while self.size < end:
            data = os.pread(self._descriptor, min(_READ - self.size % BLOCK, end - self.size), self.size)
            if not data:
                break
            with lock:
                at = 0
                while at < len(data):
                    step = min(BLOCK - self.size % BLOCK, len(data) - at)
                    self.newlines += data.count(b"\n", at, at + step)
                    self.size += step
                    at += step
                    if self.size % BLOCK == 0:
                        self._before.append(self.newlines)
                self.unfinished = data[-1:] != b"\n"
                self._blocks.clear()
        return self.size - begin

    def line(self, number: int) -> bytes:
        first, lines = self.block_of(number)
        return lines[number - first] if number - first < len(lines) else b""

    def block_of(self, number: int) -> tuple[int, list[bytes]]:
        """All lines that begin in the same block as a line does: the number of their first, and they themselves."""
        block = max(bisect_left(self._before, number) - 1, 0)
        if block not in self._blocks:
            self._blocks[block] = self._read(block)
            if len(self._blocks) > _CACHED:
                self._blocks.popitem(last=False)
        return self._blocks[block]

    def _read(self, block: int) -> tuple[int, list[bytes]]:
        begin = block * BLOCK
        data = os.pread(self._descriptor, min(BLOCK + LINE_BYTES, self.size - begin), begin)
        lines = data[:BLOCK].split(b"\n")
        lines[-1] += data[BLOCK:].partition(b"\n")[0]  # it runs on
        if begin + BLOCK >= self.size and not self.unfinished:  # what follows the last newline is no line yet
            del lines[-1]
        return (0, lines) if block == 0 else (self._before[block] + 1, lines[1:])


def decode(line: bytes) -> str:
    """A raw line as it is shown."""
    return clean(line[:LINE_BYTES].decode("utf-8", "surrogateescape"))


def _open(path: Path) -> _File | None:
    try:
        return _File(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return None


def _close(files: list[_File]) -> None:
    for file in files:
        file.close()

