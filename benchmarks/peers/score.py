"""The accuracy of weights on images that no client has.

    python -m benchmarks.peers.score FILE

The file has an array of shape (models, weights); the answer is a JSON list. A program, so that the process that measures
does not share TensorFlow's pages with those that it measures.
"""
from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.common import processes
from benchmarks.peers.site import Site

STRANGERS = [f"T{number}" for number in range(1, 6)]  # clients of no federation, with 80 images each


def score(models: Sequence[np.ndarray]) -> list[float]:
    """Accuracy of each model on the images of five clients that take no part."""
    with processes() as programs:
        file = programs.folder / "models.npy"
        np.save(file, np.stack(models))
        programs.python("score", "-m", "benchmarks.peers.score", file)
        scores: list[float] = json.loads(programs.see("score", r"accuracy (\[.*\])\n")[1])
        return scores


def main() -> None:
    site = Site(*STRANGERS)
    x, y = np.concatenate([site.train_x, site.x]), np.concatenate([site.train_y, site.y])
    print("accuracy", json.dumps([site.trainer.evaluate(weights, x, y).accuracy for weights in np.load(sys.argv[1])]), flush=True)


if __name__ == "__main__":
    main()
