"""What a view of logs shows, row by row: one log, those of its lines that match, or several logs in time order.

Rows are numbered so that a row keeps its number while others come before and behind it. What is kept of a row is its line's
number, and of a million rows at most, the newest. One thread fills them, any may read.
"""
from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from fedtui.log_index import Log
from fedtui.log_lines import merge
from fedtui.log_match import Matcher

KEPT = 1_000_000
MERGED = 20_000  # lines looked back at in each of several logs
_AT_ONCE = 1 << 20  # bytes searched in one step
_ROWS = 1000
_SOURCES = 16  # bits that tell which of several logs a row is from
_STAMP = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d")


class Rows(Protocol):
    """Rows `first` to `end`, of which those before `finished` do not change any more."""

    @property
    def first(self) -> int:
        """The oldest row that is still there."""
        ...

    @property
    def end(self) -> int:
        """Behind the newest row."""
        ...

    @property
    def finished(self) -> int:
        """Behind the newest row that has its end."""
        ...

    def text(self, row: int) -> tuple[str, str]:
        """The row's log (empty where there is only one) and its clean text."""
        ...

    def before(self, row: int) -> tuple[int, list[bytes]]:
        """Some rows that end before `row`: the number of the first, and their raw lines."""
        ...

    def after(self, row: int) -> tuple[int, list[bytes]]:
        """Some finished rows from `row` on."""
        ...

    def row_of(self, line: int) -> int | None:
        """The row that shows a line of the log, else the next one; None when that is not known (yet)."""
        ...

    def step(self) -> bool:
        """Do a bounded piece of what is to be done (in the thread); whether there was any."""
        ...


class Picks:
    """Rising numbers; more come at both ends. What comes first gets place 0, what comes before it negative places."""

    def __init__(self) -> None:
        self._older, self._newer = array("q"), array("q")
        self._dropped = 0

    @property
    def first(self) -> int:
        """The place of the lowest number."""
        return self._dropped or -len(self._older)

    @property
    def end(self) -> int:
        """Behind the place of the highest."""
        return self._dropped + len(self._newer)

    def __len__(self) -> int:
        return self.end - self.first

    def __getitem__(self, place: int) -> int:
        return self._newer[place - self._dropped] if place >= 0 else self._older[-1 - place]

    @property
    def full(self) -> bool:
        """Whether there is no room for lower numbers."""
        return len(self) >= KEPT or self._dropped > 0

    def add_lower(self, numbers: Sequence[int]) -> None:
        """Numbers below all others, in rising order."""
        self._older.extend(reversed(numbers))

    def add_higher(self, numbers: Sequence[int]) -> None:
        """Numbers above all others, in rising order; when there are too many, the lowest half goes."""
        self._newer.extend(numbers)
        if len(self._newer) > KEPT:
            drop = len(self._newer) - KEPT // 2
            self._newer = self._newer[drop:]
            self._dropped += drop
            self._older = array("q")

    def place(self, number: int) -> int:
        """The place of the lowest number that is not below `number`."""
        low, high = self.first, self.end
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self[middle] < number else (low, middle)
        return low


class Scan:
    """Finds the rows that match: those that are there from the newest backwards, and new ones as they come.

    Attributes
    ----------
    low, high : rows from `low` to `high` have been searched.
    picks : the rows found.
    """

    def __init__(self, rows: Rows | Log, matcher: Matcher, reach: int | None = None) -> None:
        self.rows, self.matcher, self.picks = rows, matcher, Picks()
        self.low = self.high = rows.finished
        self._lowest = None if reach is None else rows.finished - reach

    @property
    def done(self) -> bool:
        """Whether all that is there has been searched, as far as it shall be."""
        return self.low <= max(self.rows.first, self._lowest or self.rows.first) or self.picks.full

    def step(self) -> bool:
        """Search about 1 MiB; whether there was anything to search. Raises `UserError` when that takes too long."""
        if self.high < self.rows.finished:
            first, lines = self.rows.after(self.high)
            size = len(lines)
            self.picks.add_higher([first + place for place in self.matcher.matches(lines)])
            self.high = first + max(size, 1)
            return True
        if self.done:
            return False
        lines, begin, size = [], self.low, 0
        while size < _AT_ONCE and begin > max(self.rows.first, self._lowest or self.rows.first):
            begin, found = self.rows.before(begin)
            if not found:
                break
            lines[:0] = found
            size += sum(map(len, found))
        self.picks.add_lower([begin + place for place in self.matcher.matches(lines)])
        self.low = begin if lines else self.rows.first
        return True


