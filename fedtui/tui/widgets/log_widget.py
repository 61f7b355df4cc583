"""How lines of logs look: what has failed stands out, and so do warnings."""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.widget import Widget

from fedtui.log_lines import level_of

Span = tuple[int, int, Style]  # from, to (in characters), and what it looks like


class LogWidget(Widget):
    """A widget that shows lines of logs."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"log--error", "log--warning"}
    DEFAULT_CSS = """
    LogWidget > .log--error { color: $text-error; }
    LogWidget > .log--warning { color: $text-warning; }
    """

    def styled(self, text: str, spans: Sequence[Span] = ()) -> list[Segment]:
        """A clean line in the colour of its level, with `spans` laid over it, later ones on top."""
        level = level_of(text)
        base = self.rich_style if level == "info" else self.get_component_rich_style(f"log--{level}")
        if not spans:
            return [Segment(text, base)]
        edges = sorted({0, len(text), *(min(edge, len(text)) for begin, end, _ in spans for edge in (begin, end))})
        segments = []
        for begin, end in itertools.pairwise(edges):
            style = base
            for first, last, over in spans:
                if first <= begin and end <= last:
                    style = style + over
            segments.append(Segment(text[begin:end], style))
        return segments
