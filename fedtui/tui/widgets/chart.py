"""The line chart as a widget: `Chart.show(series)` draws it anew, and only rows that differ go to the terminal."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from fedtui.tui.widgets.canvas import Canvas
from fedtui.tui.widgets.painted import Painted
from fedtui.tui.widgets.palette import line_style, signs
from fedtui.tui.widgets.picture import Inks, Look, Picture, Series, paint

__all__ = ["Chart", "Look", "Series"]


class Chart(Painted):
    """Shows series; any values may be in them.

    Parameters
    ----------
    title : what is measured.
    look : how to look at it; see `Look`.
    named : whether the border names the series, for a chart without a legend beside it.
    empty : stands there as long as there is nothing to draw.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"chart--{part}" for part in ("frame", "chosen", "title", "axis", "best", "cursor", "box")}
    DEFAULT_CSS = """
    Chart {
        color: $foreground;
        .chart--frame { color: $foreground 30%; }
        .chart--chosen { color: $accent; }
        .chart--title { color: $foreground; text-style: bold; }
        .chart--axis { color: $foreground 65%; }
        .chart--best { text-style: bold; }
        .chart--cursor { color: auto; background: $accent; }
        .chart--box { background: $panel; }
        &:ansi {
            .chart--frame { color: ansi_bright_black; }
            .chart--axis { color: ansi_default; }
            .chart--cursor { color: ansi_default; background: ansi_default; text-style: reverse; }
            .chart--box { background: ansi_default; }
        }
    }
    """

    class Picked(Message):
        """Somebody clicked on the chart, at `x` if it was within its axes."""

        def __init__(self, chart: Chart, x: float | None) -> None:
            super().__init__()
            self.chart, self.x = chart, x

        @property
        def control(self) -> Chart:
            """The chart."""
            return self.chart

    def __init__(self, title: str = "", look: Look | None = None, *, named: bool = True, empty: str = "no values yet", id: str | None = None) -> None:
        super().__init__(id=id)
        self.title, self.named, self.empty = title, named, empty
        self.series: tuple[Series, ...] = ()
        self._look = look or Look()
        self._canvas = Canvas()
        self._picture = Picture([], 0, 0, (0.0, 1.0))

    def show(self, series: Sequence[Series]) -> None:
        """Show these series in place of those before."""
        self.series = tuple(series)
        self.redraw()

    @property
    def look(self) -> Look:
        """How the series are looked at; setting it draws them anew."""
        return self._look

    @look.setter
    def look(self, look: Look) -> None:
        if look != self._look:
            self._look = look
            self.redraw()

    @property
    def x_range(self) -> tuple[float, float]:
        """The part of the x axis that is drawn."""
        return self._picture.x_range

    def paint(self) -> list[Strip]:
        """The picture; its first one waits for plotext, whose import takes longer than a repaint may."""
        if "plotext" not in sys.modules:
            self.call_after_refresh(self.run_worker, self._load, thread=True, exclusive=True)
            return []
        self._picture = paint(self.title, self.series, self._look, self._inks(), self._canvas, *self.size, named=self.named, empty=self.empty)
        return self._picture.rows

    def on_click(self, event: events.Click) -> None:
        """Tell where."""
        picture = self._picture
        column, (low, high) = event.x - picture.left, picture.x_range
        inside = 0 <= column < picture.columns and 0 < event.y < self.size.height - 1
        self.post_message(self.Picked(self, low + (high - low) * column / max(picture.columns - 1, 1) if inside else None))

    def _load(self) -> None:
        import plotext  # noqa: F401

        import fedtui.metrics  # noqa: F401

        self.app.call_from_thread(self.redraw)

    def _inks(self) -> Inks:
        def style(part: str) -> Style:
            return self.get_component_rich_style(f"chart--{part}")

        chosen = self._look.chosen
        return Inks(
            frame=style("chosen" if chosen else "frame"), title=style("title"), axis=style("axis"), best=style("best"), cursor=style("cursor"),
            box=style("box"), line=lambda number, faint: line_style(self.app, number, faint),
            signs=signs(self.app),
        )  # fmt: skip
