"""A chart as rows of styled cells: the lines of a canvas with a frame, labels, a cursor and what is read off at it.

    ╭ loss ━ eval 0.412 ━ fit 0.398 ─────── ★ 0.389 @7 ╮
    │ 0.8 ⢄                                            │
    │ 0.4   ⠉⠒⠤⣀⣀⣀⡠⠔⠒⠒⠒⠒⠒                              │
    ╰─────1────────5──────────10────────────────── round ╯
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from textual.strip import Strip

from fedtui.tui.widgets import scale
from fedtui.tui.widgets.canvas import Canvas, Range, Stretch, arrays, logarithm, stretches, within
from fedtui.tui.widgets.palette import sign, swatch
from fedtui.tui.widgets.sheet import Sheet

if TYPE_CHECKING:
    import numpy as np

_TICKS = {"round": scale.round_ticks, "clock": scale.clock_ticks, "elapsed": scale.elapsed_ticks}
_SPELL: dict[str, Callable[[float], str]] = {"round": lambda x: f"{x:.0f}", "clock": scale.clock, "elapsed": scale.elapsed}
_UNIT = {"round": "round", "clock": "", "elapsed": "since start"}
_FEWEST_COLUMNS = 8  # of a canvas with labels beside it
BEST = "★"


class Series(NamedTuple):
    """One line.

    Attributes
    ----------
    x, y : of the same length; what is no finite number (None, NaN) leaves a gap.
    colour : a number of the palette; None for the series' place among those shown.
    faint : a line behind the others, without name and figures, such as the raw values of a smoothed one.
    best : the point to mark, as (x, y).
    """

    name: str
    x: Sequence[float | None] | np.ndarray
    y: Sequence[float | None] | np.ndarray
    colour: int | None = None
    faint: bool = False
    best: tuple[float, float] | None = None


@dataclass(frozen=True)
class Look:
    """How series are looked at.

    Attributes
    ----------
    log_y : a logarithmic axis; what is not positive leaves a gap then.
    x_kind : what x is: `round`, `clock` (seconds since 1970, spelt as local time) or `elapsed` (seconds).
    view : the part of the x axis that is shown; None for all of it.
    cursor : where figures are read off; None for the last ones.
    chosen : framed as the chart that keys are about.
    """

    log_y: bool = False
    x_kind: str = "round"
    view: Range | None = None
    cursor: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Inks:
    """Styles, and how lines are drawn: see `palette.SIGNS`."""

    frame: Style
    title: Style
    axis: Style
    best: Style
    cursor: Style
    box: Style
    line: Callable[[int, bool], Style]
    signs: str = "braille"


@dataclass(frozen=True)
class Picture:
    """The rows, and where the canvas lies in them: its first column, how many there are, and the x at both ends."""

    rows: list[Strip]
    left: int
    columns: int
    x_range: Range


class _Figure(NamedTuple):
    """What is read off of a line."""

    swatch: str
    ink: Style
    name: str
    value: float


@dataclass
class _Line:
    series: Series
    number: int
    raw: Stretch
    drawn: Stretch

    def value(self, x: float | None, exact: bool) -> float:
        """The last value, or that at `x`: if not `exact`, the one that held then; NaN without any."""
        import numpy as np

        xs, ys = self.raw
        if x is None:
            ys = ys[np.isfinite(ys)]
            return float(ys[-1]) if len(ys) else float("nan")
        index = int(np.searchsorted(xs, x, "right")) - 1
        return float(ys[index]) if index >= 0 and (xs[index] == x or not exact) else float("nan")


def paint(title: str, series: Sequence[Series], look: Look, inks: Inks, canvas: Canvas, width: int, height: int, *, named: bool = True, empty: str = "") -> Picture:
    """Draw in `width` times `height` cells; with `named`, the upper border names the series as far as there is room."""
    lines = _lines(series, look)
    x_range = look.view or _range([line.drawn[0][~_nan(line.drawn[1])] for line in lines], whole=look.x_kind == "round")
    parts = [within(line.drawn, *x_range) for line in lines]
    y_range = _range([y[~_nan(y)] for _, y in parts])
    rows = max(height - 2, 0)
    ticks = (scale.log_ticks if look.log_y else scale.value_ticks)(*y_range, max(2, min(6, rows // 2)))
    gutter = 1 + max((len(text) for _, text in ticks), default=0)
    gutter = gutter if width - 2 - gutter >= _FEWEST_COLUMNS else 0
    left, columns = 1 + gutter, max(width - 2 - gutter, 1)
    sheet = Sheet(width, height, inks.frame, heavy=look.chosen)
    picture = Picture([], left, columns, x_range)
    drawable = [part for part in parts if not _nan(part[1]).all()]
    if rows and drawable:
        plotted = [(sign(inks.signs, line.number), stretches(part, columns)) for line, part in zip(lines, parts, strict=True)]
        styles = [inks.line(line.number, line.series.faint) for line in lines]
        for y, row in enumerate(canvas.draw(series, plotted, x_range, y_range, columns, rows), 1):
            for x, (char, index) in enumerate(row, left):
                if index >= 0:
                    sheet.put(x, y, char, styles[index])
        if gutter:
            _y_labels(sheet, ticks, y_range, rows, gutter, inks)
        for line in lines:
            _best(sheet, line, look, picture, y_range, rows, inks)
    elif rows:
        sheet.text((width - cell_len(empty)) // 2, 1 + rows // 2, empty, inks.axis)
    if drawable:
        _x_labels(sheet, look, picture, inks)
    figures = _figures(lines, look, inks) if drawable else []
    fits = _upper_border(sheet, title, figures, lines, look, inks, named)
    if rows and look.cursor is not None and drawable:
        _cursor(sheet, look.cursor, picture, rows, [] if fits else figures, inks)
    return Picture(sheet.strips(), left, columns, x_range)


def _lines(series: Sequence[Series], look: Look) -> list[_Line]:
    lines = []
    for place, one in enumerate(series):
        raw = arrays(one.x, one.y)
        lines.append(_Line(one, place if one.colour is None else one.colour, raw, logarithm(raw) if look.log_y else raw))
    return lines


def _nan(values: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.isnan(values)


def _range(values: Sequence[np.ndarray], whole: bool = False) -> Range:
    """From the least to the largest value, widened when they are one."""
    filled = [array for array in values if len(array)]
    if not filled:
        return 0.0, 1.0
    low, high = float(min(array.min() for array in filled)), float(max(array.max() for array in filled))
    if high - low > abs(low) * 1e-12:
        return low, high
    pad = max(0.5, abs(low) * 1e-6) if whole else max(abs(low) * 0.1, 1e-6)
    return low - pad, high + pad


def _place(value: float, limits: Range, cells: int) -> int:
    """In which of the cells a value lies; -1 for none."""
    low, high = limits
    return round((value - low) / (high - low) * (cells - 1)) if low <= value <= high else -1


def _y_labels(sheet: Sheet, ticks: Sequence[scale.Tick], y_range: Range, rows: int, gutter: int, inks: Inks) -> None:
    taken: set[int] = set()
    for value, text in ticks:
        place = _place(value, y_range, rows)
        if place >= 0 and place not in taken:
            taken.add(place)
            sheet.text(1, rows - place, text.rjust(gutter - 1), inks.axis)


def _x_labels(sheet: Sheet, look: Look, picture: Picture, inks: Inks) -> None:
    """Labels within the lower border, as far as there is room: the cursor's, the ticks', the unit."""
    y = sheet.height - 1
    free = [0 < x < sheet.width - 1 for x in range(sheet.width)]

    def label(column: int, text: str, style: Style) -> None:
        start = max(1, min(column - len(text) // 2, sheet.width - 1 - len(text)))
        if all(free[start : start + len(text)]):
            free[max(start - 1, 0) : start + len(text) + 1] = [False] * (len(text) + 2)
            sheet.text(start, y, text, style)

    if look.cursor is not None and (place := _place(look.cursor, picture.x_range, picture.columns)) >= 0:
        label(picture.left + place, f" {_SPELL[look.x_kind](look.cursor)} ", inks.cursor)
    count = max(1, picture.columns // (6 if look.x_kind == "round" else 12))
    for value, text in _TICKS[look.x_kind](*picture.x_range, count):
        if (place := _place(value, picture.x_range, picture.columns)) >= 0:
            label(picture.left + place, text, inks.axis)
    label(sheet.width, _UNIT[look.x_kind], inks.axis)


def _best(sheet: Sheet, line: _Line, look: Look, picture: Picture, y_range: Range, rows: int, inks: Inks) -> None:
    if line.series.best is None:
        return
    x, y = (points[-1:] for points in (logarithm if look.log_y else lambda points: points)(arrays(*([value] for value in line.series.best))))
    if len(y) and (column := _place(float(x[0]), picture.x_range, picture.columns)) >= 0 and (place := _place(float(y[0]), y_range, rows)) >= 0:
        sheet.put(picture.left + column, rows - place, BEST, inks.best + inks.line(line.number, False))


def _figures(lines: Sequence[_Line], look: Look, inks: Inks) -> list[_Figure]:
    """Those of the lines in front first."""
    named = [line for line in reversed(lines) if not line.series.faint]
    values = [line.value(look.cursor, look.x_kind == "round") for line in named]
    return [_Figure(swatch(inks.signs, line.number), inks.line(line.number, False), line.series.name, value) for line, value in zip(named, values, strict=True)]


def _upper_border(sheet: Sheet, title: str, figures: Sequence[_Figure], lines: Sequence[_Line], look: Look, inks: Inks, named: bool) -> bool:
    """Title, figures and the best one; False when there was no room for the figures."""
    room = sheet.width - 4
    title = set_cell_size(title, min(cell_len(title), room)) if room > 0 else ""
    x = sheet.text(2, 0, title, inks.title)
    if look.log_y:
        x = sheet.text(x, 0, " log", inks.axis) if x + 4 < room else x
    sheet.text(1, 0, " ", inks.axis)
    x = sheet.text(x, 0, " ", inks.axis)
    best = [line.series.best for line in lines if line.series.best is not None]
    text = f" {BEST} {scale.number(best[0][1])} @{_SPELL[look.x_kind](best[0][0])} " if len(best) == 1 else ""
    for names in (True, False) if named else (False,):
        words = [[(one.swatch, one.ink), *([(one.name, inks.axis)] if names else []), (scale.number(one.value), one.ink)] for one in figures]
        width = sum(sum(cell_len(word) + 1 for word, _ in parts) + 1 for parts in words)
        for note in (text, "") if text else ("",):
            if x + width + cell_len(note) <= sheet.width - 1:
                for parts in words:
                    for word, style in parts:
                        x = sheet.text(x, 0, f" {word}", style)
                    x = sheet.text(x, 0, " ", inks.axis)
                sheet.text(sheet.width - 2 - cell_len(note), 0, note, inks.best)
                return True
    if x + cell_len(text) <= sheet.width - 2:
        sheet.text(sheet.width - 2 - cell_len(text), 0, text, inks.best)
    return False


def _cursor(sheet: Sheet, cursor: float, picture: Picture, rows: int, figures: Sequence[_Figure], inks: Inks) -> None:
    """A line at the cursor and, for `figures` that have no place in the border, a box beside it."""
    place = _place(cursor, picture.x_range, picture.columns)
    if place < 0:
        return
    for y in range(1, rows + 1):
        sheet.put(picture.left + place, y, "│", inks.axis, over=" ")
    room = max(place, picture.columns - place) - 4
    known = sorted((one for one in figures if one.value == one.value), key=lambda one: -one.value)
    told = known if len(known) <= rows else known[: rows - 1]
    if not told or room < 8:
        return
    names = min(max(cell_len(one.name) for one in told), room - 12)
    right = place < picture.columns // 2
    for y, one in enumerate(told, 1):
        words = f" {set_cell_size(one.name, names)} " if names > 0 else " "
        width = 1 + cell_len(words) + 9 + 1
        x = picture.left + (place + 2 if right else place - 1 - width)
        x = sheet.text(x, y, f" {one.swatch}", inks.box + one.ink)
        x = sheet.text(x, y, words, inks.axis + inks.box)
        sheet.text(x, y, f"{scale.number(one.value):>8} ", inks.box + one.ink)
    if len(told) < len(known):
        sheet.text(picture.left + (place + 2 if right else place - 8), len(told) + 1, f" +{len(known) - len(told)} ", inks.axis + inks.box)
