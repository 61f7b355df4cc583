"""Logs: read from the end, followed, merged by time; with `clean`, which all text from outside passes.

A log is any process's output: lines of 10 MB, NULs, invalid UTF-8 and escape sequences are to be expected. What comes
out of this module is clean and of bounded length. Rotated logs lie beside a log: `C1.log.1` is the newest of them.
"""
from __future__ import annotations

import contextlib
import datetime
import heapq
import os
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from fedtui.cleaning import LIMIT, clean
from poweranger.errors import UserError

__all__ = [
    "LIMIT", "Follower", "clean", "compile_pattern", "level_of", "merge", "old_logs", "parse_since", "read_lines", "since", "tail",
]  # fmt: skip

_LINE_BYTES = 1 << 16  # of a longer line the rest is skipped
_READ_BYTES = 1 << 20
_READS = 64  # made by one poll until there is a finished line
_BLOCK = 1 << 16
_CUT_SECONDS = 2.0  # a rotation is through with its last step well within this

_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)")
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)")
_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_ERROR = re.compile(
    r"\b(?:ERROR|CRITICAL|FATAL|FAILED)\b|^Traceback |^(?:\w+\.)*\w*(?:Error|Exception)\b|^(?:server|client|simulation): "
    r"|^[EF]\d{4} |^[\d-]{10} [\d:.]+: [EF] "
)
_WARNING = re.compile(r"\bWARN(?:ING)?\b|^(?:\w+\.)*\w*Warning\b|^W\d{4} |^[\d-]{10} [\d:.]+: W ")


def level_of(line: str) -> str:
    """How grave a clean line is: "error", "warning" or "info"; knows Python's, abseil's, TensorFlow's and our own logs."""
    if _ERROR.search(line):
        return "error"
    return "warning" if _WARNING.search(line) else "info"


def old_logs(path: Path) -> list[Path]:
    """The rotated logs of `path`, newest first."""
    found: list[Path] = []
    while (old := path.with_name(f"{path.name}.{len(found) + 1}")).exists():
        found.append(old)
    return found


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
        self._rotated: deque[BinaryIO] = deque()  # unread rests, oldest first
        self._unfinished = b""
        self._ready: list[str] = []
        while True:
            self._old, self._log = _identity(self._newest_old), _identity(path)
            with contextlib.suppress(OSError), path.open("rb") as file:
                self._offset = _tail_offset(file, last)
                if self._offset == 0:
                    file.seek(0)
                    self._ready = _tail(old_logs(path), last - sum(1 for _ in _read_lines(file)))
            if _identity(self._newest_old) == self._old:  # else it was rotated at this moment
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

    def _read(self) -> bytes:
        if not self._note_rotation():
            return b""
        while self._rotated:
            if data := self._rotated[0].read(_READ_BYTES):
                return data
            self._rotated.popleft().close()
        try:
            with self.path.open("rb") as file:
                status, begin = os.fstat(file.fileno()), b""
                if (status.st_dev, status.st_ino) != self._log or status.st_size < self._offset:  # replaced or truncated
                    self._log, self._offset = (status.st_dev, status.st_ino), 0
                    begin = b"\n" if self._unfinished else b""  # that line will have no other end
                file.seek(self._offset)
                data = file.read(_READ_BYTES)
        except OSError:
            return b""
        if _identity(self._newest_old) != self._old:  # rotated while it was read: read again
            return b""
        self._offset += len(data)
        return begin + data

    def _note_rotation(self) -> bool:
        """Queue what rotated logs hold of the unread; False while a rotation is at its last step."""
        logs = old_logs(self.path)
        identities = [_identity(log) for log in logs]
        if self._old in identities:
            logs = logs[: identities.index(self._old)]
        elif self._old is not None:  # more rotations than logs are kept: what is left is read from its begin
            self._offset = 0
        if not logs:
            self._old = identities[0] if identities else None
            return True
        if _not_cut_yet(self.path, logs[0]):
            return False
        for log in reversed(logs):
            with contextlib.suppress(OSError):
                file = log.open("rb")
                size = os.fstat(file.fileno()).st_size
                file.seek(min(self._offset, size))
                self._offset -= file.tell()
                self._rotated.append(file)
        self._old, self._log = identities[0], _identity(self.path)
        return True


def compile_pattern(text: str) -> re.Pattern[str]:
    """`text` as a regular expression for lines; a `UserError` says where it is wrong."""
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(f"{text!r} is no regular expression: {error}; put a backslash before characters such as ( [ * + ?") from None


def parse_since(text: str, now: datetime.datetime | None = None) -> datetime.datetime:
    """A moment in local time: "10m", "2h", "1d" ago, or ISO such as "2026-01-31 14:00"; `now` is the present one.

    Raises
    ------
    UserError
        When it is neither.
    """
    now = now or datetime.datetime.now()
    try:
        if ago := _AGO.fullmatch(text.strip()):
            return now - datetime.timedelta(seconds=float(ago[1]) * _UNITS[ago[2]])
        moment = datetime.datetime.fromisoformat(text.strip())
        return moment.astimezone().replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        raise UserError(f'{text!r} is no time: write "10m", "2h", "1d", or a moment such as "2026-01-31 14:00"') from None


def since(lines: Iterable[str], moment: datetime.datetime) -> Iterator[str]:
    """The lines from `moment` (local time) on; a line without a time belongs to the one before it."""
    first = moment.isoformat(" ", "seconds")
    return (line for stamp, line in _stamped(lines) if stamp >= first)


def merge(logs: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, str]]:
    """The lines of several logs in time order, each with its log's name; lines without a time stay with the one before."""

    def named(name: str, lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        return ((stamp, name, line) for stamp, line in _stamped(lines))

    merged = heapq.merge(*(named(name, lines) for name, lines in logs.items()), key=lambda item: item[0])
    return ((name, line) for _, name, line in merged)


def _stamped(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Lines with the latest time seen so far, "" before the first: a clock set back does not reorder a log."""
    latest = ""
    for line in lines:
        if match := _STAMP.match(line):
            latest = max(latest, f"{match[1]} {match[2]}")
        yield latest, line


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


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _not_cut_yet(path: Path, newest: Path) -> bool:
    """Whether `newest` has just been copied from the log, and the log itself still begins with the same."""
    try:
        with path.open("rb") as log, newest.open("rb") as copy:
            size = os.fstat(copy.fileno()).st_size
            if time.time() - os.fstat(copy.fileno()).st_ctime > _CUT_SECONDS or os.fstat(log.fileno()).st_size < size:
                return False
            for offset in (0, max(size - _BLOCK, 0)):
                log.seek(offset)
                copy.seek(offset)
                if log.read(min(_BLOCK, size)) != copy.read(_BLOCK):
                    return False
            return size > 0
    except OSError:
        return False
