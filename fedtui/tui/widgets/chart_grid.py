"""Charts side by side, as many as fit: one cursor and one stretch of the x axis for all of them."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from fedtui.tui.widgets.canvas import arrays
from fedtui.tui.widgets.chart import Chart, Look, Series

if TYPE_CHECKING:
    import numpy as np

LEAST_WIDTH, LEAST_HEIGHT = 38, 8  # of a chart, where the grid chooses
_SHAPE = 4.0  # width to height of a chart that looks best
_LEAST_ROUNDS = 2.0  # that zooming in leaves


class ChartGrid(Widget, can_focus=True):
    """Shows a chart for each name; what is to be drawn in it is asked for when the chart is visible.

    Attributes
    ----------
    names : of the charts, in order.
    chosen : the chart that keys are about.
    columns, rows : of the grid; 0 as fits the window best.
    logarithmic : the charts with a logarithmic axis.
    single : only the chosen chart, in the whole place.
    view, cursor : see `Look`; the same for all charts.
    """

    DEFAULT_CSS = "ChartGrid { layout: grid; grid-gutter: 0 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "choose(1)", "next chart", show=False),
        Binding("up,k", "choose(-1)", "previous chart", show=False),
        Binding("g,home", "choose(-1000000)", "first chart", show=False),
        Binding("G,end", "choose(1000000)", "last chart", show=False),
        Binding("pagedown", "page(1)", "next page", show=False),
        Binding("pageup", "page(-1)", "previous page", show=False),
        Binding("left", "cursor(-1)", "cursor", key_display="←→"),
        Binding("right", "cursor(1)", "cursor right", show=False),
        Binding("enter", "single", "enlarge"),
        Binding("y", "log", "log y"),
        Binding("plus,equals_sign", "zoom(0.5)", "zoom", key_display="+-"),
        Binding("minus", "zoom(2)", "zoom out", show=False),
        Binding("shift+left,comma", "pan(-0.25)", "pan left", show=False),
        Binding("shift+right,full_stop", "pan(0.25)", "pan right", show=False),
        Binding("0", "whole", "whole axis", show=False),
        Binding("c", "columns", "columns", show=False),
        Binding("v", "rows", "rows", show=False),
        Binding("escape", "clear", "back", show=False),
    ]

    class Chosen(Message):
        """Another chart is chosen, or the grid shows others."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.names: tuple[str, ...] = ()
        self.chosen = ""
        self.columns = self.rows = 0
        self.logarithmic: set[str] = set()
        self.single = False
        self.view: tuple[float, float] | None = None
        self.cursor: float | None = None
        self._x_kind = "round"
        self._draw: Callable[[str], Sequence[Series]] = lambda name: ()
        self._shape = (0, 0)
        self._shown: tuple[str, ...] = ()

    def put(self, names: Sequence[str], draw: Callable[[str], Sequence[Series]], x_kind: str) -> None:
        """Show these charts; `draw` gives the series of one."""
        if x_kind != self._x_kind:
            self.view = self.cursor = None
        self.names, self._draw, self._x_kind = tuple(names), draw, x_kind
        if self.chosen not in self.names:
            self.chosen = self.names[0] if self.names else ""
        self.put_in_place()

    @property
    def page(self) -> tuple[int, int]:
        """Which page is shown, from 1, and how many there are."""
        room = max(math.prod(self._shape), 1)
        return self._index // room + 1, max(math.ceil(len(self.names) / room), 1)

    def put_in_place(self) -> None:
        """Put the charts of the page where they belong."""
        if not self.size.area or not self.is_mounted:
            return
        columns, rows = self._shape = (1, 1) if self.single else self._best_shape()
        self.styles.grid_size_columns, self.styles.grid_size_rows = columns, rows
        begin = (self.page[0] - 1) * columns * rows
        self._shown = self.names[begin : begin + columns * rows]
        charts = list(self.query(Chart))
        if new := [Chart(named=False) for _ in range(len(self._shown) - len(charts))]:
            self.mount(*new)
        for place, chart in enumerate([*charts, *new]):
            chart.display = place < len(self._shown)
            if chart.display:
                chart.title = self._shown[place]
                chart.named = self.single
                chart.show(self._draw(chart.title))
        self.look()
        self.post_message(self.Chosen())

    def look(self) -> None:
        """Let the charts look at their series as is set here."""
        for chart in self._visible():
            log_y, chosen = chart.title in self.logarithmic, chart.title == self.chosen and len(self._shown) > 1
            chart.look = Look(log_y=log_y, x_kind=self._x_kind, view=self.view, cursor=self.cursor, chosen=chosen)

    def on_resize(self) -> None:
        """Another shape may fit better."""
        self.put_in_place()

    def on_chart_picked(self, event: Chart.Picked) -> None:
        """A click chooses the chart and puts the cursor there."""
        event.stop()
        self.focus()
        places = self._positions()
        if event.x is not None and len(places):
            self.cursor = float(min(places, key=lambda place: abs(place - event.x)))
        self._choose(self.names.index(event.chart.title))

    def state(self) -> dict[str, Any]:
        """What is to be kept."""
        return {"chosen": self.chosen, "columns": self.columns, "rows": self.rows, "log": sorted(self.logarithmic), "single": self.single}

    def restore(self, state: dict[str, Any]) -> None:
        """Take that back."""
        self.chosen, self.single = str(state.get("chosen", "")), state.get("single") is True
        self.columns, self.rows = (min(max(int(state.get(name, 0)), 0), 9) for name in ("columns", "rows"))
        self.logarithmic = {str(name) for name in state.get("log", [])}

    def action_choose(self, by: int) -> None:
        """Choose another chart."""
        self._choose(min(max(self._index + by, 0), len(self.names) - 1))

    def action_page(self, by: int) -> None:
        """Choose a chart of another page."""
        self.action_choose(by * max(math.prod(self._shape), 1))

    def action_cursor(self, by: int) -> None:
        """Move the cursor to the next round that has a value."""
        places = self._positions()
        if not len(places):
            return
        if self.cursor is None:
            index = len(places) - 1 if by < 0 else 0
        else:
            index = int(places.searchsorted(self.cursor, "left" if by < 0 else "right")) - (by < 0)
        self.cursor = float(places[min(max(index, 0), len(places) - 1)])
        if self.view and not self.view[0] <= self.cursor <= self.view[1]:
            self._move_view(self.cursor - sum(self.view) / 2)
        self.look()

    def action_single(self) -> None:
        """Enlarge the chosen chart, or show all again."""
        self.single = not self.single
        self.put_in_place()

    def action_log(self) -> None:
        """Switch the chosen chart between a linear and a logarithmic axis."""
        self.logarithmic ^= {self.chosen}
        self.look()

    def action_zoom(self, factor: float) -> None:
        """Show a smaller or larger stretch, around the cursor or else the middle."""
        extent = self._extent()
        if extent is None:
            return
        low, high = self.view or extent
        least = _LEAST_ROUNDS if self._x_kind == "round" else (extent[1] - extent[0]) / 1000
        span = max((high - low) * factor, least)
        if span >= extent[1] - extent[0]:
            self.view = None
        else:
            centre = self.cursor if self.cursor is not None and low <= self.cursor <= high else (low + high) / 2
            begin = centre - span * (centre - low) / (high - low)
            self.view = (begin, begin + span)
            self._move_view(0.0)
        self.look()

    def action_pan(self, share: float) -> None:
        """Move along the axis by a share of what is shown."""
        if self.view:
            self._move_view((self.view[1] - self.view[0]) * share)
            self.look()

    def action_whole(self) -> None:
        """Show the whole axis."""
        self.view = None
        self.look()

    def action_columns(self) -> None:
        """One column more, beyond the most that fit as many as look best."""
        self.columns = (self.columns + 1) % (self._most()[0] + 1)
        self.put_in_place()

    def action_rows(self) -> None:
        """One row more, likewise."""
        self.rows = (self.rows + 1) % (self._most()[1] + 1)
        self.put_in_place()

    def action_clear(self) -> None:
        """Take back one step: the enlarged chart, the cursor, the zoom."""
        if self.single:
            self.action_single()
        elif self.cursor is not None or self.view:
            self.cursor, self.view = None, self.view if self.cursor is not None else None
            self.look()
        else:
            raise SkipAction

    @property
    def _index(self) -> int:
        return self.names.index(self.chosen) if self.chosen in self.names else 0

    def _choose(self, index: int) -> None:
        if not 0 <= index < len(self.names):
            return
        self.chosen = self.names[index]
        if self.chosen in self._shown and not self.single:
            self.look()
            self.post_message(self.Chosen())
        else:
            self.put_in_place()

    def _visible(self) -> list[Chart]:
        return [chart for chart in self.query(Chart) if chart.display]

    def _positions(self) -> np.ndarray:
        """All x at which a visible chart has a value, ascending."""
        import numpy as np

        points = [arrays(series.x, series.y) for chart in self._visible() for series in chart.series]
        return np.unique(np.concatenate([x[np.isfinite(y)] for x, y in points])) if points else np.empty(0)

    def _extent(self) -> tuple[float, float] | None:
        places = self._positions()
        return (float(places[0]), float(places[-1])) if len(places) > 1 else None

    def _move_view(self, by: float) -> None:
        """Shift the view, within what there is."""
        extent = self._extent()
        if self.view and extent:
            span = self.view[1] - self.view[0]
            low = max(min(self.view[0] + by, extent[1] - span), extent[0])
            self.view = (low, low + span)

    def _most(self) -> tuple[int, int]:
        """The most columns and rows that may be asked for: charts stay readable."""
        return max(1, self.size.width // (LEAST_WIDTH // 2)), max(1, self.size.height // (LEAST_HEIGHT // 2 + 1))

    def _best_shape(self) -> tuple[int, int]:
        """Columns and rows: those asked for, else those that show all charts, or most of them, in the best shape."""
        width, height = self.size
        count = max(len(self.names), 1)
        most = max(1, width // LEAST_WIDTH), max(1, height // LEAST_HEIGHT)
        if self.columns or self.rows:
            columns = self.columns or max(1, min(most[0], math.ceil(count / self.rows)))
            return columns, self.rows or max(1, min(most[1], math.ceil(count / columns)))
        fitting = [(columns, math.ceil(count / columns)) for columns in range(1, min(most[0], count) + 1)]
        fitting = [shape for shape in fitting if shape[1] <= most[1]]

        def flaw(shape: tuple[int, int]) -> float:
            columns, rows = shape
            return abs(math.log(width / columns / (height / rows) / _SHAPE)) + 0.1 * (columns * rows - count)

        return min(fitting, key=flaw, default=most)
