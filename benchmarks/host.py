"""Local clients forked from the client host, against the same clients as processes of their own.

    python -m benchmarks.host

The real daemon, server and clients, on the workload of `benchmarks.rounds` without TLS. Clients are started three times: with
no client host there, with one, and for a run, in which their memory is looked at every second. Private memory (USS) is
what ending a client would free.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from benchmarks.common import Processes, Times, Verdict, free_port, machine, processes, read_times
from benchmarks.workload import WORKLOAD
from fedtui.client import DaemonClient
from fedtui.project import Project

POLL = 0.02  # seconds between two looks at the states of the clients
SAMPLE = 1.0  # and at their memory, which holds them up for some milliseconds
NAMES = ("Rss", "Pss", "Uss")


@dataclass(frozen=True)
class Row:
    """What one way of starting clients costs: seconds until all are ready, MB of each client at its largest, all of it together."""

    cold: float
    warm: float
    largest: list[dict[str, float]]
    together: float
    times: Times


@contextlib.contextmanager
def project(programs: Processes, clients: int, forked: bool) -> Iterator[DaemonClient]:
    """A project folder with so many clients on synthetic images, and its daemon, which is ended."""
    folder = programs.folder
    roster = "".join(f"[tool.fedtui.clients.C{number}]\n" for number in range(1, clients + 1))
    (folder / "pyproject.toml").write_text(
        f'[tool.flwr.app]\npublisher = "benchmark"\n[tool.fedtui]\nserver-address = "127.0.0.1:{free_port()}"\n'
        f"client-host = {str(forked).lower()}\nmemory = {{ guard = false }}\n{roster}"
    )
    with mock.patch.dict(os.environ, programs.environment() | {"XDG_STATE_HOME": str(folder / "state")}, clear=True):
        daemon = DaemonClient(Project.find(folder))
        try:
            daemon.ensure_daemon()
            yield daemon
        finally:
            daemon.shutdown(stop=True)


def start(daemon: DaemonClient, clients: int) -> float:
    """Start the clients; seconds until all are ready."""
    begin = time.monotonic()
    for number in range(1, clients + 1):
        daemon.act(f"C{number}", "start")
    while any(process["role"] == "client" and process["state"] == "starting" for process in daemon.processes()):
        time.sleep(POLL)
    return time.monotonic() - begin


def federation(daemon: DaemonClient, clients: int, rounds: int, look: Callable[[], object] = lambda: None, config: str = WORKLOAD) -> Times:
    """The times of a run; `look` is called every second of it."""
    settings = dict(pair.split("=") for pair in config.split()) | {"min-available-clients": str(clients)}
    begin = time.time()
    daemon.up(clients=clients, rounds=rounds, set=settings)
    while (server := daemon.processes()[0])["state"] not in ("exited", "failed"):
        look()
        time.sleep(SAMPLE)
    if server["state"] == "failed":
        raise RuntimeError(f"the run failed: {server['cause']}")
    return read_times(daemon.project.root, begin)


class Largest:
    """MB of each client when it was largest, and of all together with their host."""

    def __init__(self, daemon: DaemonClient) -> None:
        self.of: dict[str, dict[str, float]] = {}
        self.together = 0.0
        self._daemon = daemon

    def look(self) -> None:
        pids = {entry["name"]: entry["pid"] for entry in self._daemon.processes() if entry["role"] == "client" and entry["pid"]}
        used = {name: memory(pid) for name, pid in pids.items()}
        for name, sizes in used.items():
            self.of[name] = max(self.of.get(name, sizes), sizes, key=lambda entry: entry["Uss"])
        host = self._daemon.info()["client_host_pid"]
        self.together = max(self.together, sum(sizes["Pss"] for sizes in used.values()) + (memory(host)["Pss"] if host else 0))


def memory(pid: int) -> dict[str, float]:
    """`NAMES` of a process in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    return {"Rss": sizes["Rss"], "Pss": sizes["Pss"], "Uss": sizes["Private_Clean"] + sizes["Private_Dirty"]}


def measure(clients: int, rounds: int, forked: bool) -> Row:
    with processes() as programs, project(programs, clients, forked) as daemon:
        cold = start(daemon, clients)
        daemon.down()
        warm = start(daemon, clients)
        daemon.down()
        largest = Largest(daemon)
        times = federation(daemon, clients, rounds, largest.look)
        return Row(cold, warm, list(largest.of.values()), largest.together, times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    print(machine(), flush=True)
    rows = {name: measure(wanted.clients, wanted.rounds, forked) for name, forked in (("processes", False), ("forks", True))}
    print(f"\n{wanted.clients} clients; {machine()}")
    print(f"{'':<12}{'ready':>10}{'again':>10}{'round 1':>10}{'later':>10}" + "".join(f"{name + ' MB':>10}" for name in NAMES) + f"{'together':>12}")
    for name, row in rows.items():
        print(f"{name:<12}{row.cold:>8.2f} s{row.warm:>8.2f} s{row.times.first:>8.2f} s{statistics.median(row.times.later):>8.2f} s"
              + "".join(f"{statistics.median(entry[key] for entry in row.largest):>10.0f}" for key in NAMES) + f"{row.together:>9.0f} MB")
    print()
    verdict, forks = Verdict(), rows["forks"]
    verdict.at_most("private memory of the largest fork", max(entry["Uss"] for entry in forks.largest), 120, " MB")
    verdict.at_most("all forks ready, the host's start included", forks.cold, 3, " s")
    verdict.at_most("all forks ready, the host there", forks.warm, 3, " s")
    verdict.at_most("a later round of forks", statistics.median(forks.times.later), 1, " s")
    return 0 if verdict.reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
