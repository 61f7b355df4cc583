"""How much memory is left: the tightest of the machine and every cgroup above this process, in one reading."""
from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedtui.daemon.cgroups import NO_LIMIT, own_groups
from fedtui.daemon.measure import MB, read_sizes


@dataclass(frozen=True)
class Reading:
    """Sizes in MB (2**20 bytes).

    Attributes
    ----------
    time : seconds of the monotonic clock.
    available_mb : what may still be taken before the kernel has to kill; swap is not counted.
    limit_mb : of what `available_mb` is left: the machine's memory, or the limit of the cgroup `group`.
    total_mb : the machine's memory.
    group : the cgroup's folder; "" when the machine itself is tighter.
    pressure : by `some` and `full`, the shares of time (avg10, avg60, avg300, in percent) in which some process, or all,
        waited for memory; None where the kernel does not tell.
    """

    time: float
    available_mb: float
    limit_mb: float
    total_mb: float
    group: str = ""
    swap_total_mb: float = 0.0
    swap_used_mb: float = 0.0
    pressure: dict[str, dict[str, float]] | None = None

    @property
    def stalled(self) -> float:
        """Percent of the last ten seconds in which all processes waited for memory."""
        return (self.pressure or {}).get("full", {}).get("avg10", 0.0)

    def to_json(self) -> dict[str, Any]:
        """As the API tells it: `limit_mb` only where a cgroup limits."""
        return {
            "total_mb": round(self.total_mb, 1), "available_mb": round(self.available_mb, 1),
            "limit_mb": round(self.limit_mb, 1) if self.group else None, "cgroup": self.group or None,
            "swap_total_mb": round(self.swap_total_mb, 1), "swap_used_mb": round(self.swap_used_mb, 1),
            "pressure": (self.pressure or {}).get("some"), "pressure_full": (self.pressure or {}).get("full"),
        }  # fmt: skip


class Meter:
    """Reads the machine; `proc` is where its kernel tells of itself."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._groups = own_groups(proc)

    def read(self) -> Reading:
        """The memory now. What cannot be read does not limit: nothing is ever stopped for a number that nobody knows."""
        table = read_sizes(self._proc / "meminfo") or {}
        total = table.get("MemTotal", 0)
        levels = [(table.get("MemAvailable", total), total, "") if total else (NO_LIMIT, NO_LIMIT, "")]
        for group in self._groups:
            limit = group.limit
            if limit is not None and (used := group.used) is not None:
                levels.append((max(limit - used, 0), limit, str(group.folder)))
        available, limit, name = min(levels, key=lambda level: level[0])
        swap = table.get("SwapTotal", 0)
        return Reading(
            time.monotonic(), available / MB, limit / MB, total / MB, name, swap / MB, (swap - table.get("SwapFree", 0)) / MB, self._pressure()
        )

    def _pressure(self) -> dict[str, dict[str, float]] | None:
        """Of this process's own group, where it has one, else of the machine."""
        for path in [*(group.pressure for group in self._groups[:1]), self._proc / "pressure/memory"]:
            try:
                lines = [line.split() for line in path.read_text().splitlines()]
                return {kind: {name: float(value) for name, value in (word.split("=") for word in words[:3])} for kind, *words in lines}
            except (OSError, ValueError):
                continue
        return None