class LogRows(Log):
    """Every line of one log: its row has the line's number."""

    def text(self, row: int) -> tuple[str, str]:
        """No name, and the clean line."""
        return "", self.line(row)

    def row_of(self, line: int) -> int | None:
        """The line itself."""
        return line

    def step(self) -> bool:
        """Nothing is to be searched."""
        return False


class _PickedRows:
    """Rows that are picked out of others."""

    picks: Picks

    @property
    def first(self) -> int:
        """The oldest row."""
        return self.picks.first

    @property
    def end(self) -> int:
        """Behind the newest row; none of them changes any more."""
        return self.picks.end

    finished = end

    def text(self, row: int) -> tuple[str, str]:
        """A row's log and text."""
        raise NotImplementedError

    def before(self, row: int) -> tuple[int, list[bytes]]:
        """Some rows that end before `row`."""
        first = max(row - _ROWS, self.first)
        return first, self._raw(range(first, row))

    def after(self, row: int) -> tuple[int, list[bytes]]:
        """Some rows from `row` on."""
        first = max(row, self.first)
        return first, self._raw(range(first, min(first + _ROWS, self.end)))

    def _raw(self, rows: range) -> list[bytes]:
        return [self.text(row)[1].encode() for row in rows]


class MatchingRows(_PickedRows):
    """The lines of one log that match."""

    def __init__(self, log: Log, matcher: Matcher) -> None:
        self._log, self.scan = log, Scan(log, matcher)
        self.picks = self.scan.picks

    def text(self, row: int) -> tuple[str, str]:
        """No name, and the clean line."""
        return "", self._log.line(self.picks[row]) if self.first <= row < self.end else ""

    def row_of(self, line: int) -> int | None:
        """The place of the line among those found, once the search has come that far back."""
        return self.picks.place(line) if self.scan.low <= line or self.scan.done else None

    def step(self) -> bool:
        """Search on."""
        return self.scan.step()


class MergedRows(_PickedRows):
    """The matching lines of several logs in time order: of what is there the last 20,000 of each, then all as they come."""

    def __init__(self, logs: Mapping[str, Log], matcher: Matcher) -> None:
        self._logs, self.picks = list(logs.items()), Picks()
        self._scans = [Scan(log, matcher, MERGED) for _, log in self._logs]
        self._taken: list[int] | None = None  # of each scan's picks

    def text(self, row: int) -> tuple[str, str]:
        """The log's name, and the clean line."""
        if not self.first <= row < self.end:
            return "", ""
        pick = self.picks[row]
        name, log = self._logs[pick & ((1 << _SOURCES) - 1)]
        return name, log.line(pick >> _SOURCES)

    def row_of(self, line: int) -> int | None:
        """Unknown: lines of several logs have the same number."""
        return None

    def step(self) -> bool:
        """Search on; when all has been searched, put it in order."""
        if any([scan.step() for scan in self._scans]):
            return True
        if not all(log.complete for _, log in self._logs):
            return False
        if self._taken is None:
            self.picks.add_lower(list(self._merged([scan.picks.first for scan in self._scans])))
        elif any(scan.picks.end > taken for scan, taken in zip(self._scans, self._taken, strict=True)):
            self.picks.add_higher(list(self._merged(self._taken)))
        self._taken = [scan.picks.end for scan in self._scans]
        return False

    def _merged(self, begin: list[int]) -> Iterator[int]:
        numbers = [
            [scan.picks[place] for place in range(max(first, scan.picks.first), scan.picks.end)]
            for scan, first in zip(self._scans, begin, strict=True)
        ]
        texts = {str(n): map(self._logs[n][1].line, found) for n, found in enumerate(numbers)}
        following = [iter(found) for found in numbers]
        return ((next(following[int(n)]) << _SOURCES) | int(n) for n, _ in merge(texts))


def line_at(log: Log, moment: str) -> int:
    """The first line from `moment` ("2026-01-31 14:00:05", as logs have it) on; a line without a time counts as the one before."""
    low, high = log.first, log.finished
    found = high
    while low < high:
        middle = (low + high) // 2
        first, stamp = middle, None
        while first < min(high, middle + _ROWS) and not (stamp := _STAMP.match(log.line(first))):
            first += 1
        if stamp and stamp[0].replace("T", " ") < moment:
            low = first + 1
        else:
            high, found = middle, first if stamp else found
    return found
