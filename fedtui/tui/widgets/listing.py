"""A table of texts with a cursor: any number of rows, of which only those are painted again that have changed."""
from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from fedtui.cleaning import clean
from fedtui.tui.glyphs import MUTED, glyph

CUT = 6  # cells that a column is not cut below
GAP, GUTTER = 2, 2  # cells between columns; before the first, for the cursor's sign
Cell = str | tuple[str, str]  # a text, or a text and its tone, see `Listing`


class Column(NamedTuple):
    """A column is as wide as its longest text, from `least` to `width` cells; `width` 0 takes what the others leave.

    One without any text is left out, unless it has a `least` width; so is one that takes the rest when that is less.

    Attributes
    ----------
    beyond : it is left out where the listing is no wider than this.
    """

    title: str
    width: int = 0
    least: int = 0
    right: bool = False
    beyond: int = 0


class Row(NamedTuple):
    """A line: `key` tells it from the others, whatever comes and goes."""

    key: str
    cells: tuple[Cell, ...]


class Listing(Widget, can_focus=True):
    """Rows below a head. Texts may come from outside: they are cleaned here.

    A cell's tone is one of `TONES`, what `glyphs.colour` says, or a colour as Rich writes it. `empty` stands where there are no rows.
    """

    TONES: ClassVar[tuple[str, ...]] = ("head", "muted", "success", "warning", "error", "accent", "strong")
    COMPONENT_CLASSES: ClassVar[set[str]] = {"listing--cursor", *(f"listing--{tone}" for tone in TONES)}
    DEFAULT_CSS = """
    Listing {
        height: 1fr;
        & > .listing--head { color: $foreground-muted; text-style: bold; }
        & > .listing--cursor { background: $surface-lighten-2; }
        &:focus > .listing--cursor { background: $primary; color: $text; text-style: bold; }
        & > .listing--muted { color: $foreground-muted; }
        & > .listing--success { color: $success; }
        & > .listing--warning { color: $warning; }
        & > .listing--error { color: $error; }
        & > .listing--accent { color: $accent; }
        & > .listing--strong { text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "open"),
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("pageup", "page(-1)", "page up", show=False),
        Binding("pagedown", "page(1)", "page down", show=False),
        Binding("g,home", "move(-1000000)", "first", show=False),
        Binding("G,end", "move(1000000)", "last", show=False),
    ]

    class About(Message):
        """Something happened in a listing."""

        def __init__(self, listing: Listing) -> None:
            super().__init__()
            self.listing = listing

        @property
        def control(self) -> Listing:
            """The listing."""
            return self.listing

    class Moved(About):
        """The cursor is on another row now."""

    class Opened(About):
        """Enter was pressed on a row, or it was clicked twice."""

    def __init__(self, columns: Sequence[Column], empty: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.columns, self.empty = tuple(columns), empty
        self.rows: list[Row] = []
        self._cursor = self._top = 0
        self._wanted: str | None = None  # a key for the cursor that is not among the rows (yet)
        self._layout: list[tuple[int, int, int]] = []  # of the columns there is room for: index, begin, width

    @property
    def key(self) -> str | None:
        """The key of the row under the cursor; None without rows."""
        return self.rows[self._cursor].key if self.rows else None

    def put(self, rows: Sequence[Row]) -> None:
        """Show these rows. The cursor stays on its row, or where that was."""
        old, before, layout = self.rows, self.key, self._layout
        self.rows = [Row(row.key, tuple(_cleaned(cell) for cell in row.cells)) for row in rows]
        keys = [row.key for row in self.rows]
        wanted = self._wanted if self._wanted in keys else before
        self._wanted = self._wanted if wanted == before else None
        marks = self._cursor, self._top
        self._cursor = keys.index(wanted) if wanted in keys else min(self._cursor, max(len(keys) - 1, 0))
        self._arrange()
        if len(old) != len(self.rows) and self.styles.is_auto_height:
            self.refresh(layout=True)
        elif layout != self._layout or marks != (self._cursor, self._top) or len(old) != len(self.rows):
            self.refresh()
        else:
            for number, (was, row) in enumerate(zip(old, self.rows, strict=True)):
                if was != row:
                    self._refresh_row(number)
        if self.key != before:
            self.post_message(self.Moved(self))

    def go(self, key: str) -> None:
        """Put the cursor on the row with this key, as soon as there is one."""
        numbers = [number for number, row in enumerate(self.rows) if row.key == key]
        if numbers:
            self._move_to(numbers[0])
        else:
            self._wanted = key

    def region_of(self, column: int) -> Region:
        """Where the cell of a column lies in the row under the cursor, in this widget; empty when it is not shown."""
        for index, begin, width in self._layout:
            if index == column:
                return Region(begin, 1 + self._cursor - self._top, width, 1)
        return Region()

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        self._move_to(self._cursor + by)

    def action_open(self) -> None:
        """Say that the row under the cursor was chosen."""
        if self.rows:
            self.post_message(self.Opened(self))

    def action_page(self, by: int) -> None:
        """Move the cursor by as many rows as are visible."""
        self._move_to(self._cursor + by * self._room)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as rows and head, where the height is `auto`."""
        return len(self.rows) + 1 if self.rows or not self.empty else len(self._hint(width))

    def on_resize(self) -> None:
        """Other columns and rows fit now."""
        self._arrange()
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        """Go to the row; a second click opens it."""
        number = self._top + event.get_content_offset_capture(self).y - 1
        if self._top <= number < len(self.rows):
            if number == self._cursor and event.chain > 1:
                self.action_open()
            self._move_to(number)

    def on_mouse_scroll_down(self) -> None:
        """Move the cursor."""
        self.action_move(1)

    def on_mouse_scroll_up(self) -> None:
        """Move the cursor."""
        self.action_move(-1)

    def render_line(self, y: int) -> Strip:
        """The head, a row, or nothing."""
        base, width = self.rich_style, self.size.width
        if not self.rows and self.empty:
            lines = self._hint(width)
            y -= max((self.size.height - len(lines)) // 2, 0)
            text = lines[y] if 0 <= y < len(lines) else ""
            style = base + self._tone("muted")
            return Strip([Segment(text.center(width), style)]).crop_extend(0, width, style)
        if self.size.height == 1:  # folded: where the cursor is says more than the head
            y = 1
        if y == 0:
            return self._strip([column.title for column in self.columns], "  ", base + self._tone("head"))
        number = self._top + y - 1
        if number >= len(self.rows):
            return Strip.blank(width, base)
        if number == self._cursor:
            style = base + self.get_component_rich_style("listing--cursor", partial=True)
            return self._strip(self.rows[number].cells, f"{glyph('cursor')} ", style, plain=self.has_focus)
        return self._strip(self.rows[number].cells, "  ", base)

    def _hint(self, width: int) -> list[str]:
        """What stands where there are no rows, wrapped."""
        return [part for line in self.empty.split("\n") for part in textwrap.wrap(line, max(width, 1)) or [""]]

    def _strip(self, cells: Sequence[Cell], gutter: str, style: Style, *, plain: bool = False) -> Strip:
        segments = [Segment(gutter, style)]
        x = GUTTER
        for index, begin, width in self._layout:
            text, tone = _parts(cells[index]) if index < len(cells) else ("", "")
            text = fit(text, width, self.columns[index].right)
            segments += [Segment(" " * (begin - x), style), Segment(text, style + self._tone(tone) if tone and not plain else style)]
            x = begin + width
        return Strip(Segment.simplify(segments)).crop_extend(0, self.size.width, style)

    def _tone(self, tone: str) -> Style:
        tone = "muted" if tone == MUTED else tone.removeprefix("$")
        if tone not in self.TONES:
            return Style.parse(tone)
        style = self.get_component_rich_style(f"listing--{tone}")
        return Style(color=style.color, bold=style.bold)

    @property
    def _room(self) -> int:
        return max(self.size.height - 1, 1)

    def _move_to(self, number: int) -> None:
        number = min(max(number, 0), max(len(self.rows) - 1, 0))
        if number == self._cursor:
            return
        old, top = self._cursor, self._top
        self._cursor, self._wanted = number, None
        self._arrange()
        if top != self._top:
            self.refresh()
        else:
            self._refresh_row(old)
            self._refresh_row(number)
        self.post_message(self.Moved(self))

    def _refresh_row(self, number: int) -> None:
        if 0 <= number - self._top < self._room:
            self.refresh(Region(0, min(1 + number - self._top, self.size.height - 1), self.size.width, 1))

    def _arrange(self) -> None:
        """Lay the columns out, and scroll so that the cursor is to be seen."""
        total = self.size.width
        self._layout = []
        shown = [(index, column) for index, column in enumerate(self.columns) if total > column.beyond and self._is_used(index, column)]
        widths = {index: self._width(index, column) for index, column in shown}
        rest = total - GUTTER - sum(widths.values()) - GAP * (len(shown) - 1)
        for place, (_, column) in enumerate(shown):
            if not column.width and rest < max(column.least, 1):
                del shown[place]
                rest += GAP
                break
        for index, column in sorted(shown, key=lambda item: -widths[item[0]]):
            if rest < 0 and column.least:
                less = min(-rest, max(widths[index] - column.least, 0))
                widths[index], rest = widths[index] - less, rest + less
        x = GUTTER
        for index, column in shown:
            width = widths[index] if column.width else rest
            if x + width > total:  # cut, unless nothing to speak of would be left
                width = total - x if total - x >= min(column.least or CUT, width) else 0
            if width > 0:
                self._layout.append((index, x, width))
                x += width + GAP
        room = self._room
        self._top = min(max(self._top, self._cursor - room + 1), self._cursor, max(len(self.rows) - room, 0))

    def _is_used(self, index: int, column: Column) -> bool:
        return bool(column.width == 0 or column.least or not self.rows) or any(_parts(row.cells[index])[0] for row in self.rows if index < len(row.cells))

    def _width(self, index: int, column: Column) -> int:
        if column.width == 0:
            return 0
        longest = max((cell_len(_parts(row.cells[index])[0]) for row in self.rows if index < len(row.cells)), default=0)
        return min(max(longest, column.least, cell_len(column.title)), max(column.width, column.least))


def _parts(cell: Cell) -> tuple[str, str]:
    return (cell, "") if isinstance(cell, str) else cell


def _cleaned(cell: Cell) -> Cell:
    return clean(cell) if isinstance(cell, str) else (clean(cell[0]), cell[1])


def fit(text: str, width: int, right: bool = False) -> str:
    """`text` in exactly `width` cells; what was cut off is marked."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + glyph("more") if width > 0 else ""
    return " " * (width - length) + text if right else text + " " * (width - length)
