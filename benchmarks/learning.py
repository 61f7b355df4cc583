"""What federated training reaches on real images, through the real server and three real clients.

    python -m benchmarks.learning [--quick] [--only breastmnist]

Each data set is split into training and test images; the training images are dealt out to three sites, evenly (IID)
and by Dirichlet(0.5). A server and three clients train on them as separate processes, and the last snapshot is
scored on the test images, which no site has. `pooled` is the same model trained on all training images in one
process for the same number of epochs. Accuracy and balanced accuracy are means over the seeds.
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import PROJECT, Federation, Times, processes
from poweranger.client import decode, split
from poweranger.client.data_loader import load_npz_split, load_site
from poweranger.client.partition import partition
from poweranger.client.training import Spec, Trainer, configure_tensorflow
from poweranger.results import list_runs, snapshots
from poweranger.run_config import KEYS
from poweranger.server.model import build_model, load_snapshot
from poweranger.server.utils import learning_rate

CLIENTS, ALPHA, SEEDS = 3, 0.5, (0, 1, 2)
WITHIN = {"iid": 0.02, "dirichlet": 0.04}  # of the pooled accuracy
DEFAULTS = {key.name: key.default for key in KEYS}


@dataclass(frozen=True)
class DataSet:
    """One data set, how it is trained, and the IID accuracy it has to reach."""

    name: str
    source: str
    size: int
    rounds: int  # 30, or 60 below 1,000 training images
    floor: float

    def config(self, seed: int) -> dict[str, object]:
        """The run configuration."""
        return configuration(self.size, self.rounds, CLIENTS, seed)


def configuration(size: int, rounds: int, clients: int, seed: int) -> dict[str, object]:
    """A run of all clients in each round; all images but a few train, because the test images are held out already."""
    return {
        "num-server-rounds": rounds, "image-size": size, "seed": seed, "validation-fraction": 0.01,
        "fraction-fit": 1.0, "fraction-evaluate": 0.0, "min-fit-clients": clients, "min-available-clients": clients,
    }  # fmt: skip


DATA_SETS = (
    DataSet("bccd_cells", "bccd_cells", 48, 60, 0.98),
    DataSet("mednist6", "mednist6", 64, 30, 0.985),
    DataSet("breastmnist", "breastmnist/breastmnist.npz", 28, 60, 0.85),
)


@dataclass
class Split:
    """Training images on disk, and test images in memory."""

    train: Path
    x: np.ndarray
    y: np.ndarray


def hold_out(data: DataSet, source: Path, work: Path) -> Split:
    """Test images: the official ones of an `.npz`, else a fifth of each class.

    Blood cells cut from one photograph stay on one side (their names begin with its number), as do equal files.
    """
    if source.suffix == ".npz":
        test = load_npz_split(str(source), "test", data.size, 0)
        return Split(source, test.x, test.y)
    classes = sorted(folder.name for folder in source.iterdir() if folder.is_dir())
    files = [file for name in classes for file in sorted((source / name).iterdir())]
    labels = np.array([classes.index(file.parent.name) for file in files])
    blood = data.name == "bccd_cells"
    groups = [file.stem.rsplit("_", 1)[0].encode() if blood else split.content_hash(file.read_bytes()) for file in files]
    held = split.validation_mask(groups, labels, 0.2, seed=42)
    for file in np.array(files)[~held]:
        (work / "train" / file.parent.name).mkdir(parents=True, exist_ok=True)
        (work / "train" / file.parent.name / file.name).symlink_to(file)
    x = np.stack([decode.decode(str(file), data.size, 3 if blood else 1) for file in np.array(files)[held]])
    return Split(work / "train", x, labels[held])


def deal_out(train: Path, clients: int, alpha: float, seed: int, out: Path) -> list[Path]:
    """The training images as one data source a site."""
    if train.suffix != ".npz":
        partition(train, clients, alpha, out, seed)
        return sorted(out.iterdir())
    out.mkdir()
    paths = [out / f"site_{index + 1}.npz" for index in range(clients)]
    shares: list[dict[str, np.ndarray]] = [{} for _ in paths]
    with np.load(train) as arrays:
        for part in ("train", "val"):
            images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
            contents = [split.content_hash(image.tobytes()) for image in images]
            owners = split.deal(contents, labels.ravel(), clients, alpha if part == "train" else 0.0, seed)
            for share, rows in zip(shares, owners, strict=True):
                share |= {f"{part}_images": images[rows], f"{part}_labels": labels[rows]}
    for path, share in zip(paths, shares, strict=True):
        np.savez(path, **share)
    return paths


def federated(config: Mapping[str, Any], sites: Sequence[Path], watch: Callable[[Federation], None] = lambda running: None) -> tuple[object, Times]:
    """The last model of a run with server and clients as processes, which `watch` may follow to its end; and how long its rounds took."""
    words = " ".join(f"{name}={value}" for name, value in config.items() if name != "num-server-rounds")
    with processes() as programs:
        running = Federation(programs, len(sites), config["num-server-rounds"], words, sites=sites)
        watch(running)
        times = running.finish()
        return load_snapshot(max(snapshots(list_runs(programs.folder / "results")[0]).items())[1]), times


def alone(config: Mapping[str, Any], train: Path) -> object:
    """The same model, trained on all images of one data source in this process for as many epochs."""
    config = {**DEFAULTS, **config}
    size, seed = config["image-size"], config["seed"]
    site = load_site(
        str(train), client_id="alone", image_size=size, channels=0, validation_fraction=config["validation-fraction"], seed=seed, strict=True,
        cache_mb=1024, synthetic_examples=0, log=lambda text: None,
    )  # fmt: skip
    count, sums, squares = (np.asarray(value, dtype=np.float64) for value in site.pixel_stats())
    mean = sums / count
    std = np.sqrt(squares / count - mean**2)
    shape = (size, site.channels, len(site.classes))
    trainer = Trainer(Spec(*shape, tuple(mean.tolist()), tuple(std.tolist())))
    weights = np.concatenate([array.ravel() for array in build_model(*shape, seed=seed).get_weights()])
    for epoch in range(1, config["num-server-rounds"] + 1):
        rate = learning_rate(epoch, config)
        weights = trainer.train(weights, site.train.x, site.train.y, learning_rate=rate, seed=(seed, epoch)).weights
    return trainer.model


def answers(model: object, x: np.ndarray) -> np.ndarray:
    """The model's logits (n, C) for images (n, size, size, channels)."""
    return np.concatenate([np.asarray(model(x[k : k + 64])) for k in range(0, len(x), 64)])  # type: ignore[operator]


