"""Lines of logs: how grave they are, which ones are wanted, and those of several logs in time order."""
from __future__ import annotations

import datetime
import heapq
import re
from collections.abc import Iterable, Iterator, Mapping

from poweranger.errors import UserError

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
