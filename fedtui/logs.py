"""Logs: read from the end, followed, merged by time; with `clean`, which all text from outside passes.

A log is any process's output: lines of 10 MB, NULs, invalid UTF-8 and escape sequences are to be expected. What comes
out of this module is clean and of bounded length. Rotated logs lie beside a log: `C1.log.1` is the newest of them.
"""
from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from fedtui.cleaning import LIMIT, clean
from fedtui.log_lines import compile_pattern, level_of, merge, parse_since, since

__all__ = [
    "LIMIT", "Follower", "clean", "compile_pattern", "level_of", "merge", "old_logs", "parse_since", "read_lines", "since", "tail",
]  # fmt: skip

_LINE_BYTES = 1 << 16  # of a longer line the rest is skipped
_READ_BYTES = 1 << 20
_READS = 64  # made by one poll until there is a finished line
_BLOCK = 1 << 16
_CUT_SECONDS = 2.0  # a rotation is through with its last step well within this


def old_logs(path: Path) -> list[Path]:
    """The rotated logs of `path`, newest first."""
    numbers = (name.removeprefix(f"{path.name}.") for name in _names_beside(path))
    return [path.with_name(f"{path.name}.{number}") for number in sorted(int(number) for number in numbers if number.isdecimal())]


def read_lines(path: Path) -> Iterator[str]:
    """All lines of a log, those in rotated logs first; none when it is absent."""
    for log in (*reversed(old_logs(path)), path):
        with contextlib.suppress(OSError), log.open("rb") as file:
            yield from _read_lines(file)


def tail(path: Path, count: int) -> list[str]:
    """The last `count` lines of a log, where it holds fewer together with its rotated logs."""
    return _tail([path, *old_logs(path)], count)


class Follower:
    """Follows a log over its rotations: the lines of all polls together are the log's, each once.

    Parameters
    ----------
    path : the log; it need not exist yet.
    last : the first polls begin with so many of the lines that are there already.
    """

    def __init__(self, path: Path, last: int = 0) -> None:
        self.path = path
        self._offset = 0
        self._before = b""  # stands before the offset
        self._rotated: deque[BinaryIO] = deque()  # unread rests, oldest first
        self._unfinished = b""
        while True:
            self._ready: list[str] = []
            self._old, self._log = _identity(self._newest_old), _identity(path)
            with contextlib.suppress(OSError), path.open("rb") as file:
                self._offset = _tail_offset(file, last)
                file.seek(max(self._offset - 64, 0))
                self._before = file.read(min(self._offset, 64))
                if self._offset == 0:
                    self._ready = _tail(old_logs(path), last - sum(1 for _ in _read_lines(file)))
            if _identity(self._newest_old) == self._old and not self._shifting(old_logs(path)):  # else it is being rotated
                break

    @property
    def unfinished(self) -> str:
        """The last line, when it has no end yet."""
        return _decode(self._unfinished)

    def poll(self) -> list[str]:
        """The lines finished since the last poll, as far as one read of bounded size brings them; empty at the end."""
        lines, self._ready = self._ready, []
        for _ in range(_READS):
            data = self._read()
            *finished, rest = (self._unfinished + data).split(b"\n")
            self._unfinished = rest[: _LINE_BYTES + 1]
            lines += [_decode(line) for line in finished]
            if lines or not data:
                break
        return lines

    @property
    def _newest_old(self) -> Path:
        return self.path.with_name(f"{self.path.name}.1")

    def _shifting(self, logs: list[Path]) -> bool:
        """Whether the newest rotated log has just moved on, and its successor is not there yet."""
        return bool(logs) and logs[0] != self._newest_old and _recent(logs[0])

    def _read(self) -> bytes:
        if not self._note_rotation():
            return b""
        while self._rotated:
            if data := self._rotated[0].read(_READ_BYTES):
                return data
            self._rotated.popleft().close()
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                identity = (status.st_dev, status.st_ino)
                anew = identity != self._log or status.st_size < self._offset  # replaced or truncated
                offset = file.seek(0 if anew else self._offset)
                data = file.read(_READ_BYTES)
        except OSError:
            return b""
        if _identity(self._newest_old) != self._old:  # rotated while it was read: read again
            return b""
        self._log, self._offset = identity, offset + len(data)
        self._before = data[-64:] or self._before
        return b"\n" + data if anew and self._unfinished else data  # that line will have no other end

    def _note_rotation(self) -> bool:
        """Queue what rotated logs hold of the unread; False while a rotation is at its last steps."""
        logs = [(log, _identity(log)) for log in old_logs(self.path)]
        if logs != [(log, _identity(log)) for log in old_logs(self.path)]:
            return False
        if self._shifting([log for log, _ in logs]):
            return False
        identities = [identity for _, identity in logs]
        new = logs[: identities.index(self._old)] if self._old in identities else logs
        if new and _not_cut_yet(self.path, new[0][0]):
            return False
        files = []
        for log, identity in reversed(new):
            with contextlib.suppress(OSError):
                files.append(log.open("rb"))
                status = os.fstat(files[-1].fileno())
                if (status.st_dev, status.st_ino) == identity:
                    continue
            for file in files:
                file.close()
            return False
        if new and self._old is not None and self._old not in identities and not _stands_before(files[0], self._offset, self._before):
            self._offset = 0  # more rotations than logs are kept: what is left is read from its begin
        for file in files:
            file.seek(min(self._offset, os.fstat(file.fileno()).st_size))
            self._offset -= file.tell()
            self._rotated.append(file)
        if new:
            self._log, self._before = _identity(self.path), b""
        self._old = identities[0] if logs and logs[0][0] == self._newest_old else None
        return True