def scores(model: object, test: Split) -> tuple[float, float]:
    """Accuracy and balanced accuracy on the test images."""
    hits = answers(model, test.x).argmax(1) == test.y
    return float(hits.mean()), float(np.mean([hits[test.y == label].mean() for label in np.unique(test.y)]))


def measure(data: DataSet, source: Path, seeds: Sequence[int]) -> dict[str, tuple[float, float]]:
    """Mean accuracy and balanced accuracy of each way to train."""
    found: dict[str, list[tuple[float, float]]] = {"pooled": [], "iid": [], "dirichlet": []}
    with tempfile.TemporaryDirectory(prefix="learning-") as folder:
        work = Path(folder)
        test = hold_out(data, source, work)
        for seed in seeds:
            for way, results in found.items():
                begin = time.monotonic()
                if way == "pooled":
                    model = alone(data.config(seed), test.train)
                else:
                    sites = deal_out(test.train, CLIENTS, ALPHA if way == "dirichlet" else 0.0, seed, work / f"sites-{way}-{seed}")
                    model, _ = federated(data.config(seed), sites)
                results.append(scores(model, test))
                accuracy, balanced = results[-1]
                print(f"{data.name} {way} seed {seed}: accuracy {accuracy:.4f}, balanced {balanced:.4f}, "
                      f"{time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return {way: (float(np.mean([a for a, _ in results])), float(np.mean([b for _, b in results]))) for way, results in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed instead of three")
    parser.add_argument("--only", nargs="+", choices=[data.name for data in DATA_SETS], help="only these data sets")
    parser.add_argument("--data", type=Path, default=os.environ.get("FEDERATED_HEALTH_DATA", PROJECT.parent / "shared" / "data"))
    options = parser.parse_args()
    configure_tensorflow(os.cpu_count() or 1)
    seeds = SEEDS[:1] if options.quick else SEEDS
    print(f"{CLIENTS} clients, {len(seeds)} seed(s); accuracy / balanced accuracy on the test images\n")
    print("| data set | size | rounds | pooled | IID | Dirichlet 0.5 | IID must reach | reached |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    all_good = True
    for data in DATA_SETS:
        if options.only and data.name not in options.only:
            continue
        found = measure(data, (options.data / data.source).resolve(), seeds)
        top = found["pooled"][0]
        good = found["iid"][0] >= data.floor and all(found[way][0] >= top - within for way, within in WITHIN.items())
        all_good &= good
        cells = " | ".join(f"{accuracy:.3f} / {balanced:.3f}" for accuracy, balanced in found.values())
        print(f"| {data.name} | {data.size} | {data.rounds} | {cells} | {data.floor} | {'yes' if good else 'NO'} |", flush=True)
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
