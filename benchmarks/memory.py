"""Memory of a server and of clients in real runs, against a process that only imports TensorFlow.

    python -m benchmarks.memory

PSS counts a page that n processes share as 1/n in each, so the client and the bare process are measured one after the other,
each without another TensorFlow process of this benchmark. Growth is that of anonymous memory, which no other process touches.
"""
from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Federation, Verdict, machine, processes
from benchmarks.workload import BATCH, EXAMPLES, IMAGE_SIZE

CACHE_MB = EXAMPLES * IMAGE_SIZE**2 / 1e6  # decoded grey images
WINDOW = 20  # rounds over which the memory at a moment is the median: it goes up and down within each
SAMPLE = 0.25  # seconds between two looks, which hold up the process for some milliseconds
NAMES = ("Rss", "Pss", "Pss_Anon")

Memory = dict[str, float]


def memory(pid: int) -> Memory:
    """`NAMES` of a process in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {name: kilobytes[name] * 1024 / 1e6 for name in NAMES}


def bare() -> Memory:
    """A process that has imported TensorFlow, without scikit-learn, which tests install and it would load, and does nothing."""
    with processes() as programs:
        code = "import sys; sys.modules['sklearn'] = None; import tensorflow; print('ready', flush=True); sys.stdin.read()"
        process = programs.python("bare", "-c", code)
        programs.see("bare", "ready")
        time.sleep(1)
        return memory(process.pid)


def client_alone(rounds: int) -> Memory:
    """A federation's only client after `rounds` rounds, in the run."""
    with processes() as programs:
        running = Federation(programs, 1, 100_000)
        watch(running, rounds)
        return memory(running.clients["C1"].pid)


def watch(running: Federation, rounds: int) -> dict[str, list[tuple[int, Memory]]]:
    """Follow server and clients up to the end of a round: for each process (last complete round, memory) again and again."""
    pids = {"server": running.server.pid} | {name: process.pid for name, process in running.clients.items()}
    seen: dict[str, list[tuple[int, Memory]]] = {name: [] for name in pids}
    while (done := running.done()) < rounds:
        ended = [name for name in pids if running.programs.all[name].poll() is not None]
        if ended:
            raise RuntimeError(f"{ended[0]} has ended:\n{running.programs.log(ended[0])[-3000:]}")
        for name, pid in pids.items():
            seen[name].append((done, memory(pid)))
        time.sleep(SAMPLE)
    return seen


def level(samples: Sequence[tuple[int, Memory]], last: int) -> float:
    """MB of anonymous memory during the `WINDOW` rounds up to `last`."""
    return statistics.median(used["Pss_Anon"] for done, used in samples if last - WINDOW <= done < last)


def others_with_tensorflow() -> int:
    """Processes that map TensorFlow now: they make everybody's PSS smaller."""
    found = 0
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            found += "libtensorflow" in maps.read_text()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--client-rounds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=200, help="of the run whose growth is measured (default %(default)s)")
    wanted = parser.parse_args()
    others = others_with_tensorflow()
    empty, client = bare(), client_alone(wanted.client_rounds)
    others = max(others, others_with_tensorflow())
    with processes() as programs:
        seen = watch(Federation(programs, 2, wanted.rounds + 1), wanted.rounds)
    server = {name: max(used[name] for _, used in seen["server"]) for name in NAMES}

    print(f"{IMAGE_SIZE} pixels, batches of {BATCH}, data cache {CACHE_MB:.1f} MB; {machine()}")
    if others:
        print(f"{others} other process(es) here use TensorFlow, too: PSS is too low, trust RSS")
    print(f"{'MB':<42}" + "".join(f"{name:>10}" for name in NAMES))
    rows = {"import tensorflow": empty, f"client after {wanted.client_rounds} rounds": client, "server, most in the run": server}
    for name, used in rows.items():
        print(f"{name:<42}" + "".join(f"{used[key]:>10.0f}" for key in NAMES))
    half = wanted.rounds // 2
    print("\nanonymous MB after rounds     " + "".join(f"{at:>8}" for at in marks(wanted.rounds)))
    for name, samples in seen.items():
        print(f"{name:<30}" + "".join(f"{level(samples, at):>8.1f}" for at in marks(wanted.rounds)))
    print()
    verdict = Verdict()
    verdict.at_most("server, PSS", server["Pss"], 150, " MB")
    verdict.at_most("client less its data cache, times import tensorflow, PSS", (client["Pss"] - CACHE_MB) / empty["Pss"], 1.2)
    for name, samples in seen.items():
        growth = level(samples, wanted.rounds) - level(samples, wanted.rounds - half)
        verdict.at_most(f"{name}, growth over the last {half} rounds", growth, 5, " MB")
    return 0 if verdict.reached else 1


def marks(rounds: int) -> list[int]:
    """The rounds at whose ends the memory is printed."""
    return [rounds * part // 4 for part in (1, 2, 3, 4)]


if __name__ == "__main__":
    raise SystemExit(main())
