"""What is on the screen of a log: which rows, cut or wrapped, and where in the log that is."""
from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip

from fedtui.log_lines import level_of
from fedtui.tui.log_reader import LogReader
from fedtui.tui.widgets.log_search import Search
from fedtui.tui.widgets.log_widget import LogWidget, Span, cuts, index_at

_STAMP = re.compile(r"\[?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?:? *")

NO_LOG = ("No log yet", "", "a process writes one as soon as it is started: s starts this one, u all")
NO_LINE = ("No line matches", "", "& and ! change the filters, esc takes them away")

Place = tuple[int, int]  # a row, and which of the screen lines it is wrapped into


class ScreenLine(NamedTuple):
    """All that a line on the screen shows, but for the selection."""

    row: int
    begin: int  # its first character in the row
    text: str
    spans: tuple[Span, ...]
    level: str


class LogPage(LogWidget):
    """Rows of one or several logs, as many as fit; only what has changed is painted again.

    Attributes
    ----------
    reader : reads the logs, in a thread.
    follow : whether the newest row stays in sight.
    wrap, times : whether long rows are wrapped; whether the time at the begin of rows is shown.
    search : what is searched, and where it stands.
    """

    class Changed(Message):
        """The reader has news."""

    class Moved(Message):
        """What is shown, or what is to be said about it, has changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.reader = LogReader(lambda: self.post_message(self.Changed()))
        self.follow, self.wrap, self.times = True, False, True
        self.search = Search()
        self._top: Place = (0, 0)
        self._to_end = True
        self._left = 0
        self._lines: list[ScreenLine] = []

    def on_mount(self) -> None:
        """Begin to read."""
        self.reader.start()

    def on_unmount(self) -> None:
        """End reading."""
        self.reader.stop()

    def on_resize(self) -> None:
        """Arrange anew."""
        self._arrange()

    @property
    def place(self) -> str:
        """Where in the log the screen's last line is, in per cent."""
        rows = self.reader.rows
        if rows is None or not self._lines:
            return "stays here"
        return f"at {100 * (self._lines[-1].row + 1 - rows.first) // max(rows.end - rows.first, 1)} %"

    def _walk(self, place: Place, lines: int) -> Place:
        """So many screen lines further, as far as there are."""
        rows = self.reader.rows
        if rows is None or rows.end <= rows.first:
            return (0, 0)
        row, part = min(max(place[0], rows.first), rows.end - 1), place[1]
        if not self.wrap:
            return min(max(row + lines, rows.first), rows.end - 1), 0
        part = min(part, self._parts(row) - 1)
        while lines > 0 and (row < rows.end - 1 or part < self._parts(row) - 1):
            row, part = (row, part + 1) if part < self._parts(row) - 1 else (row + 1, 0)
            lines -= 1
        while lines < 0 and (row, part) > (rows.first, 0):
            row, part = (row, part - 1) if part else (row - 1, self._parts(row - 1) - 1)
            lines += 1
        return row, part

    def _parts(self, row: int) -> int:
        return len(cuts(self._row(row)[0], self.size.width))

    def render_line(self, y: int) -> Strip:
        """One line of the screen."""
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        line = self._lines[y]
        spans = list(line.spans)
        if (selection := self.text_selection) and (span := selection.get_span(line.row)):
            end = span[1] if span[1] >= 0 else line.begin + len(line.text)
            spans.append((span[0] - line.begin, end - line.begin, "selection"))
        return self.strip(line.text, spans, line.level).apply_offsets(line.begin, line.row)

    def _arrange(self) -> None:
        """Find out what belongs on the screen, and paint the lines that have changed."""
        old, height = self._lines, self.size.height
        rows = self.reader.rows
        if rows is None:
            self._lines = list(self._preview())
        else:
            bottom = self._walk((rows.end - 1, 1 << 30), 1 - height)
            if not self.follow:
                self._top = min(max(self._top, (rows.first, 0)), bottom)
            else:
                self._top = self._followed(bottom)
            self._lines = list(self._screen_lines(self._top, height) if rows.end > rows.first else self._hint())
        for y in range(height):
            if old[y : y + 1] != self._lines[y : y + 1]:
                self.refresh(Region(0, y, self.size.width, 1))
        self.post_message(self.Moved())

    def _followed(self, bottom: Place) -> Place:
        """What is on top while following, where `bottom` shows the end and nothing below it.

        When the newest row does not fit any more, the screen moves on by a third, so that the next rows find room: rows that
        stay where they are can be read, and are not sent again. When more rows than that have come, it moves to the very end.
        """
        third = self.size.height // 3
        room = self._walk(bottom, third)
        if self._to_end or self._top > room:
            self._to_end = False
            return bottom
        if self._top >= bottom:
            return self._top
        return room if self._walk(self._top, third) >= bottom else bottom

    def _preview(self) -> Iterator[ScreenLine]:
        """The end of a log while it is being indexed."""
        logs = list(self.reader.logs.values())
        if len(logs) == 1 and logs[0].bytes:
            for number, text in enumerate(logs[0].tail(self.size.height)):
                yield ScreenLine(number, 0, text, (), level_of(text))

    def _hint(self) -> Iterator[ScreenLine]:
        """What to do where there is nothing to show."""
        logged = any(log.end > log.first for log in self.reader.logs.values())
        hint = ("",) * (self.size.height // 2 - 2) + (NO_LINE if logged else NO_LOG)
        for text in hint:
            indent = " " * ((self.size.width - len(text)) // 2)
            yield ScreenLine(0, 0, indent + text, ((0, self.size.width, "time"),), "info")

    def _screen_lines(self, place: Place, height: int) -> Iterator[ScreenLine]:
        rows = self.reader.rows
        row, part = place
        while height > 0 and rows is not None and row < rows.end:
            text, spans, level = self._row(row)
            begins = cuts(text, self.size.width) if self.wrap else [index_at(text, self._left)]
            for n in range(part, len(begins)):
                begin, end = begins[n], begins[n + 1] if n + 1 < len(begins) else len(text)
                yield ScreenLine(row, begin, text[begin:end], tuple((a - begin, b - begin, look) for a, b, look in spans), level)
                height -= 1
                if height <= 0:
                    return
            row, part = row + 1, 0

    def _row(self, row: int) -> tuple[str, list[Span], str]:
        """A row's text as it is shown, what stands out in it, and how grave it is."""
        rows = self.reader.rows
        name, text = rows.text(row) if rows is not None else ("", "")  # the reader drops them at any time; its news follow
        spans: list[Span] = []
        level = level_of(text)
        stamp = match.end() if (match := _STAMP.match(text)) else 0
        if not self.times:
            text, stamp = text[stamp:], 0
        head = f"{name.ljust(max(map(len, self.reader.logs)))} " if name else ""
        if head:
            spans.append((0, len(head), "name"))
        if stamp:
            spans.append((len(head), len(head) + stamp, "time"))
        spans += [(begin + len(head), end + len(head), "match") for begin, end in self.search.spans(row, text, self.reader.search)]
        if row == self.search.hit:
            spans = [*spans, *((begin, end, "hit") for begin, end, look in spans if look == "match")]
        return head + text, spans, level

    def _place_of(self, line: ScreenLine) -> Place:
        return line.row, bisect_right(cuts(self._row(line.row)[0], self.size.width), line.begin) - 1 if self.wrap else 0
