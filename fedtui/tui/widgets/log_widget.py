"""How lines of logs look: what has failed stands out, and so do warnings; the rest of a line steps back."""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cached_cell_len, cell_len
from rich.segment import Segment
from textual.strip import Strip
from textual.widget import Widget

from fedtui.log_lines import level_of

Span = tuple[int, int, str]  # from, to (in characters), and which of the looks below


class LogWidget(Widget):
    """A widget that shows lines of logs."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"log--error", "log--warning", "log--time", "log--name", "log--match", "log--hit", "log--selection"}
    DEFAULT_CSS = """
    LogWidget > .log--error { color: $text-error; }
    LogWidget > .log--warning { color: $text-warning; }
    LogWidget > .log--time { color: $text-muted; }
    LogWidget > .log--name { color: $text-accent; text-style: bold; }
    LogWidget > .log--match { background: $warning-muted; color: $text-warning; text-style: underline; }
    LogWidget > .log--hit { background: $warning; color: auto 90%; text-style: bold underline; }
    LogWidget > .log--selection { background: $screen-selection-background; color: $foreground; }
    """

    def strip(self, text: str, spans: Sequence[Span] = (), level: str | None = None) -> Strip:
        """A clean line in the colour of its level as wide as the widget, with `spans` laid over it, later ones on top."""
        width, level = self.size.width, level or level_of(text)
        text += " " * (width - cell_len(text))  # in one piece with the text: a piece of its own costs 40 bytes
        base = self.rich_style if level == "info" else self.get_component_rich_style(f"log--{level}")
        if not spans:
            return Strip([Segment(text, base)]).crop(0, width)
        edges = sorted({0, len(text), *(min(max(edge, 0), len(text)) for begin, end, _ in spans for edge in (begin, end))})
        segments = []
        for begin, end in itertools.pairwise(edges):
            style = base
            for first, last, look in spans:
                if first <= begin and end <= last:
                    style = style + self.get_component_rich_style(f"log--{look}")
            segments.append(Segment(text[begin:end], style))
        return Strip(segments).crop(0, width)


def cuts(text: str, width: int) -> list[int]:
    """Where a line is cut to fit rows of `width` cells: the first character of each row."""
    if text.isascii():
        return list(range(0, max(len(text), 1), max(width, 1)))
    begins, used = [0], 0
    for place, char in enumerate(text):
        used += (size := cached_cell_len(char))
        if used > width and place > begins[-1]:
            begins.append(place)
            used = size
    return begins


def index_at(text: str, cells: int) -> int:
    """The first character that begins at or after so many cells."""
    if text.isascii():
        return min(cells, len(text))
    used = 0
    for place, char in enumerate(text):
        if used >= cells:
            return place
        used += cell_len(char)
    return len(text)
