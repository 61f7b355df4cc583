"""Place 2: a chart a metric, of one run or of several over one another, and the clients' figures of the chosen one."""
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, ClassVar

from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from fedtui.tui import figures
from fedtui.tui.figures import Choice, Source
from fedtui.tui.pane import Pane
from fedtui.tui.store import RUNS_READ, Store
from fedtui.tui.widgets.chart import Series
from fedtui.tui.widgets.chart_grid import ChartGrid
from fedtui.tui.widgets.client_table import ClientTable
from fedtui.tui.widgets.frame import entitle
from fedtui.tui.widgets.legend import Entry, Legend
from fedtui.tui.widgets.line_input import LineInput
from fedtui.tui.widgets.listing import Listing
from fedtui.tui.widgets.nothing import Nothing
from fedtui.tui.widgets.palette import Colours
from fedtui.tui.widgets.run_details import differences, spell_config
from fedtui.tui.widgets.run_picker import RunPicker

SMALL_HEIGHT = 28  # below it, charts or clients, not both
_PHASES = tuple(figures.PHASES)


class MetricsPane(Pane):
    """See the module."""

    TITLE, KEY = "Metrics", "2"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "clients", "per client"),
        Binding("o", "overlay", "overlay runs"),
        Binding("left_square_bracket", "smooth(-1)", "smooth", key_display="[]"),
        Binding("right_square_bracket", "smooth(1)", "smoother", show=False),
        Binding("t", "time", "time axis"),
        Binding("f", "phase", "fit/eval"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("tab", "other", "charts or clients", show=False),
        Binding("shift+tab", "other", "charts or clients", show=False),
        Binding("escape", "clear_filter", "all metrics", show=False),
    ]
    DEFAULT_CSS = """
    MetricsPane { layout: vertical; }
    MetricsPane #filter { display: none; padding: 0 1; }
    MetricsPane ChartGrid { height: 1fr; }
    MetricsPane #clients { max-height: 35%; }
    MetricsPane.-small #clients { height: 1fr; max-height: 100%; }
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._choice = Choice()
        self._filter = ""
        self._empty, self._at_clients = True, False
        self._runs, self._clients = Colours(), Colours()
        self._times: dict[str, dict[int, float]] = {}
        self._sources: list[Source] = []

    def compose(self) -> ComposeResult:
        """Legend, filter, charts, clients."""
        yield Legend()
        yield LineInput(placeholder="show only metrics whose name has … (a regular expression)", id="filter")
        yield Nothing()
        yield ChartGrid()
        yield ClientTable(self._clients, id="clients", classes="panel")

    def on_mount(self) -> None:
        """Nothing is known yet."""
        self._arrange()

    def on_resize(self) -> None:
        """In a small window there is room for charts or clients."""
        self.set_class(self.size.height < SMALL_HEIGHT, "-small")
        self._arrange()

    def show(self, store: Store, changed: frozenset[str]) -> None:
        """Bring the charts up to date."""
        if "metrics" in changed or not self._sources or self._names() != [source.name for source in self._sources]:
            self._update()

    def state(self) -> dict[str, Any]:
        """What is shown, and how."""
        return {"choice": asdict(self._choice), "filter": self._filter, "colours": self._runs.numbers,
                "clients": self._clients.numbers, "grid": self.query_one(ChartGrid).state()}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take that back."""
        kept = state.get("choice", {})
        if kept.get("phase") in _PHASES and kept.get("smoothing") in figures.SMOOTHINGS:
            self._choice = Choice(kept["phase"], kept.get("clients") is True, kept["smoothing"], kept.get("by_time") is True, str(kept.get("stressed", "")))
        self._filter = str(state.get("filter", ""))
        for colours, name in ((self._runs, "colours"), (self._clients, "clients")):
            colours.numbers.update({str(key): int(value) for key, value in state.get(name, {}).items()})
        self.query_one(ChartGrid).restore(state.get("grid", {}))

    def take_focus(self) -> None:
        """Those that the user was at last: the charts or the clients; without any, the text in their place."""
        place = Nothing if self._empty else ClientTable if self._at_clients else ChartGrid
        self.query_one(place).focus(scroll_visible=False)

    def on_chart_grid_chosen(self) -> None:
        """The table is about the chosen chart."""
        self._show_clients()
        self._show_legend()

    def on_listing_opened(self, event: Listing.Opened) -> None:
        """Bring a client's lines to the front, or none any more."""
        client = event.listing.key or ""
        self._choose(clients=True, stressed="" if client == self._choice.stressed else client)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as the user types."""
        self._filter = event.value
        self._update()

    def on_input_submitted(self) -> None:
        """Keep the filter."""
        self._close_filter()

    def on_line_input_cancelled(self) -> None:
        """Give the filter up."""
        self.query_one("#filter", Input).value = ""
        self._close_filter()

    def action_clients(self) -> None:
        """A line for each client, or only their mean."""
        self._choose(clients=not self._choice.clients)

    def action_phase(self) -> None:
        """Evaluation and training, or one of them."""
        self._choose(phase=_PHASES[(_PHASES.index(self._choice.phase) + 1) % len(_PHASES)])

    def action_time(self) -> None:
        """By round or by time."""
        self._choose(by_time=not self._choice.by_time)

    def action_smooth(self, by: int) -> None:
        """Smoother or rawer lines."""
        place = figures.SMOOTHINGS.index(self._choice.smoothing) + by
        self._choose(smoothing=figures.SMOOTHINGS[min(max(place, 0), len(figures.SMOOTHINGS) - 1)])

    def action_overlay(self) -> None:
        """Choose the runs to show."""

        def chosen(runs: list[str] | None) -> None:
            if runs is not None:
                self.store.picked = set(runs) if len(runs) > 1 else set()
                self.store.viewed = runs[0] if len(runs) == 1 and runs != newest else None
                self._update()

        newest = [run.name for run in self.store.runs[:1]]
        self.app.push_screen(RunPicker(self.store.runs, self._names()), chosen)

    def action_filter(self) -> None:
        """Ask for the names to show."""
        field = self.query_one("#filter", Input)
        field.display = True
        field.value = self._filter
        field.focus()

    def action_clear_filter(self) -> None:
        """Show all metrics again."""
        if self._filter:
            self._filter = ""
            self._update()
        else:
            raise SkipAction

    def action_other(self) -> None:
        """From the charts to the clients and back; in a small window one takes the other's place."""
        self._at_clients = not self._at_clients
        self._arrange()
        self.take_focus()

    def _close_filter(self) -> None:
        self.query_one("#filter").display = False
        self.take_focus()

    def _choose(self, **values: Any) -> None:
        self._choice = replace(self._choice, **values)
        self._update()

    def _names(self) -> list[str]:
        """The runs to show, newest first: those picked, and the one that is looked at; else the newest."""
        store = self.store
        there = [run.name for run in store.runs]
        return [name for name in there if name in store.picked or name == store.viewed][:RUNS_READ] or there[:1]

    def _update(self) -> None:
        by_name = {run.name: run for run in self.store.runs}
        names = self._names()
        short = figures.short_names(names)
        sources = [
            Source(name, self.store.tables(name), short[name], self._times.get(name, {}), figures.started(by_name[name])) for name in names
        ]
        if self._sources and not all(source.tables for source in sources):
            return  # they are being read: until then, what was shown before
        self._sources = sources
        if self._choice.by_time:
            self._read_times(names)
        metrics = [name for name in figures.metric_names(sources, self._choice) if self._matches(name)]
        self._be_empty(not metrics)
        x_kind = "round" if not self._choice.by_time else "clock" if len(names) == 1 else "elapsed"
        self.query_one(ChartGrid).put(metrics, self._series, x_kind)
        self._show_clients()
        self._show_legend()

    def _be_empty(self, empty: bool) -> None:
        """Show a text in place of the charts, or the charts again; the focus goes along."""
        if empty:
            self.query_one(Nothing).update(self._why_nothing())
        if empty != self._empty:
            self._empty = empty
            self._arrange()
            if not self.query_one("#filter").has_focus:
                self.take_focus()

    def _arrange(self) -> None:
        """What there is to see: set at once, for what is not displayed cannot take the focus."""
        small, empty = self.has_class("-small"), self._empty
        self.query_one(Nothing).display = empty
        self.query_one(Legend).display = not empty
        self.query_one(ChartGrid).display = not empty and not (small and self._at_clients)
        self.query_one(ClientTable).display = not empty and (not small or self._at_clients)

    def _series(self, metric: str) -> list[Series]:
        return figures.series_of(metric, self._sources, self._choice, self._runs, self._clients)

    def _matches(self, name: str) -> bool:
        try:
            return re.search(self._filter, name, re.IGNORECASE) is not None
        except re.error:
            return self._filter.lower() in name.lower()

    def _read_times(self, names: Sequence[str]) -> None:
        """Look up in a thread when the rounds were complete."""
        paths = {run.name: run.path for run in self.store.runs if run.name in names}
        self.run_worker(partial(self._times_of, paths), thread=True, exclusive=True, group="times")

    def _times_of(self, paths: dict[str, Any]) -> None:
        times = {name: figures.round_times(path) for name, path in paths.items()}
        if times != {name: self._times.get(name) for name in times}:
            self.app.call_from_thread(self._take_times, times)

    def _take_times(self, times: dict[str, dict[int, float]]) -> None:
        self._times |= times
        self._update()

    def _show_clients(self) -> None:
        table, metric = self.query_one(ClientTable), self.query_one(ChartGrid).chosen
        found = figures.client_figures(self._sources[0].tables, metric, self._choice.phase) if self._sources else []
        entitle(table, f"Clients · {metric}" + (f" · {self._sources[0].label}" if len(self._sources) > 1 else ""))
        table.show(found)

    def _show_legend(self) -> None:
        names = [source.name for source in self._sources]
        if len(names) > 1:
            differ = differences([run for run in self.store.runs if run.name in names])
            entries = [Entry(name, self._runs.of(name), spell_config(differ.get(name, {}))) for name in names]
        else:
            shown = {"both": ("eval", "fit"), "evaluation": ("eval",), "training": ("fit",)}[self._choice.phase]
            entries = [Entry(name, ("eval", "fit").index(name)) for name in shown]
            clients = figures.client_names(self._sources[0].tables, self._choice.phase) if self._choice.clients and self._sources else []
            entries += [Entry(name, figures.FIRST_CLIENT + self._clients.of(name)) for name in clients]
        self.query_one(Legend).show(entries, self._note())

    def _note(self) -> str:
        """How the charts are shown, as far as it is not as usual."""
        grid, choice = self.query_one(ChartGrid), self._choice
        page, pages = grid.page
        parts = [self._sources[0].name if len(self._sources) == 1 else "", {"both": ""}.get(choice.phase, choice.phase)]
        parts += ["faint: worst site" if any(line.name == figures.WORST_SITE for line in self._series(grid.chosen)) else ""]
        secure = {run.name for run in self.store.runs if run.config.get("secure-aggregation") is True}
        parts += ["secure aggregation: sums only, no single clients" if any(source.name in secure for source in self._sources) else ""]
        parts += [f"{choice.stressed} in front" if choice.clients and choice.stressed else ""]
        parts += [f"smoothed {choice.smoothing}" if choice.smoothing else "", f"filter {self._filter}" if self._filter else ""]
        parts += [f"page {page}/{pages}" if pages > 1 and not grid.single else ""]
        return " · ".join(part for part in parts if part)

    def _why_nothing(self) -> str:
        """What is missing, and which key helps."""
        if not self.store.loaded:
            return "looking …"
        if not self.store.runs:
            return self.store.no_run or "No run yet.\n\nu starts the server and all clients; the first figures come with the first complete round."
        if self._filter:
            return f"No metric has “{self._filter}” in its name.\n\nesc shows all metrics again."
        if not all(source.tables for source in self._sources):
            return "reading the tables …"
        return f"{self._sources[0].name} has no complete round yet.\n\n1 shows how far it is, o chooses other runs."
