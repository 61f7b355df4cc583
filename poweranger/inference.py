"""A run's model, asked about images that took no part in the run: what `evaluate` and `predict` share."""
from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from poweranger.client import cache, decode
from poweranger.client.training import configure_gpu, configure_tensorflow
from poweranger.errors import UserError
from poweranger.origin import project_root
from poweranger.results import find_snapshot, read_info
from poweranger.server.model import load_snapshot

if TYPE_CHECKING:
    import keras

BATCH = 64  # images in memory at once


@dataclass(frozen=True)
class Snapshot:
    """The model of one round of a run, in the file `path`."""

    path: Path
    round: int
    classes: list[str]
    image_size: int
    channels: int

    @property
    def run(self) -> str:
        """The run's name."""
        return self.path.parent.parent.name

    @property
    def best(self) -> bool:
        """Whether it was asked for as the run's best."""
        return self.path.stem == "best"

    @property
    def name(self) -> str:
        """Which model it is, in words."""
        return f"{self.run}, round {self.round}" + (" (best)" if self.best else "")

    @cached_property
    def model(self) -> keras.Model:
        """The Keras model; TensorFlow is imported when it is first needed."""
        with _quiet():
            configure_tensorflow(len(os.sched_getaffinity(0)))
        configure_gpu(0)
        return load_snapshot(self.path)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The model's answers (n, C) to uint8 images (n, image_size, image_size, channels), float64.

        Raises
        ------
        UserError
            When they are not finite.
        """
        found = [np.asarray(self.model(images[start : start + BATCH], training=False)) for start in range(0, len(images), BATCH)]
        logits = np.concatenate([np.empty((0, len(self.classes))), *found])
        if not np.isfinite(logits).all():
            raise UserError(f"the model of {self.name} gives values that are not finite: its training has diverged, take an earlier round")
        return logits

    def ask(self, paths: Sequence[str], log: Callable[[str], None]) -> Iterator[np.ndarray | str]:
        """For each image file in order its logits (C,), or the reason why it cannot be read."""
        look = partial(_decode, self.image_size, self.channels)
        decoded = cache.in_parallel(look, paths, "decoding", log)
        while some := list(islice(decoded, BATCH)):
            images = [image for image in some if not isinstance(image, str)]
            answers = iter(self.logits(np.stack(images)) if images else ())
            yield from (image if isinstance(image, str) else next(answers) for image in some)


def add_snapshot_options(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take which model is meant."""
    parser.add_argument("--run", required=True, metavar="R", help="a run's name, or its folder")
    parser.add_argument("--round", metavar="N", help="a round's number, or best (default: the best, or the last of a run that has none)")


def open_snapshot(run: str, which: str | None) -> Snapshot:
    """The model that a user names as `find_snapshot` says, in the project of the current folder.

    Raises
    ------
    UserError
        When there is none, or it cannot be read.
    """
    number, path = find_snapshot(project_root() / "results", run, which)
    federation = read_info(path.parent.parent).get("federation", {})
    try:
        return Snapshot(path, number, federation["classes"], federation["image_size"], federation["channels"])
    except KeyError as error:
        raise UserError(f"{path.parent.parent / 'run.toml'} has no {error} in [federation]: it does not describe a model") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what TensorFlow's libraries print while they are loaded, unless that fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _decode(size: int, channels: int, path: str) -> np.ndarray | str:
    try:
        return decode.decode(path, size, channels)
    except decode.Unreadable as error:
        return str(error)
