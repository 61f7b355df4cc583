"""What a model of five sites reaches on MedMNIST, beside the published figures: alone, federated, and with privacy.

    python -m benchmarks.medmnist FILE.npz... [--seeds 3]

The training images of each file are dealt out to five sites, evenly (IID) and by Dirichlet(0.5) and (0.1). Federated runs are
those of a real server and five clients as processes, with TLS and keys. `pooled` is the same model trained on all training
images in this process for as many epochs, `local only` on one site's. Each is scored on the official test images by the
code of `poweranger.evaluate`; validation images are not used, and the last round's model is taken. With DP, epsilon is 8 for
whole sites, for the whole run, by noise at the server; the noise comes from the run's own accountant.
"""
from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Federation, machine
from benchmarks.learning import alone, answers, configuration, deal_out, federated
from benchmarks.memory import memory
from poweranger.client.data_loader import load_npz_split
from poweranger.client.npz import Npz
from poweranger.client.training import configure_tensorflow
from poweranger.errors import run_program
from poweranger.evaluate import report
from poweranger.privacy.accounting import epsilon

CLIENTS, SIZE = 5, 28
SPLITS = {"IID": 0.0, "Dirichlet 0.5": 0.5, "Dirichlet 0.1": 0.1}
EPSILON, DELTA, CLIP = 8.0, 1e-5, 0.1
PRIVATE_ROUNDS = 10  # each costs epsilon: with more of them, each has more noise
SAMPLE = 1.0  # seconds between two looks at the memory, which hold up a process for some milliseconds
FIGURES = ("accuracy", "balanced_accuracy", "auc")

# (accuracy, AUC) of ResNet-18 at 28 pixels: Yang et al., MedMNIST v2, Scientific Data 10:41 (2023), Table 3; those that were checked.
PUBLISHED = {"breastmnist": (0.863, 0.901), "pathmnist": (0.907, 0.983), "pneumoniamnist": (0.854, 0.944)}


