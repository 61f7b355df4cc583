"""Lines drawn in characters by plotext, which gets nothing but numbers from 0 to 1: one NaN makes it abort the process.

plotext 6 draws with one global figure and prints it; here each picture has its own, and is cut to cells again, so that
a widget can put its labels, its cursor and its colours on top. A figure must not be shared between threads.
"""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

LARGEST = 1e300  # beyond it the range of an axis is no finite number any more
Range = tuple[float, float]
Cell = tuple[str, int]  # a character, and the number of the line that it belongs to, -1 for none
Stretch = tuple["np.ndarray", "np.ndarray"]
_SGR = re.compile("\x1b\\[([0-9;]*)m")


def arrays(x: Sequence[float | None] | np.ndarray, y: Sequence[float | None] | np.ndarray) -> Stretch:
    """Points as float arrays of equal length, x ascending and finite; y is NaN where there is no number to draw."""
    import numpy as np

    xs, ys = np.asarray(x, np.float64).ravel(), np.asarray(y, np.float64).ravel()
    count = min(len(xs), len(ys))
    xs, ys = xs[:count], ys[:count]
    with np.errstate(all="ignore"):
        good = np.abs(xs) < LARGEST
        xs, ys = xs[good], ys[good]
        if (xs[1:] < xs[:-1]).any():
            order = np.argsort(xs, kind="stable")
            xs, ys = xs[order], ys[order]
        return xs, np.where(np.abs(ys) < LARGEST, ys, np.nan)


def logarithm(points: Stretch) -> Stretch:
    """The points with the decimal logarithm of y, NaN where it has none."""
    import numpy as np

    x, y = points
    with np.errstate(all="ignore"):
        return x, np.where(y > 0, np.log10(np.where(y > 0, y, 1.0)), np.nan)


def within(points: Stretch, low: float, high: float) -> Stretch:
    """The points from x = `low` to `high`, with lines that cross a border cut at it."""
    import numpy as np

    x, y = points
    if not len(x) or (x[0] >= low and x[-1] <= high):
        return points
    inside = np.flatnonzero((x >= low) & (x <= high))
    first = inside[0] if len(inside) else int(np.searchsorted(x, low))
    last = inside[-1] if len(inside) else first - 1
    xs, ys = x[first : last + 1], y[first : last + 1]
    if 0 < first < len(x):
        xs, ys = np.insert(xs, 0, low), np.insert(ys, 0, _between(x, y, first, low))
    if 0 <= last < len(x) - 1:
        xs, ys = np.append(xs, high), np.append(ys, _between(x, y, last + 1, high))
    return xs, ys


def stretches(points: Stretch, columns: int) -> Iterator[Stretch]:
    """The points cut at gaps, each part made short enough for `columns` cells."""
    import numpy as np

    from fedtui.metrics import decimate

    x, y = points
    good = np.isfinite(y)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    for begin, end in edges.reshape(-1, 2).tolist():
        part = x[begin:end], y[begin:end]
        yield decimate(*part, 2 * columns) if end - begin > 4 * columns + 2 else part


class Canvas:
    """A picture of lines, without axes."""

    def __init__(self) -> None:
        self._figure: Any = None
        self._drawn: tuple[tuple[Any, ...], list[list[Cell]]] = ((), [])

    def draw(
        self, of: object, lines: Sequence[tuple[str, Iterable[Stretch]]], x_range: Range, y_range: Range, width: int, height: int
    ) -> list[list[Cell]]:
        """`height` rows of `width` cells; the first and the last value of a range lie in the middle of the outermost cells.

        Parameters
        ----------
        of : what the lines are of. As long as it is the same object, and all else equal, the last picture is given again.
        lines : of each line plotext's marker (`braille`, or a character) and its stretches. A cell tells the line's index;
            later ones are drawn over earlier ones.
        """
        import plotext

        key = (x_range, y_range, width, height, [sign for sign, _ in lines])
        if self._drawn[0][:1] and self._drawn[0][0] is of and self._drawn[0][1:] == key:
            return self._drawn[1]
        if self._figure is None:
            plotext.terminal.limit(False, False)  # else cut to the size of the terminal
            self._figure = type(plotext.figure)(plotext.terminal)
        figure = self._figure
        figure.clear.data()
        figure.clear.settings()
        figure.plot_size(width, height)
        figure.theme("colorless")
        figure.canvas("default")
        figure.legend(False)
        figure.axes(False)
        for axis in ("x", "y"):
            figure.ruler(axis).ticks([], [])
            figure.ruler(axis).lim(0.0, 1.0)
        for number, (sign, parts) in enumerate(lines):
            ink = plotext.pixel((number >> 16 & 255, number >> 8 & 255, number & 255))
            for x, y in parts:
                marker = plotext.marker("•" if sign == "braille" and len(x) == 1 else sign, ink)  # one dot is easily overlooked
                figure.draw(figure.signal(_share(x, x_range), _share(y, y_range), marker=marker).lines(len(x) > 1))
        cells = _cells(figure.build().string(), width, height)
        self._drawn = ((of, *key), cells)
        return cells


def _between(x: np.ndarray, y: np.ndarray, index: int, at: float) -> float:
    """y at `at`, on the line from the point before `index` to it; NaN next to a gap."""
    span = x[index] - x[index - 1]
    return float(y[index - 1] + (y[index] - y[index - 1]) * ((at - x[index - 1]) / span if span else 0.0))


def _share(values: np.ndarray, limits: tuple[float, float]) -> list[float]:
    """Where values lie within the limits, as numbers from 0 to 1."""
    import numpy as np

    low, high = limits
    with np.errstate(all="ignore"):
        share = (values - low) / (high - low)
    return np.clip(np.nan_to_num(share, nan=0.5), 0.0, 1.0).tolist()


def _cells(text: str, width: int, height: int) -> list[list[Cell]]:
    """plotext's text as rows of cells."""
    rows: list[list[Cell]] = []
    for line in text.split("\n")[:height]:
        row: list[Cell] = []
        number = -1
        for index, part in enumerate(_SGR.split(line)):
            if index % 2 == 0:
                row += [(char, number if char != " " else -1) for char in part]
            elif part.startswith("38;2;"):
                red, green, blue = map(int, part.split(";")[2:5])
                number = red << 16 | green << 8 | blue
            else:
                number = -1
        rows.append((row + [(" ", -1)] * width)[:width])
    return rows + [[(" ", -1)] * width for _ in range(height - len(rows))]
