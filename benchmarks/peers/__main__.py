"""The same federated training on other systems, side by side.

    python -m benchmarks.peers [--clients 2 8] [--rounds 5] [--systems this stock ...]

Model, images, training step and first weights are the same, one system runs after the other, on this machine, as it comes.
Seconds to the end of round 1 are from the start of the first process, those of a later round their median. Memory is the
PSS of all its processes together, at most, and their number the most at a time. Lines of code are those that a user has
to write for this job, without blank lines, comments, and what all share: model, images and training (`site.py`), which this
project brings with it. Accuracy is that of the last round's weights on images of five clients that take no part.

NVFlare is installed into a folder of its own in the user's cache, the first time it runs: that takes minutes and the network.
"""
from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.common import machine, processes
from benchmarks.memory import others_with_tensorflow
from benchmarks.peers import nvflare_home
from benchmarks.peers.census import Census
from benchmarks.peers.score import score
from benchmarks.peers.site import EPOCHS
from benchmarks.peers.systems import SYSTEMS, Outcome, first
from poweranger.errors import UserError, run_program


@dataclass(frozen=True)
class Row:
    """One system with so many clients."""

    name: str
    clients: int
    outcome: Outcome
    census: Census
    lines: int


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser("python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[2, 8], metavar="N", help="so many, one after the other (default 2 8)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="2 or more (default %(default)s)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="NAME", help=f"only these of {', '.join(SYSTEMS)}")
    wanted = parser.parse_args()
    if wanted.rounds < 2 or min(wanted.clients) < 1:
        raise UserError("--rounds has to be 2 or more, --clients 1 or more")
    if "nvflare" in wanted.systems:
        nvflare_home.python()  # before anything is measured
    busy, others = machine(), others_with_tensorflow()
    first()  # brings the libraries into the page cache
    rows, failed = [], False
    for clients in wanted.clients:
        for key in wanted.systems:
            print(f"{key}, {clients} clients", file=sys.stderr, flush=True)
            try:
                rows.append(measure(key, clients, wanted.rounds))
            except (RuntimeError, subprocess.TimeoutExpired) as error:  # the others are worth having all the same
                print(f"{key} with {clients} clients failed: {error}", file=sys.stderr, flush=True)
                failed = True
    others = max(others, others_with_tensorflow())
    if not rows:
        return 1

    print(f"{wanted.rounds} rounds of {EPOCHS} epochs, 64 images of 96x96 a client; {hardware()}; {busy} at the start; {versions(wanted.systems)}.\n")
    if others:
        print(f"{others} other process(es) there used TensorFlow, too: the PSS is too low.\n")
    print("| | clients | round 1 done | a later round | peak PSS | processes | lines of code | accuracy |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row, accuracy in zip(rows, score([row.outcome.weights for row in rows]), strict=True):
        times = row.outcome.times
        print(f"| {row.name} | {row.clients} | {times.first:.1f} s | {statistics.median(times.later):.2f} s | {row.census.pss:,.0f} MB | "
              f"{row.census.processes} | {row.lines} | {accuracy:.3f} |")
    return int(failed)


def measure(key: str, clients: int, rounds: int) -> Row:
    """Run one system once."""
    name, run = SYSTEMS[key]
    with processes() as programs, Census(programs.folder) as census:
        outcome = run(programs, clients, rounds)
        return Row(name, clients, outcome, census, sum(map(lines_of_code, outcome.written)))


def lines_of_code(path: Path) -> int:
    """Lines of a file that are neither blank nor a comment."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return sum(bool(line) and not line.startswith("#") for line in lines)


def hardware() -> str:
    """Processor and memory."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {psutil.virtual_memory().total / 1e9:.0f} GB"


def versions(systems: list[str]) -> str:
    """Of what decides the result."""
    found = [f"Python {platform.python_version()}", f"TensorFlow {version('tensorflow')}", f"Flower {version('flwr')}"]
    return ", ".join(found + [f"NVFlare {nvflare_home.VERSION}"] * ("nvflare" in systems))


if __name__ == "__main__":
    run_program("peers", main)
