"""Place 1: the processes, the run, its curves, and the end of the selected process's log."""
from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.widget import Widget

from fedtui.cleaning import clean
from fedtui.processes import describe
from fedtui.tui.glyphs import sparkline
from fedtui.tui.pane import Pane
from fedtui.tui.store import RunTables, Store
from fedtui.tui.widgets.chart import Chart, Series
from fedtui.tui.widgets.frame import entitle
from fedtui.tui.widgets.log_tail import LogTail
from fedtui.tui.widgets.memory_bar import MemoryBar
from fedtui.tui.widgets.process_table import Cell, ProcessTable, cells_of
from fedtui.tui.widgets.run_header import RunHeader

if TYPE_CHECKING:
    from textual.widgets import Input

SMALL = (100, 32)  # in a window below this size one panel at a time stands under the table
BIN_S, BINS = 12, 10
CURVES = ("loss", "accuracy")


class LogPanel(Vertical, can_focus=True):
    """The end of a log in a frame."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "app.go('logs')", "whole log")]


class ChartPanel(Horizontal, can_focus=True):
    """The two curves side by side."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "app.go('metrics')", "all metrics")]


class OverviewPane(Pane):
    """See the module."""

    TITLE, KEY, ABOUT_PROCESS = "Overview", "1", True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("tab", "panel(1)", "next panel", show=False),
        Binding("shift+tab", "panel(-1)", "previous panel", show=False),
        Binding("escape", "clear", "back", show=False),
    ]
    DEFAULT_CSS = """
    OverviewPane { layout: vertical; }
    OverviewPane RunHeader { height: 4; }
    OverviewPane ProcessTable { height: auto; max-height: 40%; min-height: 4; }
    OverviewPane Input { height: 1; border: none; padding: 0 1; background: $surface; }
    OverviewPane ChartPanel { height: 2fr; min-height: 6; }
    OverviewPane ChartPanel:focus Chart { color: $accent; }
    OverviewPane LogPanel { height: 1fr; min-height: 4; }
    OverviewPane.-small .lower { display: none; }
    OverviewPane.-small .lower.-shown { display: block; }
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._filter = ""
        self._lower = "charts"
        self._drawn: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """The run, the processes, the curves, the log, the memory."""
        yield RunHeader(classes="panel")
        yield ProcessTable(id="processes", classes="panel")
        with ChartPanel(id="charts", classes="lower"):
            yield Chart("loss", empty="no round yet")
            yield Chart("accuracy", empty="no round yet")
        with LogPanel(id="log", classes="panel lower"):
            yield LogTail()
        yield MemoryBar()

    def on_mount(self) -> None:
        """Titles of the panels."""
        self.query_one(RunHeader).border_title = "Run"
        self._arrange()
        self.on_resize()

    def on_resize(self) -> None:
        """Small windows show one panel at a time under the table."""
        self.set_class(self.app.size.width < SMALL[0] or self.app.size.height < SMALL[1], "-small")

    @property
    def marked(self) -> Iterable[str]:
        """The processes marked with space."""
        return self.query_one(ProcessTable).marked

    def show(self, store: Store, changed: frozenset[str]) -> None:
        """Bring the panels up to date."""
        if changed & {"processes", "memory", "metrics", "progress", "daemon", "file"}:
            self.query_one(RunHeader).show(store)
            self._show_processes()
            self.query_one(MemoryBar).show(store)
        if changed & {"metrics", "progress"}:
            self._show_curves(store)
        self._show_log()

    def state(self) -> dict[str, Any]:
        """The filter, and the panel under the table."""
        return {"filter": self._filter, "lower": self._lower}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self._filter = clean(str(state.get("filter", "")))
        self._lower = "log" if state.get("lower") == "log" else "charts"
        self._arrange()

    def take_focus(self) -> None:
        """The keys are for the processes."""
        self.query_one(ProcessTable).focus()

    # Panels

    def _show_processes(self) -> None:
        store, table = self.store, self.query_one(ProcessTable)
        answered, examples = _parts_in_the_run(store)
        shown = [process for process in store.processes if self._filter.lower() in process["name"].lower()]
        rows: list[dict[str, Cell]] = []
        for process in shown:
            name = process["name"]
            rows.append(dict(cells_of(
                process, store.pending.get(name), describe(process), history=_history(store.history.get(name, deque())),
                examples=examples.get(name, ""), round=answered.get(name, ""),
            )))  # fmt: skip
        table.show(rows, store.selected)
        if store.processes and (table.selected or "") != store.selected:  # what keys act on is what is in sight, or nothing
            self._select(table.selected or "")
        running, far = len(store.active), sum(process.get("role") == "remote" for process in store.processes)
        how = f"{running} of {len(store.processes) - far} run" + (f", {far} on other machines" if far else "")
        how = how if store.daemon_ok else "as last seen" if store.loaded else ""
        entitle(table, f"Processes  {how}", f"filter: {self._filter}" if self._filter else "")

    def _show_curves(self, store: Store) -> None:
        run = store.progress.get("run")
        tables = store.tables(run) if run else {}
        drawn = (run, tables.get("fit_metrics"), tables.get("eval_metrics"))  # a table that has changed is another one
        if drawn != self._drawn:
            self._drawn = drawn
            for chart, name in zip(self.query(Chart), CURVES, strict=True):
                chart.show(list(_curves(tables, name)))

    def _show_log(self) -> None:
        process = self.store.process()
        self.query_one(LogTail).show(Path(process["log"]) if process and process.get("log") else None)
        entitle(self.query_one(LogPanel), f"Log of {process['name']}" if process else "Log")

    def on_process_table_selected(self, event: ProcessTable.Selected) -> None:
        """The log and the keys follow the cursor."""
        if event.name and event.name != self.store.selected:
            self._select(event.name)
        else:
            self._show_processes()

    def _select(self, name: str) -> None:
        self.store.selected = name
        self._show_log()
        self.refresh_bindings()

    def on_process_table_opened(self) -> None:
        """Enter on a process shows its log."""
        self.call_later(self.fed.run_action, "app.go('logs')")

    # Keys

    def action_panel(self, step: int) -> None:
        """To the next panel; where there is room for one only, it takes the place of the other."""
        panels: list[Widget] = [self.query_one(f"#{name}") for name in ("processes", "charts", "log")]
        here = next((number for number, panel in enumerate(panels) if panel.has_focus), 0)
        panel = panels[(here + step) % len(panels)]
        if panel.id != "processes":
            self._lower = str(panel.id)
            self._arrange()
        panel.focus()

    async def action_filter(self) -> None:
        """Type a part of the names to show."""
        from fedtui.tui.widgets.line_input import LineInput  # only now: the first paint need not pay for it

        await self.query("Input").remove()
        entry = LineInput(self._filter, "show only processes whose name has …; enter keeps it, escape ends it")
        await self.mount(entry, after=self.query_one(ProcessTable))
        entry.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self._filter = event.value
        self._show_processes()

    async def on_input_submitted(self) -> None:
        """Keep the filter."""
        await self.query("Input").remove()
        self.take_focus()

    async def on_line_input_cancelled(self) -> None:
        """Show all again."""
        await self.action_clear()

    async def action_clear(self) -> None:
        """Take back, one at a time: the filter, the marks; then what is open over the place."""
        await self.query("Input").remove()
        if self._filter:
            self._filter = ""
            self._show_processes()
        elif not self.query_one(ProcessTable).clear_marks():
            await self.fed.action_back()
        self.take_focus()

    def _arrange(self) -> None:
        try:
            for panel in self.query(".lower"):
                panel.set_class(panel.id == self._lower, "-shown")
        except NoMatches:  # not composed yet
            return


def _parts_in_the_run(store: Store) -> tuple[dict[str, str], dict[str, str]]:
    """By client: the round of its last answer, and on how many examples it trains."""
    run = store.progress.get("run")
    tables = store.tables(run) if run else {}
    answered: dict[str, str] = {}
    examples: dict[str, str] = {}
    if (parts := tables.get("participation")) and len(parts):
        for name, outcome, number in zip(parts.texts("client_id"), parts.texts("outcome"), parts.numbers("round").tolist(), strict=True):
            if outcome == "ok" and number == number:
                answered[name] = f"{number:.0f}"
    for name, site in (store.run.get("sites") or {}).items():
        if isinstance(site, dict) and isinstance(site.get("train"), int):
            examples[name] = str(site["train"])
    return answered, examples


def _history(points: Iterable[tuple[float, float]]) -> str:
    """The last two minutes of memory as bars from nought: the largest value of each stretch of 12 s, so that it seldom changes."""
    last = int(time.time() // BIN_S)
    bins: dict[int, float] = {}
    for moment, size in points:
        place = int(moment // BIN_S)
        if place > last - BINS:
            bins[place] = max(bins.get(place, 0.0), size)
    return sparkline([bins[place] for place in sorted(bins)], BINS, low=0.0)


def _curves(tables: RunTables, name: str) -> Iterable[Series]:
    """What is in front comes last, in the colours that it has in Metrics, too."""
    for colour, table, label in ((1, "fit_metrics", "fit"), (0, "eval_metrics", "eval")):
        found = tables.get(table)
        if found is not None and name in found.columns and len(found):
            yield Series(label, found.numbers("round"), found.numbers(name), colour)

