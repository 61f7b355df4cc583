"""The table of processes: a row a process, as many columns as fit, and only cells that have changed painted again."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fedtui.tui.glyphs import MUTED, colour, glyph
from fedtui.tui.widgets.listing import fit

_PARTS = {"$success": "good", "$warning": "warning", "$error": "bad", "$accent": "accent", MUTED: "muted"}


class Cell(NamedTuple):
    """A text and what it means: "", "good", "warning", "bad", "accent" or "muted"."""

    text: str
    meaning: str = ""


@dataclass(frozen=True)
class Column:
    """A column; where there is no room for all, those of the highest `rank` are left out first."""

    key: str
    heading: str
    width: int
    rank: int = 0
    right: bool = False


COLUMNS = (
    Column("name", "PROCESS", 8),
    Column("state", "STATE", 12),
    Column("age", "AGE", 6, 2, right=True),
    Column("cpu", "CPU", 5, 1, right=True),
    Column("memory", "MEMORY", 7, right=True),
    Column("history", "LAST 2 MIN", 10, 5),
    Column("restarts", "RESTARTS", 8, 6, right=True),
    Column("examples", "EXAMPLES", 8, 4, right=True),
    Column("round", "ROUND", 5, 3, right=True),
    Column("doing", "DOING", 24),
)
GAP = 2
NAME_WIDTH = (6, 24)


class ProcessTable(ScrollView, can_focus=True, inherit_bindings=False):
    """Shows rows given as cells by the column's key; has a cursor, and marks."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"table--{part}" for part in ("heading", "cursor", "good", "warning", "bad", "accent", "muted")}
    DEFAULT_CSS = """
    ProcessTable {
        height: auto; overflow-x: hidden; scrollbar-size: 1 1; color: $foreground;
        .table--heading { color: $foreground 55%; }
        .table--cursor { background: $surface-lighten-1; text-style: bold; }
        .table--good { color: $success; }
        .table--warning { color: $warning; }
        .table--bad { color: $error; }
        .table--accent { color: $accent; }
        .table--muted { color: $foreground 55%; }
        &:focus .table--cursor { background: $primary 50%; }
        &:ansi {
            .table--cursor { text-style: reverse; background: ansi_default; }
            .table--muted { color: ansi_bright_black; }
            .table--heading { color: ansi_default; }
        }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "its log"),
        Binding("space", "mark", "mark"),
        Binding("down,j", "move(1)", "down", show=False),
        Binding("up,k", "move(-1)", "up", show=False),
        Binding("g,home", "move(-1000000)", "first", show=False),
        Binding("G,end", "move(1000000)", "last", show=False),
        Binding("pagedown", "move(10)", "page down", show=False),
        Binding("pageup", "move(-10)", "page up", show=False),
    ]

    class Selected(Message):
        """The cursor has gone to another row."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class Opened(Message):
        """Enter, or a double click."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.names: list[str] = []
        self.marked: dict[str, None] = {}
        self.cursor = 0
        self._cells: list[list[Cell]] = []
        self._columns: list[Column] = []

    @property
    def selected(self) -> str | None:
        """The name in the cursor's row."""
        return self.names[self.cursor] if self.cursor < len(self.names) else None

    def show(self, rows: Sequence[Mapping[str, Cell]], selected: str) -> None:
        """Show these rows, the cursor in the one called `selected`."""
        names = [row["name"].text for row in rows]
        columns = _fitting(self.size.width - 2, max(map(cell_len, names), default=0))
        cells = [[row.get(column.key, Cell("")) for column in columns] for row in rows]
        self.marked = {name: None for name in self.marked if name in names}
        old, self._cells = self._cells, cells
        if (names, columns) != (self.names, self._columns):
            self.names, self._columns = names, columns
            self.virtual_size = Size(self.size.width, len(names) + 1)
            self.refresh(layout=True)
        else:
            for y, (before, now) in enumerate(zip(old, cells, strict=True)):
                if before != now:
                    self._refresh_cells(y, before, now)
        self._go_to(names.index(selected) if selected in names else min(self.cursor, max(len(names) - 1, 0)))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A heading and a line a process."""
        return len(self.names) + 1

    def on_resize(self) -> None:
        """Other columns fit now; the next `show` brings them."""
        self.post_message(self.Selected(self.selected or ""))

    def render_line(self, y: int) -> Strip:
        """The heading stays on top while the rows scroll under it."""
        width, row = self.size.width, y - 1 + self.scroll_offset.y
        if y == 0:
            style = self.rich_style + self._style("heading")
            return Strip(self._line("  ", [Cell(column.heading) for column in self._columns], style)).crop_extend(0, width, style)
        if row >= len(self._cells):
            return Strip.blank(width, self.rich_style)
        base = self.rich_style + (self._style("cursor") if row == self.cursor else Style.null())
        sign = glyph("selected") if self.names[row] in self.marked else glyph("cursor") if row == self.cursor else " "
        return Strip(self._line(f"{sign} ", self._cells[row], base)).crop_extend(0, width, base)

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        self._go_to(min(max(self.cursor + rows, 0), max(len(self.names) - 1, 0)))

    def action_mark(self) -> None:
        """Mark the row, or take its mark away, and go on to the next."""
        if name := self.selected:
            self.marked.pop(name) if name in self.marked else self.marked.setdefault(name)
            self._refresh_row(self.cursor)
            self.action_move(1)
            self.refresh_bindings()

    def action_open(self) -> None:
        """Open what the row stands for."""
        if self.selected:
            self.post_message(self.Opened())

    def on_click(self, event: events.Click) -> None:
        """Select a row; twice opens it."""
        row = event.y - 1 + self.scroll_offset.y
        if event.y > 0 and row < len(self.names):
            self._go_to(row)
            if event.chain > 1:
                self.action_open()

    def clear_marks(self) -> bool:
        """Take all marks away; whether there were any."""
        had = bool(self.marked)
        self.marked.clear()
        if had:
            self.refresh()
        return had

    def _go_to(self, row: int) -> None:
        if row != self.cursor:
            self._refresh_row(self.cursor)
            self.cursor = row
            self._refresh_row(row)
            if self.selected:
                self.post_message(self.Selected(self.selected))
        top, room = self.scroll_offset.y, max(self.size.height - 1, 1)
        if not top <= row < top + room:
            self.scroll_to(y=row if row < top else row - room + 1, animate=False, force=True)

    def _line(self, sign: str, cells: Sequence[Cell], base: Style) -> list[Segment]:
        segments, open_text, open_style = [], sign, base
        for column, cell in zip(self._columns, cells, strict=True):
            style = base + self._style(cell.meaning) if cell.meaning and not base.reverse else base  # reversed, it would be a patch
            if style != open_style and cell.text:
                segments.append(Segment(open_text, open_style))
                open_text, open_style = "", style
            open_text += fit(cell.text, column.width, column.right) + " " * GAP
        return [*segments, Segment(open_text, open_style)]

    def _style(self, part: str) -> Style:
        return self.get_component_rich_style(f"table--{part}", partial=True)

    def _refresh_row(self, row: int) -> None:
        self.refresh(Region(0, row + 1 - self.scroll_offset.y, self.size.width, 1))

    def _refresh_cells(self, row: int, before: Sequence[Cell], now: Sequence[Cell]) -> None:
        x = 2
        for column, old, new in zip(self._columns, before, now, strict=True):
            if old != new:
                self.refresh(Region(x, row + 1 - self.scroll_offset.y, column.width, 1))
            x += column.width + GAP


def _fitting(width: int, name_width: int) -> list[Column]:
    """The columns that fit into `width` cells; what is left over goes to what each process is doing."""
    low, high = NAME_WIDTH
    columns = [Column("name", "PROCESS", min(max(name_width, low, len("PROCESS")), high)), *COLUMNS[1:]]

    def needed() -> int:
        return sum(column.width + GAP for column in columns) - GAP

    while needed() > width and (worst := max(columns, key=lambda column: column.rank)).rank:
        columns.remove(worst)
    last = columns[-1]
    return [*columns[:-1], Column(last.key, last.heading, max(last.width + width - needed(), 4), last.rank)]


def state_cell(state: str) -> Cell:
    """A state by sign, word and colour."""
    return Cell(f"{glyph(state)} {state}", _PARTS[colour(state)])


def cells_of(process: Mapping[str, Any], pending: str | None, doing: str, **others: str) -> Iterator[tuple[str, Cell]]:
    """The cells of one process, by column; `others` are the texts of the columns that tell about its run."""
    state, restarts, memory, cpu = process["state"], process.get("restarts") or 0, process.get("pss_mb") or process.get("rss_mb"), process.get("cpu_percent")
    yield "name", Cell(process["name"])
    yield "state", Cell(f"{glyph('stopping')} {pending}", "warning") if pending else state_cell(state)
    yield "age", Cell(age(process.get("uptime_s")))
    yield "cpu", Cell("" if cpu is None else f"{cpu:.0f} %", "" if cpu else "muted")
    yield "memory", Cell("" if memory is None else f"{memory:.0f} MB")
    yield "restarts", Cell(str(restarts) if restarts else "", "warning" if restarts else "")
    yield "doing", Cell(doing, "bad" if state in ("failed", "backoff") else "warning" if state == "held" else "")
    for key, text in others.items():
        yield key, Cell(text, "accent" if key == "history" else "")


def age(seconds: float | None) -> str:
    """How long something runs, in one unit, so that it seldom changes: `12 s`, `3 min`, `5 h`, `2 d`."""
    if seconds is None:
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds // 10 * 10:.0f} s" if seconds >= 10 else f"{seconds:.0f} s"
