"""What a client trains on and with, the same for every system: this project's synthetic images, model and training step.

It knows nothing of a federation, and needs no Flower. A process keeps images and model, as the product does; where a system
starts a process for each message it makes them anew. To the systems' advantage weights travel as one vector.
"""
from __future__ import annotations

import functools
from typing import Any

import numpy as np

from benchmarks.workload import BATCH, EXAMPLES, IMAGE_SIZE, SEED, VALIDATION
from poweranger.client.standalone_client import limit_process
from poweranger.client.synthetic import CLASSES

LEARNING_RATE, EPOCHS = 0.01, 5  # epochs a round: five rounds are enough then to learn these images
ROUND = "round_{:03d}.npy"  # the weights after a round, where this project does not write its own snapshots


class Site:
    """The images of one client, or of several together."""

    def __init__(self, *names: str, threads: int = 1) -> None:
        self.trainer = trainer(threads)
        found = [images(name) for name in names]
        self.train_x, self.train_y = (np.concatenate([getattr(data.train, part) for data in found]) for part in "xy")
        self.x, self.y = (np.concatenate([getattr(data.validation, part) for data in found]) for part in "xy")

    def train(self, weights: np.ndarray, number: int, epochs: int = EPOCHS) -> Any:
        """What a client does in round `number`: the weights, and loss and accuracy on the way."""
        return self.trainer.train(weights, self.train_x, self.train_y, learning_rate=LEARNING_RATE, epochs=epochs, seed=(SEED, number))

    def evaluate(self, weights: np.ndarray) -> Any:
        """Loss and accuracy on the validation images."""
        return self.trainer.evaluate(weights, self.x, self.y)


site = functools.cache(Site)  # for systems that call a function a message


def initial() -> np.ndarray:
    """The weights that every system begins with."""
    limit_process(1)
    from poweranger.server.model import build_model

    model = build_model(IMAGE_SIZE, 1, len(CLASSES), seed=SEED)
    return np.concatenate([array.ravel() for array in model.get_weights()])


def images(name: str) -> Any:
    """The images of a client, made up from its name."""
    from poweranger.client.data_loader import load_site

    return load_site(None, client_id=name, image_size=IMAGE_SIZE, channels=1, validation_fraction=VALIDATION, seed=SEED,
                     strict=False, cache_mb=256, synthetic_examples=EXAMPLES, log=lambda text: None)


@functools.cache
def trainer(threads: int) -> Any:
    """The model and its training step."""
    limit_process(threads)
    from poweranger.client import training

    training.configure_tensorflow(threads)
    return training.Trainer(training.Spec(IMAGE_SIZE, 1, len(CLASSES), (0.0,), (1.0,), batch_size=BATCH))
