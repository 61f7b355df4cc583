"""Memory: what each process uses, over time and against the limit, and what stopping it would free."""
from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.style import Style
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from fedtui.gpu import Gpu, Gpus
from fedtui.processes import CLIENT_HOST
from fedtui.tui.actions import in_background
from fedtui.tui.glyphs import bar, glyph
from fedtui.tui.pane import Pane
from fedtui.tui.store import HISTORY, Store
from fedtui.tui.widgets.listing import Cell, Column, Listing, Row
from fedtui.tui.widgets.machine_memory import LOW, MachineMemory, decision_line, limit_mb
from fedtui.tui.widgets.memory_bar import gigabytes
from fedtui.tui.widgets.palette import Colours, line_style
from fedtui.tui.widgets.stack_chart import Layer, StackChart

GPU_S = 5.0  # between two looks at the GPUs
RECENT_S = 300
FORKED = "clients are forked from it"
EMPTY = "nothing runs\n\nu starts the federation; a process and its memory appear here as it starts"
COLUMNS = (
    Column("", 1, 1), Column("PROCESS", 30, 10), Column("USES (PSS)", 10, 10, right=True), Column("STOPPING FREES", 14, 14, right=True),
    Column("RESIDENT", 9, 9, right=True, beyond=70), Column("SWAP", 8, 6, right=True, beyond=84), Column("GPU", 8, right=True), Column("LAST 5 MIN", 10, 10, right=True),
    Column("", least=16),
)  # fmt: skip


