"""What is searched in a view of logs, and which match is gone to, while the search may still be under way."""
from __future__ import annotations

import re
from dataclasses import dataclass, field

from fedtui.log_match import smart_case
from fedtui.log_rows import Scan

SPANS = 20  # marked in a row at most


@dataclass
class Search:
    """A search for `pattern` (empty: none) that begins at row `start`; None: at the newest row, backwards.

    Attributes
    ----------
    hit : the row gone to.
    over : what there was to say of the last step: that it began anew at the other end, or that there is no match.
    """

    pattern: str = ""
    start: int | None = None
    hit: int | None = None
    over: str = ""
    _step: int = 0  # wanted: 1 next, -1 previous; 0 none
    _first: bool = True  # the first match is wanted
    _expression: re.Pattern[str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        # without repetition an expression cannot take long, so that its matches can be marked while painting
        if self.pattern and not set(self.pattern) & set("*+?{"):
            self._expression = re.compile(self.pattern, smart_case(self.pattern))

    def elsewhere(self) -> Search:
        """The same search in other rows, where it goes to no match unless asked."""
        search = Search(self.pattern)
        search._first = False
        return search

    def seek(self, step: int, row: int) -> None:
        """Want the next (1) or the previous (-1) match; `row` is on top of the screen."""
        self._step = step
        if self.hit is None:
            self.start = row

    def resolve(self, scan: Scan | None) -> int | None:
        """The row to go to, once what is wanted is known."""
        if scan is None or scan.matcher.include != self.pattern or not (self._first or self._step):
            return None
        picks, done = scan.picks, scan.done
        if self._first and self.start is None:
            place = picks.end - 1
            known = len(picks) > 0
        elif self._first or (self.hit is None and self._step > 0):
            place = picks.place(self.start or 0)
            known = scan.low <= (self.start or 0)
        else:
            base = self.hit if self.hit is not None else self.start or 0
            place = picks.place(base + 1) if self._step > 0 else picks.place(base) - 1
            known = scan.low <= base if self._step > 0 else place >= picks.first
        if not (known or done):
            return None
        backwards = self._first or self._step < 0
        self.over = ""
        if not len(picks):
            self.over = "no match"
        elif not picks.first <= place < picks.end:
            if not done and not backwards:
                return None
            self.over = "" if self._first else "from the other end"
            place = picks.end - 1 if backwards else picks.first
        self._first, self._step = False, 0
        if len(picks):
            self.hit = picks[place]
            return self.hit
        return None

    def spans(self, row: int, text: str, scan: Scan | None) -> list[tuple[int, int]]:
        """What of a row's text matches; the whole text when the expression may take long."""
        if self._expression is not None:
            found = [match.span() for _, match in zip(range(SPANS), self._expression.finditer(text), strict=False)]
            return [(begin, end) for begin, end in found if begin < end]
        if self.pattern and scan is not None:
            place = scan.picks.place(row)
            if scan.picks.first <= place < scan.picks.end and scan.picks[place] == row:
                return [(0, len(text))]
        return []

    def count(self, scan: Scan | None) -> str:
        """Which match of how many, such as "3 of 1,204"."""
        if scan is None or scan.matcher.include != self.pattern:
            return "…"
        total = len(scan.picks)
        if not scan.done:
            return f"{total:,} so far"
        if not total:
            return "no match"
        at = f"{scan.picks.place(self.hit) - scan.picks.first + 1:,} of " if self.hit is not None else ""
        return f"{at}{total:,}"
