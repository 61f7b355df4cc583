"""A line chart as text, by plotext."""
from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence

Points = tuple[Sequence[float], Sequence[float]]
LARGEST = 1e300  # a range beyond the largest float becomes NaN inside plotext
INKS = ((79, 163, 255), (255, 159, 67))
_ASCII = str.maketrans("┌┐└┘─│┤├┬┴┼", "++++-||||++")


def chart(title: str, series: Mapping[str, Points], width: int, height: int, *, colour: bool, ascii_only: bool) -> str:
    """Lines of `series` (name -> rounds and values) over one another in `height` lines of `width` cells.

    Without `colour` two lines differ by their marks; the title names which is which. A value that is no finite number
    leaves a gap.
    """
    import plotext

    plotext.terminal.limit(False, False)  # else cut to the size of the terminal
    figure = type(plotext.figure)(plotext.terminal)
    figure.plot_size(width, height)
    figure.theme("colorless")
    figure.canvas("default")
    figure.legend(False)
    marks = ("o", "x") if ascii_only else ("braille", "braille") if colour else ("braille", "•")
    rounds: list[float] = []
    names = []
    for number, (name, points) in enumerate(series.items()):
        mark, ink = marks[number % len(marks)], INKS[number % len(INKS)]
        marker = plotext.marker(mark, plotext.pixel(ink)) if colour else plotext.marker(mark)
        for xs, ys in stretches(*points):
            rounds += xs
            figure.draw(figure.signal(xs, ys, marker=marker).lines(True))
        sign = "⠒" if mark == "braille" else mark
        names.append(f"\x1b[38;2;{';'.join(map(str, ink))}m{sign}\x1b[0m {name}" if colour else f"{sign} {name}")
    head = f"{title}: {'  '.join(names)}"
    if not rounds:
        return head + "\n  no values yet"
    ticks = sorted({round(min(rounds) + (max(rounds) - min(rounds)) * k / 6) for k in range(7)})
    figure.ruler("x").ticks([float(tick) for tick in ticks], [str(tick) for tick in ticks])
    figure.ruler("y").frequency(max(2, min(5, (height - 3) // 2)))
    figure.label("round", "x")
    text = figure.build().string()
    if not colour:
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.rstrip() for line in text.rstrip("\n").split("\n")]
    return "\n".join([head, *(line.translate(_ASCII) if ascii_only else line for line in lines)])


def stretches(xs: Sequence[float], ys: Sequence[float]) -> Iterator[tuple[list[float], list[float]]]:
    """The runs of drawable points. This is not for looks: one NaN makes plotext 6.1 abort the whole process."""
    stretch: tuple[list[float], list[float]] = ([], [])
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(x) and math.isfinite(y) and abs(x) < LARGEST and abs(y) < LARGEST:
            stretch[0].append(float(x))
            stretch[1].append(float(y))
        elif stretch[0]:
            yield stretch
            stretch = ([], [])
    if stretch[0]:
        yield stretch