class MemoryPane(Pane):
    """The machine, a chart, and a row a process."""

    TITLE, KEY = "Memory", "5"
    ABOUT_PROCESS = True
    DEFAULT_CSS = """
    MemoryPane { layout: vertical; }
    MemoryPane #machine { height: 6; }
    MemoryPane #chart { height: 1fr; min-height: 7; }
    MemoryPane #processes { height: auto; min-height: 5; max-height: 50%; }
    MemoryPane #processes Listing { height: auto; }
    MemoryPane #guard { height: auto; display: none; }
    MemoryPane #gpus { height: auto; display: none; }
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._colours = Colours()
        self._gpus: list[Gpu] = []
        self._reader: Gpus | None = Gpus()  # None while it is being asked, and for good when there is no GPU
        self._asked = 0.0
        self._decisions: list[str] = []

    def compose(self) -> ComposeResult:
        """Three panels, one for what the guard has decided, and one for GPUs where there are any."""
        with Vertical(id="machine", classes="panel") as machine:
            machine.border_title = "Memory"
            yield MachineMemory()
        with Vertical(id="chart", classes="panel") as chart:
            chart.border_title = "Processes over time"
            yield StackChart(HISTORY)
        with Vertical(id="processes", classes="panel") as processes:
            processes.border_title = "Processes"
            processes.border_subtitle = "stopping a process frees what it shares with no other"
            yield Listing(COLUMNS, EMPTY, id="sizes")
        yield Static(id="guard", classes="panel", markup=False)
        yield Static(id="gpus", classes="panel", markup=False)

    def take_focus(self) -> None:
        """The processes."""
        self.query_one(Listing).focus(scroll_visible=False)

    def state(self) -> dict[str, Any]:
        """The processes' colours."""
        return {"colours": self._colours.numbers}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them back."""
        self._colours.numbers.update({str(name): int(number) for name, number in state.get("colours", {}).items()})

    def show(self, store: Store, changed: frozenset[str]) -> None:
        """Follow the measurements."""
        self._ask_gpus()
        if not changed & {"memory", "processes", "daemon"}:
            return
        machine, sizes = store.memory.get("machine", {}), {process["name"]: process for process in store.memory.get("processes", ())}
        names = [*(process["name"] for process in store.processes), CLIENT_HOST]
        limit = limit_mb(machine) if machine else None
        guard = store.memory.get("guard") or {}
        self.query_one(MachineMemory).show(machine, guard, [(name, _uses(size) or 0.0, self._style(name)) for name, size in sizes.items()])
        layers = [Layer(name, self._style(name), list(store.history[name])) for name in names if name in store.history]
        self.query_one(StackChart).show(layers, time.time(), limit)
        held = [process["name"] for process in store.processes if process["state"] == "held"]
        listing = self.query_one(Listing)
        listing.put([Row(name, self._cells(name, sizes.get(name, {}))) for name in names if name in sizes or name in held])
        if store.selected in sizes or store.selected in held:
            listing.go(store.selected)
        elif listing.key is not None:  # what keys act on is what is in sight; the client host is no process to act on
            store.selected = listing.key
        together = sum(_uses(size) or 0.0 for size in sizes.values())
        title = f"Processes  {_size(together)} together" if len(sizes) > 1 else "Processes"
        if (panel := self.query_one("#processes")).border_title != title:
            panel.border_title = title
        self._show_decisions(guard)

    def _show_decisions(self, guard: dict[str, Any]) -> None:
        """The last ones, the newest first; in a low terminal the line on the guard has to do."""
        lines = [] if self.app.size.height < LOW else [decision_line(decision) for decision in reversed(guard.get("last") or ())][:4]
        panel = self.query_one("#guard", Static)
        panel.display = bool(lines)
        if self._decisions != lines:
            self._decisions = lines
            panel.border_title, panel.border_subtitle = "Memory guard", "fedtui memory --history has all, with their figures"
            panel.update("\n".join(lines))

    @on(Listing.Moved, "#sizes")
    def _moved(self) -> None:
        if (key := self.query_one(Listing).key) is not None:
            self.store.selected = key
            self.refresh_bindings()

    @on(Listing.Opened, "#sizes")
    async def _opened(self) -> None:
        if self.store.selected != CLIENT_HOST:  # its output is no log of this list
            await self.fed.action_go("logs")

    def _style(self, name: str) -> Style:
        return line_style(self.app, self._colours.of(name))

    def _cells(self, name: str, size: dict[str, Any]) -> tuple[Cell, ...]:
        colour = self._style(name).color
        process = self.store.process(name) or {}
        note = self._note(name, size, process)
        pid = process.get("pid")
        on_gpu = sum(gpu.processes.get(pid, 0.0) for gpu in self._gpus) if pid is not None else 0.0
        return (
            (glyph("selected"), colour.name if colour else "") if size else (glyph("held"), "warning"), name, _size(_uses(size)), _size(size.get("uss_mb")),
            (_size(size.get("rss_mb")), "muted"), (_swap(size.get("swap_mb")), "warning"), _size(on_gpu) if on_gpu else "",
            (_growth(self.store.history.get(name, ())) if size else "", "muted"), (note, "muted" if note == FORKED else "warning"),
        )  # fmt: skip

    def _note(self, name: str, size: dict[str, Any], process: dict[str, Any]) -> str:
        """Why it is held, or what will become of it."""
        if not size:
            return f"held: {process.get('reason')}"
        forecast = next((entry for entry in (self.store.memory.get("guard") or {}).get("forecasts", ()) if entry["process"] == name), None)
        if forecast:
            return str(forecast["text"]).removeprefix(f"{name} ")
        return "the kernel does not tell what it shares" if size.get("pss_refused") else FORKED if name == CLIENT_HOST else ""

    # GPUs

    def _ask_gpus(self) -> None:
        reader, now = self._reader, time.monotonic()
        if reader is None or (self._asked and now - self._asked < GPU_S):
            return
        self._reader, self._asked = None, now
        in_background(self.app, reader.read, lambda gpus: self._show_gpus(reader, gpus), lambda error: None)

    def _show_gpus(self, reader: Gpus, gpus: list[Gpu]) -> None:
        self._reader = reader if gpus else None
        self._gpus = gpus
        panel = self.query_one("#gpus", Static)
        panel.display = bool(gpus)
        panel.border_title = "GPU memory"
        panel.update("\n".join(map(_gpu_line, gpus)))


def _gpu_line(gpu: Gpu) -> str:
    busy = "" if gpu.busy_percent is None else f"  {gpu.busy_percent} % busy"
    share = gpu.used_mb / gpu.total_mb if gpu.total_mb else 0.0
    return f"{gpu.name}  {bar(share, 20)}  {gigabytes(gpu.used_mb)} of {gigabytes(gpu.total_mb)}{busy}"


def _uses(size: dict[str, Any]) -> float | None:
    """PSS, brought up to date; RSS where the kernel refuses that."""
    return size.get("use_mb")


def _size(megabytes: float | None) -> str:
    return "" if megabytes is None else gigabytes(megabytes)


def _swap(megabytes: float | None) -> str:
    return gigabytes(megabytes) if megabytes and megabytes >= 1 else ""


def _growth(history: Sequence[tuple[float, float]]) -> str:
    """How much more or less it is than five minutes ago, or as long ago as is known; empty below 1 MB."""
    if not history:
        return ""
    end, now = history[-1]
    before = next(size for moment, size in history if moment >= end - RECENT_S)
    return "" if abs(now - before) < 1 else f"{'+' if now > before else '−'}{gigabytes(abs(now - before))}"
