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
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poweranger.client import decode, split
from poweranger.client.data_loader import load_npz_split, load_site
from poweranger.client.partition import partition
from poweranger.client.training import Spec, Trainer, configure_tensorflow
from poweranger.run_config import KEYS
from poweranger.server.model import build_model, load_snapshot
from poweranger.server.utils import learning_rate

PROJECT = Path(__file__).resolve().parent.parent
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
        """The run configuration: all images but a few train, because the test images are held out already."""
        return {
            "num-server-rounds": self.rounds, "image-size": self.size, "seed": seed, "validation-fraction": 0.01,
            "fraction-fit": 1.0, "fraction-evaluate": 0.0, "min-fit-clients": CLIENTS, "min-available-clients": CLIENTS,
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


def deal_out(train: Path, alpha: float, seed: int, out: Path) -> list[Path]:
    """The training images as one data source a site."""
    if train.suffix != ".npz":
        partition(train, CLIENTS, alpha, out, seed)
        return sorted(out.iterdir())
    out.mkdir()
    paths = [out / f"site_{index + 1}.npz" for index in range(CLIENTS)]
    shares: list[dict[str, np.ndarray]] = [{} for _ in paths]
    with np.load(train) as arrays:
        for part in ("train", "val"):
            images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
            contents = [split.content_hash(image.tobytes()) for image in images]
            owners = split.deal(contents, labels.ravel(), CLIENTS, alpha if part == "train" else 0.0, seed)
            for share, rows in zip(shares, owners, strict=True):
                share |= {f"{part}_images": images[rows], f"{part}_labels": labels[rows]}
    for path, share in zip(paths, shares, strict=True):
        np.savez(path, **share)
    return paths


def federated(data: DataSet, sites: Sequence[Path], seed: int, work: Path) -> Path:
    """Run server and clients as processes; the last snapshot."""
    work.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    config = " ".join(f"{name}={value}" for name, value in data.config(seed).items())
    environment = {name: value for name, value in os.environ.items() if name not in {key.environment for key in KEYS}}
    environment["PYTHONPATH"] = str(PROJECT)
    log = (work / "log").open("wb")

    def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"poweranger.{module}", "--project", str(work), *arguments]
        return subprocess.Popen(command, cwd=work, env=environment, stdout=log, stderr=log)

    server = start("server.server_app", "--host", "127.0.0.1", "--port", port, "--run-config", config)
    clients = [
        start("client.standalone_client", "--client-id", f"C{k}", "--server-address", f"127.0.0.1:{port}", "--data-dir", str(site))
        for k, site in enumerate(sites, start=1)
    ]
    try:
        if server.wait() != 0:
            sys.exit((work / "log").read_text(errors="replace")[-4000:] + "\nthe server failed: its output is above")
    finally:
        for process in (server, *clients):
            process.terminate()
            process.wait()
    return work / "results" / "models" / f"round_{data.rounds:03d}.npz"


def pooled(data: DataSet, train: Path, seed: int) -> object:
    """The same model, trained on all training images in this process for as many epochs."""
    config = DEFAULTS | data.config(seed)
    site = load_site(
        str(train), client_id="pooled", image_size=data.size, channels=0, validation_fraction=0.01, seed=seed, strict=True,
        cache_mb=1024, synthetic_examples=0, log=lambda text: None,
    )  # fmt: skip
    count, sums, squares = (np.asarray(value, dtype=np.float64) for value in site.pixel_stats())
    mean = sums / count
    std = np.sqrt(squares / count - mean**2)
    shape = (data.size, site.channels, len(site.classes))
    trainer = Trainer(Spec(*shape, tuple(mean.tolist()), tuple(std.tolist())))
    weights = np.concatenate([array.ravel() for array in build_model(*shape, seed=seed).get_weights()])
    for epoch in range(1, data.rounds + 1):
        rate = learning_rate(epoch, config)
        weights = trainer.train(weights, site.train.x, site.train.y, learning_rate=rate, seed=(seed, epoch)).weights
    return trainer.model


def scores(model: object, test: Split) -> tuple[float, float]:
    """Accuracy and balanced accuracy on the test images."""
    logits = np.concatenate([np.asarray(model(test.x[k : k + 64])) for k in range(0, len(test.x), 64)])  # type: ignore[operator]
    hits = logits.argmax(1) == test.y
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
                    model = pooled(data, test.train, seed)
                else:
                    sites = deal_out(test.train, ALPHA if way == "dirichlet" else 0.0, seed, work / f"sites-{way}-{seed}")
                    model = load_snapshot(federated(data, sites, seed, work / f"{way}-{seed}"))
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
