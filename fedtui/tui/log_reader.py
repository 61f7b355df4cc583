"""Reads logs in a thread of its own, so that no key waits for a file, however big it is."""
from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fedtui.log_match import Matcher
from fedtui.log_rows import LogRows, MatchingRows, MergedRows, Rows, Scan
from poweranger.errors import UserError

PERIOD_S = 1.0  # between looks for new lines: each paints the whole view, and a terminal far away pays by the byte
_TELL_S = 0.25  # between two tellings while much is being read


@dataclass(frozen=True)
class Choice:
    """Which logs (by name), and which of their lines; regular expressions, empty for all and none."""

    paths: Mapping[str, Path] = field(default_factory=dict)
    include: str = ""
    exclude: str = ""


class LogReader:
    """Keeps the rows of the chosen logs, and what is searched in them, up to date. Its methods never wait.

    Attributes
    ----------
    choice : what the rows are, or are going to be.
    rows : the rows; another object when the choice has changed, None before there are any.
    logs : the chosen logs by name.
    search : the rows in which was found what is searched; None without a search.
    problem : why filter or search was given up.
    unreadable : why the logs cannot be read at present.
    """

    def __init__(self, changed: Callable[[], object]) -> None:
        self.choice = Choice()
        self.rows: Rows | None = None
        self.logs: dict[str, LogRows] = {}
        self.search: Scan | None = None
        self.problem = self.unreadable = ""
        self._changed = changed
        self._filter, self._searched = Matcher(), Matcher()
        self._new_filter: Matcher | None = None  # set by the UI thread, taken over by the other
        self._new_searched: Matcher | None = None
        self._again = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, after its present piece of work."""
        self._stopped = True
        self._again.set()

    def choose(self, choice: Choice) -> None:
        """Read these logs from now on, and search them for what was searched before.

        Raises
        ------
        UserError
            When a filter is no regular expression; nothing has changed then.
        """
        self._new_filter, self.choice = Matcher(choice.include, choice.exclude), choice
        self._again.set()

    def search_for(self, pattern: str) -> None:
        """Search the rows for a regular expression, or no more when it is empty. Raises `UserError` when it is none."""
        self._new_searched = Matcher(pattern)
        self._again.set()

    @property
    def settled(self) -> bool:
        """Whether the rows are those of the choice."""
        return self._new_filter is None and self.rows is not None

    @property
    def busy(self) -> str:
        """What is being done at length, with how far it is; empty when all is done."""
        logs = list(self.logs.values())
        if any(not log.complete for log in logs):
            return f"reading {_percent(sum(log.indexed for log in logs), sum(log.bytes for log in logs))}"
        rows = self.rows
        for doing, scan in (("filtering", rows.scan if isinstance(rows, MatchingRows) else None), ("searching", self.search)):
            if scan and not scan.done:
                return f"{doing} {_percent(scan.high - scan.low, scan.high - scan.rows.first)}"
        return ""

    def _run(self) -> None:
        told, news = 0.0, False
        while not self._stopped:
            self._again.clear()
            news |= self._take_wishes()
            grown, unreadable = self._update()
            try:
                worked, more = self._work(grown)
            except OSError as error:
                worked, more, unreadable = grown, False, unreadable or f"cannot be read: {error.strerror or error}"
            news |= worked or unreadable != self.unreadable
            self.unreadable = unreadable
            if news and (not more or time.monotonic() - told > _TELL_S):
                with contextlib.suppress(RuntimeError):  # the interface has been left meanwhile
                    self._changed()
                told, news = time.monotonic(), False
            if not more:
                self._again.wait(PERIOD_S)
        self._filter.close()
        self._searched.close()
        for log in self.logs.values():
            log.close()

    def _take_wishes(self) -> bool:
        """Whether the UI thread wanted something else."""
        if matcher := self._new_filter:
            self.rows = self.search = None
            self._new_filter = None
            self._filter.close()
            paths, old = self.choice.paths, self.logs
            self.logs = {name: old[name] if name in old and old[name].path == path else LogRows(path) for name, path in paths.items()}
            for log in old.values():
                if log not in self.logs.values():
                    log.close()
            self._filter, self.problem = matcher, ""
        if searched := self._new_searched:
            self._new_searched = None
            self._searched.close()
            self._searched, self.search, self.problem = searched, None, ""
        return bool(matcher or searched)

    def _update(self) -> tuple[bool, str]:
        """Look for new lines; whether there are any, and which log cannot be read: such as on a network drive that is away."""
        grown, unreadable = False, ""
        for name, log in self.logs.items():
            try:
                grown |= log.update()
            except OSError as error:  # it is tried again
                unreadable = unreadable or f"{name} cannot be read: {error.strerror or error}"
        return grown, unreadable

    def _work(self, changed: bool) -> tuple[bool, bool]:
        """A piece of work; whether something has changed, and whether there is more to do at once."""
        if any(not log.complete for log in self.logs.values()):
            return True, changed
        if self.rows is None and self.logs:
            self.rows, changed = self._new_rows(), True
        if self.rows is None:
            return changed, False
        if self.search is None and self._searched.include:
            self.search, changed = Scan(self.rows, self._searched), True
        return self._search(self.rows, changed)

    def _new_rows(self) -> Rows:
        if len(self.logs) > 1:
            return MergedRows(self.logs, self._filter)
        log = next(iter(self.logs.values()))
        return MatchingRows(log, self._filter) if self.choice.include or self.choice.exclude else log

    def _search(self, rows: Rows, changed: bool) -> tuple[bool, bool]:
        more, before = False, (rows.first, rows.end)
        try:
            more = not self._filter.broken and rows.step()
            more = bool(self.search and self.search.step()) or more
        except UserError as error:
            self.problem = str(error)
            if self._searched.broken:
                self._searched, self.search = Matcher(), None
            changed = True
        return changed or more or before != (rows.first, rows.end), more


def _percent(part: int, whole: int) -> str:
    return f"{100 * part // max(whole, 1)} %"
