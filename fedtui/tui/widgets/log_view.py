"""Logs of any size: what is painted is what is on the screen, and nothing else of them is in memory."""
from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Offset
from textual.selection import Selection

from fedtui.log_lines import compile_pattern
from fedtui.log_rows import line_at
from fedtui.tui.log_reader import Choice
from fedtui.tui.widgets.log_page import LogPage, Place
from fedtui.tui.widgets.log_search import Search

COPIED = 20_000  # rows at most
SIDEWAYS = 16  # cells by one key
class LogView(LogPage, can_focus=True):
    """Logs, followed until somebody scrolls; searched, selected and copied from."""

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

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._mark: tuple[int, int] | None = None  # where the selection by keys began, and the row it has come to
        self._line: int | None = None  # of the log: to be shown as soon as it is known
        self._moment = ""  # likewise

    # What is shown

    def choose(self, choice: Choice) -> None:
        """Show these logs or lines; raises `UserError` when a filter is no regular expression."""
        same = choice.paths == self.reader.choice.paths
        line = self._line_on_top() if same and not self.follow else None
        self.reader.choose(choice)
        self.search = self.search.elsewhere()
        self._line, self._mark = line, None
        if line is None:
            self.follow = self._to_end = True

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

    def on_log_page_changed(self, event: LogPage.Changed) -> None:
        """Take over what the reader has found."""
        event.stop()
        self._news()

    def _news(self) -> None:
        rows = self.reader.rows
        if rows is not None and self.reader.settled:
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

    def action_follow(self) -> None:
        """Follow, or stay here."""
        self.follow = self._to_end = not self.follow
        self._arrange()

    def action_newest(self) -> None:
        """Go to the end, and follow."""
        if self._mark:
            self._move_mark(1 << 62)
        else:
            self.follow = self._to_end = True
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