def _read_lines(file: BinaryIO) -> Iterator[str]:
    while line := file.readline(_LINE_BYTES):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(_LINE_BYTES)
        yield _decode(line)


def _tail(logs: Sequence[Path], count: int) -> list[str]:
    """The last `count` lines of logs, the newest of which comes first."""
    lines: list[str] = []
    for log in logs:
        if len(lines) < count:
            with contextlib.suppress(OSError), log.open("rb") as file:
                file.seek(_tail_offset(file, count - len(lines)))
                lines = [*_read_lines(file), *lines]
    return lines[-count:] if count > 0 else []


def _tail_offset(file: BinaryIO, count: int) -> int:
    """Where the last `count` lines begin, an unfinished one counted; for 0 where the unfinished one begins."""
    position = size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    wanted = count + (file.read(1) == b"\n")  # the newline that ends the last line begins none of them
    if count == 0:
        wanted = 1
    while position > 0:
        block = min(_BLOCK, position)
        position -= block
        file.seek(position)
        data = file.read(block)
        newlines = data.count(b"\n")
        if newlines >= wanted:
            end = len(data)
            for _ in range(wanted):
                end = data.rindex(b"\n", 0, end)
            return position + end + 1
        wanted -= newlines
    return 0


def _decode(line: bytes) -> str:
    return clean(line[:_LINE_BYTES].decode("utf-8", "surrogateescape"))


def _names_beside(path: Path) -> list[str]:
    try:
        return [name for name in os.listdir(path.parent) if name.startswith(f"{path.name}.")]
    except OSError:
        return []


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _recent(path: Path) -> bool:
    """Whether `path` got its name, or was written, within the time that a rotation takes."""
    with contextlib.suppress(OSError):
        return time.time() - path.stat().st_ctime < _CUT_SECONDS
    return False


def _stands_before(log: BinaryIO, offset: int, before: bytes) -> bool:
    """Whether a file that was read up to `offset`, where `before` stood, is `log`; true also when that is all of it."""
    if os.fstat(log.fileno()).st_size < offset:
        return True
    log.seek(offset - len(before))
    return log.read(len(before)) == before


def _not_cut_yet(path: Path, newest: Path) -> bool:
    """Whether `newest` has just been copied from the log, and the log itself still holds the same."""
    with contextlib.suppress(OSError), path.open("rb") as log, newest.open("rb") as copy:
        size = os.fstat(copy.fileno()).st_size
        if size and _recent(newest) and os.fstat(log.fileno()).st_size >= size:
            block = min(_BLOCK, size)
            return any(_block(log, offset, block) == _block(copy, offset, block) for offset in (0, size - block))
    return False


def _block(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
