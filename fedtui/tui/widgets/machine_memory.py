"""The memory of the machine, or of its cgroup: each process's part of it, the others', and what is free."""
from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.style import Style
from textual.content import Content
from textual.style import Style as ContentStyle
from textual.widget import Widget

from fedtui.memory_rules import STEPS
from fedtui.tui.glyphs import MUTED, glyph
from fedtui.tui.widgets.memory_bar import FULL, TIGHT, gigabytes

LOW = 30  # rows of a terminal without room for a panel on the guard's decisions
Part = tuple[str, float, Style]  # name, MB, colour


def limit_mb(machine: Mapping[str, Any]) -> float:
    """What may be used: the cgroup's limit, or all there is."""
    return float(min(machine["limit_mb"] or machine["total_mb"], machine["total_mb"]))


def decision_line(decision: Mapping[str, Any]) -> str:
    """One of the guard's decisions in a line."""
    when = time.strftime("%H:%M:%S", time.localtime(decision["time"]))
    who = f" {decision['process']}" if decision["process"] else ""
    return f"{when}  {decision['action']}{who}{' (dry run)' if decision.get('dry_run') else ''}: {decision['reason']}"


class MachineMemory(Widget):
    """A bar, on which marks show where the guard acts, two lines of figures, and one on the guard."""

    DEFAULT_CSS = "MachineMemory { height: 4; }"

    def __init__(self) -> None:
        super().__init__()
        self._machine: Mapping[str, Any] = {}
        self._guard: Mapping[str, Any] = {}
        self._parts: list[Part] = []
        self._shown: Content | None = None

    def show(self, machine: Mapping[str, Any], guard: Mapping[str, Any], parts: Iterable[Part]) -> None:
        """Bring it up to date."""
        self._machine, self._guard, self._parts = machine, guard, list(parts)
        if (content := self._content()) != self._shown:
            self._shown = content
            self.refresh()

    def on_resize(self) -> None:
        """The bar has another length."""
        self._shown = self._content()
        self.refresh()

    def render(self) -> Content:
        """The three lines."""
        return self._shown or self._content()

    def _content(self) -> Content:
        machine = self._machine
        if not machine:
            return Content.styled("not measured yet", MUTED)
        total, ours = limit_mb(machine), sum(size for _, size, _ in self._parts)
        free = min(machine["available_mb"], max(total - ours, 0.0))
        used = total - free
        tone = "$error" if used > FULL * total else "$warning" if used > TIGHT * total else "$success"
        limited = machine["limit_mb"] and machine["limit_mb"] < machine["total_mb"]
        what = f"limit {gigabytes(total)} (of the cgroup)" if limited else f"{gigabytes(total)} in this machine"
        others = f"  others {gigabytes(used - ours)}" if used - ours >= 1 else ""
        swap = f"  swap {gigabytes(machine['swap_used_mb'])} of {gigabytes(machine['swap_total_mb'])}" if machine["swap_total_mb"] else "  no swap"
        stalled = (machine.get("pressure") or {}).get("avg10", 0.0)
        return Content.assemble(
            self._bar(total, used), "\n",
            (f"free {gigabytes(free)}", f"bold {tone}"), f"  federation {gigabytes(ours)}{others}",
            (f"  {glyph('warning')} stalled {stalled:.0f} % of the time" if stalled >= 1 else "", "$warning"), "\n",
            (f"{what}{swap}", MUTED), "\n", self._guard_line(),
        )  # fmt: skip

    def _guard_line(self) -> Content:
        """What the guard does, and below how much it does more."""
        guard = self._guard
        if not guard:
            return Content("")
        if guard["state"] == "off":
            return Content.styled("guard off: memory.guard = false in [tool.fedtui]", MUTED)
        bounds = guard["thresholds_mb"]
        step = guard["step"]
        dry = " (dry run)" if guard["state"] == "dry-run" else ""
        tone = MUTED if step == "calm" else "$warning" if step in ("warn", "hold") else "$error"
        rules = f"  starts leave {gigabytes(bounds['hold'])} free, clients stop below {gigabytes(bounds['stop'])}"
        if guard["last"] and self.app.size.height < LOW:
            rules = f"  {decision_line(guard['last'][-1])}"
        return Content.assemble((f"guard{dry}: {STEPS[step]}", tone), (rules, MUTED))

    def _bar(self, total: float, used: float) -> Content:
        width = max(self.size.width, 1)
        ends, sizes = 0.0, [*(size for _, size, _ in self._parts), max(used - sum(size for _, size, _ in self._parts), 0.0)]
        styles: Sequence[Style | None] = [*(style for _, _, style in self._parts), None]
        parts: list[Content | tuple[str, str | ContentStyle]] = []
        begin = 0
        for size, style in zip(sizes, styles, strict=True):
            ends += size
            end = min(round(ends / total * width), width)
            parts.append(("▒" * (end - begin), MUTED) if style is None else ("█" * (end - begin), ContentStyle.from_rich_style(style)))
            begin = max(begin, end)
        marks = {round((total - bound) / total * width): tone for bound, tone in self._marks()}
        free: list[tuple[str, str]] = [("┆", marks[x]) if x in marks else ("░", "$foreground 25%") for x in range(begin, width)]
        return Content.assemble(*parts, *free)

    def _marks(self) -> list[tuple[float, str]]:
        """How much is left where the guard begins to hold starts, and to stop clients."""
        if self._guard.get("state") in (None, "off"):
            return []
        bounds = self._guard["thresholds_mb"]
        return [(bounds["hold"], "$warning"), (bounds["stop"], "bold $error")]
