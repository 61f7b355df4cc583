"""What processes use: CPU and RSS cheaply, PSS and USS seldom (reading them costs milliseconds)."""
from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedtui.daemon.cgroups import own_groups
from fedtui.daemon.proc import PAGE, TICKS, Stat

MB = 1 << 20
PSS_EVERY_S = 10.0  # at the latest, and
PSS_AGAIN_S = 2.0  # at the earliest


@dataclass
class Usage:
    """Of one process with its descendants. `cpu_percent` of one core; sizes in MB (2**20 bytes), None when not measured.

    `refused` tells that the kernel does not let us read PSS and USS of it: then RSS is all there is.
    """

    cpu_percent: float | None = None
    rss_mb: float | None = None
    pss_mb: float | None = None
    uss_mb: float | None = None
    swap_mb: float | None = None
    refused: bool = False
    _ticks: int = 0
    _time: float = 0.0
    _own_mb: float = 0.0  # RSS but for mapped files, such as libraries, most of which others have, too
    _rss_then: float = 0.0  # these two at the last measurement of PSS
    _own_then: float = 0.0
    _measured: float = 0.0

    def sample(self, stats: Iterable[Stat]) -> None:
        """Take CPU and RSS from the tree's present stats."""
        stats, now = list(stats), time.monotonic()
        ticks = sum(stat.cpu for stat in stats)
        if self._time and now > self._time:
            self.cpu_percent = round(max(ticks - self._ticks, 0) / TICKS / (now - self._time) * 100, 1)
        self._ticks, self._time = ticks, now
        self.rss_mb = round(sum(stat.rss for stat in stats) / MB, 1)
        self._own_mb = sum(_without_files(stat.ident.pid) for stat in stats) / MB

    @property
    def use_mb(self) -> float:
        """PSS as far as it is known, brought up to date by what it has taken for itself since; else RSS."""
        if self.rss_mb is None or self.pss_mb is None:
            return self.rss_mb or 0.0
        return max(self.pss_mb + self._own_mb - self._own_then, 0.0)

    @property
    def due(self) -> float:
        """Seconds since PSS should have been read again; negative when that has time."""
        age = time.monotonic() - self._measured
        changed = self.pss_mb is None or abs((self.rss_mb or 0.0) - self._rss_then) > 0.2 * self._rss_then
        return age - (PSS_AGAIN_S if changed and not self.refused else PSS_EVERY_S)

    def measure(self, pids: Iterable[int]) -> None:
        """Read PSS, USS and swap of those that live."""
        tables = [table for pid in pids if (table := read_sizes(Path(f"/proc/{pid}/smaps_rollup"))) is not None]
        self._rss_then, self._own_then, self._measured = self.rss_mb or 0.0, self._own_mb, time.monotonic()
        self.refused = not any(tables)
        if self.refused:
            self.pss_mb = self.uss_mb = self.swap_mb = None
            return
        sums = {name: sum(table.get(name, 0) for table in tables) / MB for name in ("Pss", "Private_Clean", "Private_Dirty", "Swap")}
        self.pss_mb, self.swap_mb = round(sums["Pss"], 1), round(sums["Swap"], 1)
        self.uss_mb = round(sums["Private_Clean"] + sums["Private_Dirty"], 1)


def _without_files(pid: int) -> int:
    """Bytes of a process that lie in no file; 0 when it is gone."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(resident) - int(shared)) * PAGE
    except (OSError, ValueError):
        return 0


class OomKills:
    """Notices that the kernel has killed a process for want of memory: its counter has risen lately."""

    def __init__(self) -> None:
        self._groups = own_groups()
        self._counts = [self._count()] * 2

    def tick(self) -> None:
        """Called every few seconds: what happened before the last two calls is no longer lately."""
        self._counts = [self._counts[1], self._count()]

    def lately(self) -> bool:
        """Whether there was one since the call of `tick` before the last."""
        return self._count() > self._counts[0]

    def _count(self) -> int:
        """By this process's own cgroup where it counts, else by the machine."""
        for group in self._groups:
            if (count := group.oom_kills) is not None:
                return count
        try:
            counts = dict(line.split()[:2] for line in Path("/proc/vmstat").read_text().splitlines())
            return int(counts["oom_kill"])
        except (OSError, ValueError, KeyError):
            return 0


def read_sizes(path: Path) -> dict[str, int] | None:
    """The kernel's lines such as `Pss:  1024 kB`, in bytes; None when the file cannot be read."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    words = (line.split() for line in lines)
    return {fields[0].rstrip(":"): int(fields[1]) * 1024 for fields in words if len(fields) == 3 and fields[2] == "kB"}