@dataclass
class Way:
    """One way to train, over seeds and sites: figures on the test images, seconds of each round, and MB in all processes together."""

    figures: list[dict[str, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    def row(self, name: str) -> str:
        """A row of the table: mean and standard deviation."""
        cells = [_spread([found[figure] for found in self.figures]) for figure in FIGURES]
        cells += [f"{statistics.median(self.seconds):.2f}" if self.seconds else "", f"{max(self.peak):.0f}" if self.peak else ""]
        return f"| {name} | {' | '.join(cells)} |"


class DataSet:
    """An `.npz` and the scores of models on its test images."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.stem
        test = load_npz_split(str(path), "test", SIZE, 0)
        self.x, self.y = test.x, test.y
        train = Npz(str(path)).labels("train")
        self.classes, self.images = int(train.max()) + 1, len(train)
        self.rounds = 60 if self.images < 1000 else 30

    def config(self, seed: int, private: bool = False) -> dict[str, Any]:
        """The run configuration."""
        if not private:
            return configuration(SIZE, self.rounds, CLIENTS, seed)
        dp = {"dp": "central", "dp-clip": CLIP, "dp-delta": DELTA, "dp-noise-multiplier": noise(PRIVATE_ROUNDS), "dp-target-epsilon": EPSILON}
        return configuration(SIZE, PRIVATE_ROUNDS, CLIENTS, seed) | dp

    def score(self, model: object) -> dict[str, float]:
        """`FIGURES` on the test images; the loader's classes are the numbers from 0, in order."""
        logits = answers(model, self.x)
        found = report(self.y, logits, [str(number) for number in range(self.classes)])
        return {figure: found[figure]["value"] for figure in FIGURES}


def noise(rounds: int) -> float:
    """The smallest noise multiplier, in steps of 0.01, with which so many rounds of all clients cost `EPSILON` at most."""
    low, high = 1, 10_000  # hundredths
    while low < high:
        middle = (low + high) // 2
        if epsilon([(middle / 100, 1.0, rounds)], DELTA) <= EPSILON:
            high = middle
        else:
            low = middle + 1
    return low / 100


def measure(data: DataSet, seeds: int) -> dict[str, Way]:
    """Every way to train, by name."""
    kinds = ("local only", "federated", f"federated, DP epsilon {EPSILON:g}")
    found = {name: Way() for name in ["pooled", *(f"{kind}, {split}" for split in SPLITS for kind in kinds)]}

    def train(name: str, seed: int, make: Callable[[Way], object]) -> None:
        begin = time.monotonic()
        figures = data.score(make(found[name]))
        found[name].figures.append(figures)
        said = ", ".join(f"{figure} {figures[figure]:.3f}" for figure in FIGURES)
        print(f"{data.name}, {name}, seed {seed}: {said}; {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="medmnist-") as folder:
        for seed in range(seeds):
            plain, private = data.config(seed), data.config(seed, private=True)
            train("pooled", seed, partial(by_itself, plain, data.path))
            for split, alpha in SPLITS.items():
                sites = deal_out(data.path, CLIENTS, alpha, seed, Path(folder) / f"{split}-{seed}")
                for site in sites:
                    train(f"{kinds[0]}, {split}", seed, partial(by_itself, plain, site))
                for kind, config in zip(kinds[1:], (plain, private), strict=True):
                    train(f"{kind}, {split}", seed, partial(together, config, sites))
    return found


def by_itself(config: Mapping[str, Any], source: Path, way: Way) -> object:
    """The model of one data source, trained in this process."""
    return alone(config, source)


def together(config: Mapping[str, Any], sites: Sequence[Path], way: Way) -> object:
    """The model of a federated run; its seconds and its memory are added to `way`."""
    peak = 0.0

    def watch(running: Federation) -> None:
        nonlocal peak
        everybody = [running.server, *running.clients.values()]
        while running.server.poll() is None:
            with contextlib.suppress(OSError):  # one has ended just now
                peak = max(peak, sum(memory(process.pid)["Pss"] for process in everybody))
            time.sleep(SAMPLE)

    model, times = federated(config, sites, watch)
    way.seconds += times.later
    way.peak.append(peak)
    return model


def table(data: DataSet, found: Mapping[str, Way]) -> list[str]:
    """The rows of a data set, under a line of its own."""
    rows = [way.row(name) for name, way in found.items()]
    if data.name in PUBLISHED:
        rows.insert(0, "| ResNet-18 (28), published | {:.3f} | | {:.3f} | | |".format(*PUBLISHED[data.name]))
    head = f"\n{data.name}: {data.images:,} training and {len(data.y):,} test images, {data.classes} classes, {data.rounds} rounds of one epoch\n"
    return [head, "| | accuracy | balanced accuracy | AUC | s a round | peak PSS, MB |", "| --- | --- | --- | --- | --- | --- |", *rows]


def versions() -> str:
    """What it was measured with."""
    names = ("federated-health", "flwr", "tensorflow", "keras", "numpy", "dp-accounting")
    parts = [f"Python {platform.python_version()}"]
    for name in names:
        try:
            parts.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:  # run from a clone that is not installed
            continue
    return ", ".join(parts)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.npz")
    parser.add_argument("--seeds", type=int, default=3)
    wanted = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    configure_tensorflow(os.cpu_count() or 1)
    sets = [DataSet(path.resolve()) for path in wanted.files]  # a file that is none is told before hours of work
    how = (f"{CLIENTS} clients, {wanted.seeds} seed(s); DP: {PRIVATE_ROUNDS} rounds, clip {CLIP:g}, noise multiplier {noise(PRIVATE_ROUNDS):g}, "
           f"delta {DELTA:g}; {datetime.date.today():%Y-%m-%d}; {machine()}; {versions()}")
    print(how, flush=True)
    for data in sets:
        print("\n".join(table(data, measure(data, wanted.seeds))), flush=True)
    return 0


if __name__ == "__main__":
    run_program("medmnist", main)
