"""Logs of any size: what is painted is what is on the screen, and nothing else of them is in memory."""
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Offset, Region
from textual.message import Message
from textual.selection import Selection
from textual.strip import Strip

from fedtui.log_lines import compile_pattern, level_of
from fedtui.log_rows import line_at
from fedtui.tui.log_reader import Choice, LogReader
from fedtui.tui.widgets.log_search import Search
from fedtui.tui.widgets.log_widget import LogWidget, Span, cuts, index_at

COPIED = 20_000  # rows at most
SIDEWAYS = 16  # cells by one key
_STAMP = re.compile(r"\[?\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?:? *")

Place = tuple[int, int]  # a row, and which of the screen lines it is wrapped into


class ScreenLine(NamedTuple):
    """All that a line on the screen shows, but for the selection."""

    row: int
    begin: int  # its first character in the row
    text: str
    spans: tuple[Span, ...]
    level: str


class LogView(LogWidget, can_focus=True):
    """Rows of one or several logs, followed until somebody scrolls.

    Attributes
    ----------
    reader : reads the logs, in a thread.
    follow : whether the newest row stays in sight.
    wrap, times : whether long rows are wrapped; whether the time at the begin of rows is shown.
    search : what is searched, and where it stands.
    """

    ALLOW_SELECT = True
    DEFAULT_CSS = "LogView { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "follow"),
        Binding("n", "next(1)", "next", show=False),
        Binding("N", "next(-1)", "previous", show=False),
        Binding("w", "wrap", "wrap"),
        Binding("t", "times", "times"),
        Binding("v", "mark", "select"),
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup,ctrl+b,ctrl+u", "page(-1)", "page up", show=False),
        Binding("pagedown,ctrl+f,ctrl+d", "page(1)", "page down", show=False),
        Binding("home,g", "oldest", "oldest", show=False),
        Binding("end,G", "newest", "newest, and follow", show=False),
        Binding("left,h", "sideways(-1)", "left", show=False),
        Binding("right", "sideways(1)", "right", show=False),
    ]

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
        self._left = 0
        self._lines: list[ScreenLine] = []
        self._mark: tuple[int, int] | None = None  # where the selection by keys began, and the row it has come to
        self._line: int | None = None  # of the log: to be shown as soon as it is known
        self._moment = ""  # likewise

    def on_mount(self) -> None:
        """Begin to read."""
        self.reader.start()

    def on_unmount(self) -> None:
        """End reading."""
        self.reader.stop()

    # What is shown

    def choose(self, choice: Choice) -> None:
        """Show these logs or lines; raises `UserError` when a filter is no regular expression."""
        same = choice.paths == self.reader.choice.paths
        line = self._line_on_top() if same and not self.follow else None
        self.reader.choose(choice)
        self._line, self._mark = line, None
        if line is None:
            self.follow, self._top = True, (0, 0)

    def show_moment(self, moment: str) -> None:
        """Show what was logged from a moment on ("2026-01-31 14:00:05", as logs have it)."""
        self.follow, self._moment = False, moment
        self._news()

    def search_for(self, pattern: str) -> None:
        """Go to what matches, from what is on the screen on; empty ends the search. Raises `UserError`."""
        if pattern:
            compile_pattern(pattern)
        self.reader.search_for(pattern)
        self.search = Search(pattern, None if self.follow else self._top[0])
        self._news()

    def on_log_view_changed(self, event: Changed) -> None:
        """Take over what the reader has found."""
        event.stop()
        self._news()

    def on_resize(self) -> None:
        """Arrange anew."""
        self._arrange()

    def _news(self) -> None:
        rows = self.reader.rows
        if rows is not None:
            if self._moment and len(self.reader.logs) == 1:
                self._line, self._moment = line_at(next(iter(self.reader.logs.values())), self._moment), ""
            if self._line is not None and (row := rows.row_of(self._line)) is not None:
                self._top, self._line = (row, 0), None
            if (hit := self.search.resolve(self.reader.search)) is not None:
                self._go_to(hit)
        self._arrange()

    def _line_on_top(self) -> int | None:
        """The number in its log of the line on top."""
        rows = self.reader.rows
        if rows is None or len(self.reader.logs) != 1:
            return None
        picks = getattr(rows, "picks", None)
        row = min(max(self._top[0], rows.first), rows.end - 1)
        return row if picks is None else picks[row] if len(picks) else None

    # Where it is scrolled to

    @property
    def place(self) -> str:
        """Where in the log the screen's last line is, in per cent."""
        rows = self.reader.rows
        if rows is None or not self._lines:
            return "stays here"
        return f"at {100 * (self._lines[-1].row + 1 - rows.first) // max(rows.end - rows.first, 1)} %"

    def action_follow(self) -> None:
        """Follow, or stay here."""
        self.follow = not self.follow
        self._arrange()

    def action_newest(self) -> None:
        """Go to the end, and follow."""
        if self._mark:
            self._move_mark(1 << 62)
        else:
            self.follow = True
            self._arrange()

    def action_oldest(self) -> None:
        """Go to the begin."""
        if self._mark:
            self._move_mark(-(1 << 62))
        elif (rows := self.reader.rows) is not None:
            self._stand_at((rows.first, 0))

    def action_move(self, lines: int) -> None:
        """Scroll by lines, or take them into the selection."""
        if self._mark:
            self._move_mark(lines)
        elif lines < 0 or not self.follow:
            self._stand_at(self._walk(self._top, lines))

    def action_page(self, pages: int) -> None:
        """Scroll by pages."""
        self.action_move(pages * max(self.size.height - 1, 1))

    def action_sideways(self, steps: int) -> None:
        """Scroll to the left or right, unless long lines are wrapped."""
        longest = max((len(line.text) + line.begin for line in self._lines), default=0)
        self._left = max(min(self._left + steps * SIDEWAYS, longest - SIDEWAYS), 0)
        self._arrange()

    def action_next(self, step: int) -> None:
        """Go to the next match, or the one before."""
        self.search.seek(step, self._top[0])
        self._news()

    def action_wrap(self) -> None:
        """Wrap long lines, or cut them."""
        self.wrap, self._left = not self.wrap, 0
        self._top = (self._top[0], 0)
        self._arrange()

    def action_times(self) -> None:
        """Show the times at the begin of lines, or leave them out."""
        self.times = not self.times
        self._top = (self._top[0], 0)
        self._arrange()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """As the key does."""
        event.stop()
        self.action_move(-3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """As the key does."""
        event.stop()
        self.action_move(3)

    def _stand_at(self, place: Place) -> None:
        self.follow, self._top, self._line = False, place, None
        self._arrange()

    def _go_to(self, row: int) -> None:
        """Have a row in sight."""
        visible = {line.row for line in self._lines[: self.size.height]}
        if row in visible:
            if self.follow and self._lines:
                self._top = self._place_of(self._lines[0])
            self.follow = False
        else:
            self.follow, self._top = False, self._walk((row, 0), -(self.size.height // 3))
        spans = self._row(row)[1]
        begin = min((begin for begin, _, look in spans if look == "match"), default=0)
        if not self.wrap and not self._left <= begin < self._left + self.size.width - SIDEWAYS:
            self._left = max(begin - self.size.width // 2, 0)

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

    # Selection and copying

    @property
    def marking(self) -> bool:
        """Whether keys extend a selection."""
        return self._mark is not None

    def action_mark(self) -> None:
        """Begin to select lines with the keys that scroll, or give that up."""
        if self._mark:
            self.unmark()
        elif self._lines and self.reader.rows is not None:
            hit = self.search.hit
            visible = [line.row for line in self._lines]
            row = hit if hit in visible else visible[-1] if self.follow else visible[0]
            assert row is not None
            self._mark = (row, row)
            self._top, self.follow = self._place_of(self._lines[0]), False
            self._move_mark(0)

    def unmark(self) -> None:
        """Select nothing."""
        self._mark = None
        self.screen.clear_selection()
        self.post_message(self.Moved())

    def _move_mark(self, lines: int) -> None:
        rows = self.reader.rows
        if self._mark is None or rows is None:
            return
        begin, row = self._mark[0], min(max(self._mark[1] + lines, rows.first), rows.end - 1)
        self._mark = (begin, row)
        low, high = min(begin, row), max(begin, row)
        self.screen.selections = {self: Selection(Offset(0, low), Offset(len(self._row(high)[0]), high))}
        if row < self._top[0]:
            self._top = (row, 0)
        elif row >= (last := self._lines[-1].row if self._lines else row):
            self._top = self._walk(self._top, 0 if row == last else row - last) if not self.wrap else self._walk((row, 0), 1 - self.size.height)
        self._arrange()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """What is selected, 20,000 rows at most."""
        rows = self.reader.rows
        if rows is None or rows.end <= rows.first:
            return None
        first = max(selection.start.y if selection.start else rows.first, rows.first)
        last = min(selection.end.y if selection.end else rows.end - 1, rows.end - 1, first + COPIED - 1)
        texts = [self._row(row)[0] for row in range(first, last + 1)]
        if texts and selection.end and last == selection.end.y:
            texts[-1] = texts[-1][: selection.end.x]
        if texts and selection.start and first == selection.start.y:
            texts[0] = texts[0][selection.start.x :]
        return "\n".join(texts), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Paint it."""
        if selection is None:
            self._mark = None
        self.refresh()

    # Painting

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
        strip = Strip(self.styled(line.text, spans, line.level)).apply_offsets(line.begin, line.row)
        return strip.crop_extend(0, width, self.rich_style)

    def _arrange(self) -> None:
        """Find out what belongs on the screen, and paint the lines that have changed."""
        old, height = self._lines, self.size.height
        rows = self.reader.rows
        if rows is None:
            self._lines = list(self._preview())
        else:
            bottom = self._walk((rows.end - 1, 1 << 30), 1 - height)
            self._top = bottom if self.follow else min(max(self._top, (rows.first, 0)), bottom)
            self._lines = list(self._screen_lines(self._top, height)) if rows.end > rows.first else []
        for y in range(height):
            if old[y : y + 1] != self._lines[y : y + 1]:
                self.refresh(Region(0, y, self.size.width, 1))
        self.post_message(self.Moved())

    def _preview(self) -> Iterator[ScreenLine]:
        """The end of a log while it is being indexed."""
        logs = list(self.reader.logs.values())
        if len(logs) == 1 and logs[0].bytes:
            for number, text in enumerate(logs[0].tail(self.size.height)):
                yield ScreenLine(number, 0, text, (), level_of(text))

    def _screen_lines(self, place: Place, height: int) -> Iterator[ScreenLine]:
        rows = self.reader.rows
        assert rows is not None
        row, part = place
        while height > 0 and row < rows.end:
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
        assert self.reader.rows is not None
        name, text = self.reader.rows.text(row)
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
        return line.row, cuts(self._row(line.row)[0], self.size.width).index(line.begin) if self.wrap else 0
