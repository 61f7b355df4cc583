"""The memory of the machine, or of its cgroup, as one line: whose it is, what is left, and what the guard does."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget

from fedtui.memory_rules import STEPS
from fedtui.tui.glyphs import MUTED, glyph
from fedtui.tui.store import Store

TIGHT, FULL = 0.8, 0.92  # used fractions from which the bar warns


class MemoryBar(Widget):
    """Ours, others', free; then figures."""

    DEFAULT_CSS = "MemoryBar { height: 1; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__()
        self._memory: Mapping[str, Any] = {}
        self._guard = ""
        self._line: Content | None = None

    def show(self, store: Store) -> None:
        """Bring it up to date."""
        self._memory = store.memory
        held = [process["name"] for process in store.processes if process.get("waits_for") in ("memory", "return")]
        step = (store.memory.get("guard") or {}).get("step", "calm")
        self._guard = f"{', '.join(held)} held back for want of memory" if held else "" if step == "calm" else STEPS[step]
        line, old = self._content(), self._line
        self._line = line
        if old is None or line.spans != old.spans or len(line) != len(old):
            self.refresh()
        elif line != old:  # only figures: from the first that differs
            same = next(place for place, (new, was) in enumerate(zip(line.plain, old.plain, strict=True)) if new != was)
            self.refresh(Region(same, 0, self.size.width - same, 1))

    def on_resize(self) -> None:
        """Its parts have other lengths now."""
        self._line = self._content()
        self.refresh()

    def render(self) -> Content:
        """The line."""
        return self._line or Content("")

    def _content(self) -> Content:
        machine = self._memory.get("machine")
        if not machine:
            return Content.styled("Memory: not measured yet", MUTED)
        limit = machine.get("limit_mb")
        total = min(limit or machine["total_mb"], machine["total_mb"])
        ours = sum(process.get("pss_mb") or process.get("rss_mb") or 0 for process in self._memory.get("processes", ()))
        free = min(machine["available_mb"], total)
        used = max(total - free, ours)
        fraction = used / total if total else 0.0
        figures = f" federation {gigabytes(ours)}  used {gigabytes(used)} of {gigabytes(total)}{' (limit)' if limit and limit < machine['total_mb'] else ''}"
        if machine.get("swap_used_mb"):
            figures += f"  swap {gigabytes(machine['swap_used_mb'])}"
        style = "$error" if fraction > FULL else "$warning" if fraction > TIGHT else "$success"
        tail: list[str | Content | tuple[str, str]] = []
        if fraction > TIGHT:
            tail.append((f" {glyph('warning')} {'nearly full' if fraction > FULL else 'tight'} ", f"bold {style}"))
        if self._guard:
            tail.append((f" {glyph('held')} {self._guard} ", "$warning"))
        end = Content.assemble(*tail, figures)
        width = max(self.size.width - len("Memory ") - end.cell_length, 8)
        own = min(round(ours / total * width), width) if total else 0
        rest = min(round(fraction * width), width) - own
        return Content.assemble(
            ("Memory ", MUTED), ("█" * own, "$accent"), ("▒" * max(rest, 0), style), ("░" * (width - own - max(rest, 0)), "$foreground 25%"), end
        ).truncate(max(self.size.width, 1), ellipsis=True)


def gigabytes(megabytes: float) -> str:
    """A size in MB as people say it; coarse, so that it seldom changes."""
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1024:.1f} GB"
