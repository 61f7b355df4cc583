"""Later epochs over a folder of JPEGs, against `image_dataset_from_directory` without cache.

    python -m benchmarks.data_epochs

Makes 5,000 JPEGs in a temporary folder and passes over them in batches, both ways in turn in this one process. The JPEGs
are no larger than the images trained on, which is the baseline's best case: it decodes them again in every epoch.
"""
from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from poweranger.client import synthetic
from poweranger.client.data_loader import load_site

TARGET = 5.0  # times as fast


def make_folder(folder: Path, count: int, size: int) -> None:
    for label, name in enumerate(synthetic.CLASSES):
        (folder / name).mkdir()
        for index in range(label, count, len(synthetic.CLASSES)):
            pixels = synthetic.phantom("benchmark", index, label, size, seed=0)
            Image.fromarray(pixels).save(folder / name / f"{index}.jpg", quality=90)


def seconds(epoch: Callable[[], int], epochs: int, count: int) -> list[float]:
    """The duration of each of the first epochs; each must pass over all images."""
    durations = []
    for _ in range(epochs):
        start = time.perf_counter()
        assert epoch() == count
        durations.append(time.perf_counter() - start)
    return durations


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--cache-mb", type=int, default=256, help="0 puts our cache in a file")
    wanted = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print(f"making {wanted.images} JPEGs of {wanted.size} px ...", flush=True)
        make_folder(folder, wanted.images, wanted.size)

        start = time.perf_counter()
        site = load_site(temporary, client_id="benchmark", image_size=wanted.size, channels=1, validation_fraction=0.01, seed=0,
                         strict=True, cache_mb=wanted.cache_mb, synthetic_examples=0)
        loading = time.perf_counter() - start
        rng = np.random.default_rng(0)
        x, y, count = site.train.x, site.train.y, len(site.train.y)

        def ours() -> int:
            order = rng.permutation(count)
            seen = 0
            for at in range(0, count, wanted.batch):
                index = order[at : at + wanted.batch]
                images, labels = tf.constant(x[index]), tf.constant(y[index])
                seen += len(labels) if images.shape[0] == len(index) else 0
            return seen

        dataset = keras.utils.image_dataset_from_directory(
            temporary, image_size=(wanted.size, wanted.size), batch_size=wanted.batch, color_mode="grayscale", verbose=False)

        def baseline() -> int:
            return sum(len(labels) for _, labels in dataset)

        theirs = seconds(baseline, wanted.epochs, wanted.images)
        mine = seconds(ours, wanted.epochs, count)
    per_image = statistics.median(mine[1:]) / count, statistics.median(theirs[1:]) / wanted.images
    ratio = per_image[1] / per_image[0]
    kind = "a file" if isinstance(x, np.memmap) else "memory"
    print(f"poweranger, cache in {kind}: loading once {loading:.2f} s, then {per_image[0] * wanted.images:.3f} s an epoch")
    print(f"image_dataset_from_directory: {theirs[0]:.2f} s the first epoch, then {per_image[1] * wanted.images:.3f} s an epoch")
    print(f"later epochs: {ratio:.1f} times as fast (target {TARGET:g}): {'reached' if ratio >= TARGET else 'MISSED'}")
    return 0 if ratio >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
