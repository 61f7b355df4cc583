"""A small machine for a daemon and its processes: a real cgroup where this one allows it, else a kernel that tells of one."""
from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedtui.daemon import proc
from fedtui.daemon.cgroups import own_groups
from tests.fedtui.daemon.conftest import House

MB = 1 << 20


@pytest.fixture
def cgroup(until: Callable[..., None]) -> Iterator[Callable[[int], Path]]:
    """`cgroup(limit_mb)` makes a group below this process's own; the test is skipped where that is not possible."""
    made: list[Path] = []

    def make(limit_mb: int) -> Path:
        groups = own_groups()
        try:
            folder = groups[0].folder / f"guard-test-{uuid.uuid4().hex[:8]}"
            folder.mkdir()
            made.append(folder)
            (folder / ("memory.limit_in_bytes" if groups[0].version == 1 else "memory.max")).write_text(str(limit_mb * MB))
        except (OSError, IndexError) as error:
            pytest.skip(f"no memory cgroup can be made here: {error}")
        return folder

    yield make
    for folder in made:  # each process leaves it a moment after its end
        until(lambda folder=folder: not (folder / "cgroup.procs").read_text(), 10, "the end of all that was in the cgroup")
        folder.rmdir()


class SmallMachine:
    """A `/proc/meminfo` by which the house's processes are all that there is."""

    def __init__(self, house: House, limit_mb: int) -> None:
        self.others_mb = 0.0
        self._house, self._limit = house, limit_mb
        self._path = house.root / "proc/meminfo"
        self._over = threading.Event()
        (house.root / "proc").mkdir()
        self.write()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def leave(self, size_mb: float, *names: str) -> None:
        """Let others take so much that this is left; wait first until these processes have what they need."""
        self._house.until(lambda: all((self._house.ps()[name]["rss_mb"] or 0) > 40 for name in names), 20, "what they need")
        self.others_mb = self._limit - self._used() - size_mb
        self.write()

    def _used(self) -> float:
        return sum(stat.rss for pid in self._house.alive() if (stat := proc.read_stat(pid))) / MB

    def write(self) -> None:
        """Bring the file up to date."""
        used = self._used() + self.others_mb
        beside = self._path.with_name(f"beside-{threading.get_ident()}")  # the test writes, too
        beside.write_text(f"MemTotal: {self._limit << 10} kB\nMemAvailable: {max(int((self._limit - used) * 1024), 0)} kB\n")
        beside.replace(self._path)

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._over.wait(0.25):
            self.write()


@pytest.fixture
def small_machine(new_house: Callable[..., House]) -> Iterator[Callable[..., tuple[House, SmallMachine]]]:
    """`small_machine(roster, limit_mb)` gives a house with its running daemon, and the machine it stands on."""
    made: list[SmallMachine] = []

    def make(roster: str = "", limit_mb: int = 1000) -> tuple[House, SmallMachine]:
        house = new_house(RULES + roster)
        made.append(SmallMachine(house, limit_mb))
        house.open()
        return house, made[-1]

    yield make
    for machine in made:
        machine.close()


RULES = "[tool.fedtui.memory]\nreserve-mb = 200\n"
