"""What processes and machine use: CPU and RSS cheaply, PSS and USS seldom (reading them costs milliseconds)."""
from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedtui.daemon.proc import TICKS, Stat

MB = 1 << 20


@dataclass
class Usage:
    """Of one process with its descendants. `cpu_percent` of one core; sizes in MB (2**20 bytes), None when not measured."""

    cpu_percent: float | None = None
    rss_mb: float | None = None
    pss_mb: float | None = None
    uss_mb: float | None = None
    swap_mb: float | None = None
    _ticks: int = 0
    _time: float = 0.0
    _rss_then: float = 0.0  # at the last measurement of PSS

    def sample(self, stats: Iterable[Stat]) -> None:
        """Take CPU and RSS from the tree's present stats."""
        stats, now = list(stats), time.monotonic()
        ticks = sum(stat.cpu for stat in stats)
        if self._time and now > self._time:
            self.cpu_percent = round(max(ticks - self._ticks, 0) / TICKS / (now - self._time) * 100, 1)
        self._ticks, self._time = ticks, now
        self.rss_mb = round(sum(stat.rss for stat in stats) / MB, 1)

    @property
    def outdated(self) -> bool:
        """Whether PSS was never read, or RSS has changed by a fifth since."""
        return self.pss_mb is None or abs((self.rss_mb or 0.0) - self._rss_then) > 0.2 * self._rss_then

    def measure(self, pids: Iterable[int]) -> None:
        """Read PSS, USS and swap; a process that forbids it or has gone counts nothing."""
        sums = {"Pss": 0, "Private_Clean": 0, "Private_Dirty": 0, "Swap": 0}
        for pid in pids:
            for name, size in _table(Path(f"/proc/{pid}/smaps_rollup")).items():
                if name in sums:
                    sums[name] += size
        self._rss_then = self.rss_mb or 0.0
        self.pss_mb = round(sums["Pss"] / MB, 1)
        self.uss_mb = round((sums["Private_Clean"] + sums["Private_Dirty"]) / MB, 1)
        self.swap_mb = round(sums["Swap"] / MB, 1)


def machine() -> dict[str, Any]:
    """The machine's memory in MB; `limit_mb` the cgroup's, `pressure` the kernel's PSI averages in percent, where there."""
    table = _table(Path("/proc/meminfo"))
    limit = _cgroup_limit()
    return {
        "total_mb": _mb(table.get("MemTotal", 0)),
        "available_mb": _mb(table.get("MemAvailable", 0)),
        "limit_mb": _mb(limit) if limit else None,
        "swap_total_mb": _mb(table.get("SwapTotal", 0)),
        "swap_used_mb": _mb(table.get("SwapTotal", 0) - table.get("SwapFree", 0)),
        "pressure": _pressure(),
    }


class OomKills:
    """Notices that the kernel has killed a process for want of memory: its counter has risen lately."""

    def __init__(self) -> None:
        self._counts = [_oom_kills()] * 2

    def tick(self) -> None:
        """Called every few seconds: what happened before the last two calls is no longer lately."""
        self._counts = [self._counts[1], _oom_kills()]

    def lately(self) -> bool:
        """Whether there was one since the call of `tick` before the last."""
        return _oom_kills() > self._counts[0]


def _oom_kills() -> int:
    """By this cgroup's own counter when it has one, else by the machine's."""
    folder = _cgroup()
    for path in ([folder / "memory.events"] if folder else []) + [Path("/proc/vmstat")]:
        try:
            counts = dict(line.split()[:2] for line in path.read_text().splitlines())
            return int(counts["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return 0


def _cgroup() -> Path | None:
    """This process's cgroup (version 2)."""
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                return Path("/sys/fs/cgroup") / line[3:].lstrip("/")
    except OSError:
        pass
    return None


def _cgroup_limit() -> int | None:
    """The tightest memory limit of this cgroup and those above it, in bytes."""
    limits, folder = [], _cgroup()
    while folder and folder.is_relative_to("/sys/fs/cgroup"):
        with contextlib.suppress(OSError, ValueError):  # absent at the root; "max" for none
            limits.append(int((folder / "memory.max").read_text()))
        folder = folder.parent
    return min(limits, default=None)


def _pressure() -> dict[str, float] | None:
    try:
        some = Path("/proc/pressure/memory").read_text().split("\n")[0].split()[1:4]
    except OSError:
        return None
    return {name: float(value) for name, value in (word.split("=") for word in some)}


def _table(path: Path) -> dict[str, int]:
    """Lines such as `MemTotal:  1024 kB`, in bytes; empty when it cannot be read."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    words = (line.split() for line in lines)
    return {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in words if len(fields) == 3 and fields[2] == "kB"}


def _mb(size: int) -> float:
    return round(size / MB, 1)
