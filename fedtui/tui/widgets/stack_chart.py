"""Areas stacked over time. It does not flow: new columns are added at the right until there is no room, then it moves on.

So a second costs the bytes of one column, not of the whole chart.
"""
from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from fedtui.tui.widgets.memory_bar import gigabytes

AXIS = 9  # cells for its labels
FILLS = "█▓▒░"  # where there are no colours
LOWER = " ▁▂▃▄▅▆▇█"
STEPS = (1, 1.5, 2, 3, 4, 6)  # times a power of ten, or of two above a GB
EMPTY = -1
LABELS = (60, 120, 300, 600, 1800, 3600)  # seconds from one time on the axis to the next
LABEL_CELLS = 12


class CellOf(NamedTuple):
    """A cell: `eighths` of it from below belong to layer `lower`, the rest to `upper`; EMPTY is none."""

    lower: int
    upper: int = EMPTY
    eighths: int = 8


class Layer(NamedTuple):
    """One area: its name, its colour, and (seconds since 1970, value) in order of time."""

    name: str
    style: Style
    points: Sequence[tuple[float, float]]


class StackChart(Widget):
    """Layers from below to above, in MB, with the limit as a line where it is in sight."""

    DEFAULT_CSS = "StackChart { height: 1fr; }"

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self._layers: list[Layer] = []
        self._now = 0.0
        self._limit: float | None = None
        self._cells: list[list[CellOf]] = []  # columns from the left, cells from below
        self._begin = 0  # number of the first column since 1970
        self._top = 1.0
        self._arranged_for = Size()

    def show(self, layers: Iterable[Layer], now: float, limit: float | None) -> None:
        """Bring it up to date; `limit` in MB."""
        self._layers, self._now, self._limit = list(layers), now, limit
        old, frame = self._cells, (self._begin, self._top)
        self._arrange()
        if frame != (self._begin, self._top) or len(old) != len(self._cells):
            self.refresh()
        else:
            regions = [Region(AXIS + x, 0, 1, self.size.height) for x, (was, column) in enumerate(zip(old, self._cells, strict=True)) if was != column]
            if regions:
                self.refresh(*regions)

    def on_resize(self) -> None:
        """Other columns."""
        self._arrange()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """A row of cells, or the axis of time."""
        if self._arranged_for != self.size:  # painted before it is told its new size
            self._arrange()
        base, height = self.rich_style, self._height
        muted = base + Style(dim=True)
        if y == height:
            return self._times(muted)
        row = height - 1 - y
        rows = {0: 0.0, height - 1: self._top, height // 2: self._top * (height // 2 + 0.5) / height}
        label = gigabytes(rows[row]) if row in rows and (row != height // 2 or height > 5) else ""
        limit_row = self._limit_row()
        if row == limit_row:
            label = "limit"
        segments = [Segment(f"{label:>{AXIS - 2}} ", base + Style(color="red", bold=True) if row == limit_row else muted), Segment("│", muted)]
        for cell, group in groupby(column[row] for column in self._cells):
            text, style = self._paint(cell, row == limit_row)
            segments.append(Segment(text * len(list(group)), base + style))
        return Strip(segments).crop_extend(0, self.size.width, base)

    def _times(self, style: Style) -> Strip:
        """Times of the day under the columns they belong to: they move only when the chart does."""
        line = [" "] * self.size.width
        step = self._step
        apart = next((seconds for seconds in LABELS if seconds >= LABEL_CELLS * step), LABELS[-1])
        first = -(-self._begin * step // apart) * apart
        for moment in range(int(first), int(self._now) + 1, apart):
            text, x = time.strftime("%H:%M", time.localtime(moment)), AXIS + int(moment / step) - self._begin
            if x + len(text) <= len(line):
                line[x : x + len(text)] = text
        return Strip([Segment("".join(line), style)]).crop_extend(0, self.size.width, style)

    def _paint(self, cell: CellOf, limit: bool) -> tuple[str, Style]:
        if limit and cell.lower == EMPTY:
            return "╌", Style(color="red")
        if cell.lower == EMPTY:
            return " ", Style()
        plain = self.app.no_color
        lower = self._layers[cell.lower].style
        if cell.eighths == 8 or (plain and cell.upper != EMPTY):
            return FILLS[cell.lower % len(FILLS)] if plain else "█", lower
        upper = self._layers[cell.upper].style if cell.upper != EMPTY else Style()
        return LOWER[cell.eighths], Style(color=lower.color, bgcolor=upper.color)

    @property
    def _height(self) -> int:
        return max(self.size.height - 1, 1)

    @property
    def _step(self) -> float:
        """Seconds a column."""
        return max(round(self.seconds / max(self.size.width - AXIS, 1)), 1)

    def _limit_row(self) -> int | None:
        if self._limit is None or self._limit > self._top:
            return None
        return min(int(self._limit / self._top * self._height), self._height - 1)

    def _arrange(self) -> None:
        """Sort the points into columns, and stack them."""
        self._arranged_for = self.size
        count, step = max(self.size.width - AXIS, 0), self._step
        jump = max(count // 5, 1)
        last = int(self._now / step)
        self._begin = -(-(last + 1) // jump) * jump - count
        numbers = range(self._begin, self._begin + count)
        values = [_columns(layer.points, step) for layer in self._layers]
        heights = [[column.get(number, 0.0) for column in values] for number in numbers]
        most = max((sum(stack) for stack in heights), default=0.0)
        self._top = _top(most, self._limit)
        scale = self._height * 8 / self._top
        self._cells = [_stack([size * scale for size in stack], self._height) for stack in heights]


def _columns(points: Sequence[tuple[float, float]], step: float) -> Mapping[int, float]:
    """The mean of a layer's points in each column; a column without any between others takes the one before."""
    found: dict[int, float] = {}
    for number, group in groupby(points, lambda point: int(point[0] / step)):
        sizes = [size for _, size in group]
        previous = max(found, default=number)
        for gap in range(previous + 1, number):
            if number - previous <= 3:
                found[gap] = found[previous]
        found[number] = sum(sizes) / len(sizes)
    return found


def _stack(sizes: Sequence[float], height: int) -> list[CellOf]:
    """A column of cells for layers of these sizes, in eighths of a cell."""
    edges = [round(edge) for edge in accumulate(sizes)]
    cells = []
    for row in range(height):
        begin, end = row * 8, row * 8 + 8
        owners = [bisect_right(edges, eighth) for eighth in range(begin, end)]
        shares = [(owner if owner < len(edges) else EMPTY, len(list(group))) for owner, group in groupby(owners)]
        if len(shares) > 2:  # a cell has two colours: the two largest shares
            first, second = sorted(sorted(range(len(shares)), key=lambda index: -shares[index][1])[:2])
            shares = [(shares[first][0], 8 - shares[second][1]), shares[second]]
        cells.append(CellOf(shares[0][0]) if len(shares) == 1 else CellOf(shares[0][0], shares[1][0], shares[0][1]))
    return cells


def _top(most: float, limit: float | None) -> float:
    """The end of the axis: round, beyond `most`; the limit when that is near."""
    if limit is not None and most > limit / 2:
        return max(limit * 1.05, most * 1.05)
    unit = 64.0
    while True:
        for step in STEPS:
            if unit * step >= most * 1.1:
                return unit * step
        unit *= 8
