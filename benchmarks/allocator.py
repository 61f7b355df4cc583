"""What a client costs by settings of the allocator and by threads: the choice in `standalone_client.py` rests on it.

    python -m benchmarks.allocator > benchmarks/allocator.md

A real server and two real clients a setting, on the workload of `benchmarks.rounds`; settings take turns, so that a busy machine
is as busy for each. CPU seconds are less its matter than seconds. Prints a table in Markdown.
"""
from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common import Federation, machine, processes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
CLIENTS = 2


@dataclass(frozen=True)
class Setting:
    """How one kind of client differs from the one that is shipped.

    Attributes
    ----------
    malloc : options of glibc's `mallopt`.
    environment : variables that TensorFlow reads.
    trim : free memory goes back to the kernel at each round's end.
    """

    malloc: Mapping[int, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    trim: bool = False
    threads: int = 1


SETTINGS = {
    "as shipped: 2 arenas, 1 thread": Setting(),
    "glibc's arenas: 8 a core": Setting({M_ARENA_MAX: 8 * (os.cpu_count() or 1)}),
    "1 arena": Setting({M_ARENA_MAX: 1}),
    "trim after a round": Setting(trim=True),
    "1 arena, trim after a round": Setting({M_ARENA_MAX: 1}, trim=True),
    "trim from 128 kB on, always": Setting({M_TRIM_THRESHOLD: 128 << 10}),
    "mmap from 1 MB on": Setting({M_MMAP_THRESHOLD: 1 << 20}),
    "oneDNN by the system allocator": Setting(environment={"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}),
    "the same, trim after a round": Setting(environment={"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1"}, trim=True),
    "2 threads": Setting(threads=2),
}


def client(setting: Setting, options: list[str]) -> int:
    """Be a client of that kind."""
    os.environ |= setting.environment
    from poweranger.client import standalone_client, training

    libc, limit, evaluate = ctypes.CDLL(None), standalone_client.limit_process, training.Trainer.evaluate

    def limit_and_set(threads: int) -> None:
        limit(threads)
        for option, value in setting.malloc.items():
            libc.mallopt(option, value)

    def evaluate_and_trim(self: training.Trainer, *args: object, **others: object) -> object:
        try:
            return evaluate(self, *args, **others)  # type: ignore[arg-type]
        finally:
            libc.malloc_trim(0)

    standalone_client.limit_process = limit_and_set
    if setting.trim:
        training.Trainer.evaluate = evaluate_and_trim  # type: ignore[assignment,method-assign]
    sys.argv = ["client", *options, "--threads", str(setting.threads)]
    return standalone_client.main()


def measure(name: str, rounds: int) -> dict[str, float]:
    """MB of a client, and seconds a round, of CPU and by the clock, all but the first few rounds."""
    with processes() as programs:
        running = Federation(programs, CLIENTS, 100_000, client=("-m", "benchmarks.allocator", "--client", name))
        pids = [process.pid for process in running.clients.values()]
        wait(running, 3)
        first, begin, used = running.done(), time.monotonic(), [cpu_seconds(pid) for pid in pids]
        wait(running, first + rounds)
        passed = running.done() - first
        seconds = (time.monotonic() - begin) / passed
        cpu = statistics.mean((cpu_seconds(pid) - before) / passed for pid, before in zip(pids, used, strict=True))
        sizes = [memory(pid) for pid in pids]
    return {key: statistics.mean(size[key] for size in sizes) for key in sizes[0]} | {"cpu": cpu, "seconds": seconds}


def wait(running: Federation, rounds: int) -> None:
    while running.done() < rounds:
        for name, process in running.clients.items():
            if process.poll() is not None:
                raise RuntimeError(f"{name} has ended:\n{running.programs.log(name)[-3000:]}")
        time.sleep(0.05)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"rss": sizes["Rss"], "peak": int(peak.split()[1]) * 1024 / 1e6, "pss": sizes["Pss"],
            "uss": sizes["Private_Clean"] + sizes["Private_Dirty"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--client", choices=SETTINGS, help=argparse.SUPPRESS)
    wanted, options = parser.parse_known_args()
    if wanted.client:
        return client(SETTINGS[wanted.client], options)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SETTINGS}
    for _ in range(wanted.repeats):
        for name in SETTINGS:
            found[name].append(measure(name, wanted.rounds))
            print(name, file=sys.stderr, flush=True)
    print(f"Of one of {CLIENTS} clients, after {wanted.rounds} rounds, the median of {wanted.repeats} runs; {machine()}. By `python -m benchmarks.allocator`.\n")
    print("| | RSS | its peak | PSS | USS | CPU a round | a round |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, runs in found.items():
        row = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        sizes = " | ".join(f"{row[key]:.0f} MB" for key in ("rss", "peak", "pss", "uss"))
        print(f"| {name} | {sizes} | {row['cpu']:.3f} s | {row['seconds']:.3f} s |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
