"""The model: a compact CNN, and how a snapshot becomes a Keras model again.

Importing this module does not import TensorFlow: the server reads it too.
"""
from __future__ import annotations

import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poweranger.errors import UserError

if TYPE_CHECKING:
    import keras

WIDTHS = (32, 48, 96, 128)  # filters of the stages; all but the last halve the side
GROUPS = 8  # of channels, in every normalisation
UNSTRIDED = 64  # pixels up to which the first convolution takes every position
LARGEST_MAP = 112  # side of its map beyond that: it is where memory and time go


def build_model(
    image_size: int,
    channels: int,
    num_classes: int,
    *,
    dropout: float = 0.2,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int | None = None,
) -> keras.Model:
    """The federation's CNN, from images of values 0 to 255 to logits; about 167,000 parameters.

    Group normalisation (Wu & He, 2018, https://arxiv.org/abs/1803.08494) instead of batch normalisation, whose
    statistics do not average well over unlike sites (Hsieh et al., 2020, https://arxiv.org/abs/1910.00189).

    Parameters
    ----------
    image_size, channels : the input has shape (image_size, image_size, channels), uint8 or float.
    num_classes : length of the output.
    dropout : share of the last features dropped in training.
    mean, std : per channel, of images scaled to 0..1; they become constants of the first layer, not weights.
        None scales to 0..1 only.
    seed : of the first weights; None draws one.
    """
    from keras import Input, Model, initializers, layers

    mean_ = np.zeros(channels) if mean is None else np.asarray(mean, dtype=np.float64)
    std_ = np.ones(channels) if std is None else np.asarray(std, dtype=np.float64)
    stride = 1 if image_size <= UNSTRIDED else max(2, -(-image_size // LARGEST_MAP))
    seeds = iter(np.random.SeedSequence(seed).generate_state(len(WIDTHS) + 2).tolist())

    inputs = Input((image_size, image_size, channels), name="image")
    x = layers.Rescaling((1 / (255 * std_)).tolist(), (-mean_ / std_).tolist())(inputs)
    for stage, width in enumerate(WIDTHS):
        step = stride if stage == 0 else 1
        x = layers.Conv2D(
            width,
            max(3, step | 1),  # odd, and no pixel is skipped
            strides=step,
            padding="same",
            use_bias=False,
            kernel_initializer=initializers.HeNormal(next(seeds)),
        )(x)
        if stage < len(WIDTHS) - 1:
            x = layers.MaxPooling2D()(x)  # before the normalisation: a quarter of its work
        x = layers.GroupNormalization(GROUPS)(x)
        x = layers.Activation("relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout, seed=next(seeds), name="dropout")(x)
    logits = layers.Dense(num_classes, kernel_initializer=initializers.GlorotUniform(next(seeds)))(x)
    return Model(inputs, logits)


def weight_shapes(model: keras.Model) -> list[tuple[int, ...]]:
    """Shapes of `model.get_weights()`, in order."""
    return [tuple(weight.shape) for weight in model.weights]


def split_flat(flat: np.ndarray, shapes: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Cut a flat vector into arrays of `shapes`, in order (views, no copies)."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    if sum(sizes) != flat.size:
        raise ValueError(f"the model has {sum(sizes)} weights, the vector {flat.size}")
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    return [part.reshape(tuple(shape)) for part, shape in zip(parts, shapes, strict=True)]


def load_snapshot(path: str | Path) -> keras.Model:
    """The Keras model of a snapshot, `results/runs/<run>/models/round_NNN.npz`.

    It takes images of shape (n, image_size, image_size, channels) with values 0 to 255 and returns logits, in the
    order of the run's classes. `results/models/round_NNN.npz`, the newest run's, works as well.

    Raises
    ------
    UserError
        When the snapshot or its run's `run.toml` is missing, cannot be read, or does not fit the other.
    """
    path = Path(path).resolve()  # results/models is a link: run.toml lies beside its target
    weights = _read_weights(path)
    run_file = path.parent.parent / "run.toml"
    run = _read_run(run_file)
    try:
        federation, config = run["federation"], run["config"]
        model = build_model(
            federation["image_size"],
            federation["channels"],
            len(federation["classes"]),
            dropout=config["dropout"],
            mean=federation["mean"],
            std=federation["std"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run_file} does not describe a model ({error!r}): it is no run's own run.toml") from None
    if [weight.shape for weight in weights] != weight_shapes(model):
        raise UserError(f"{path} does not fit the model that {run_file} describes: it is of another run or version")
    model.set_weights(weights)
    return model


def _read_weights(path: Path) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[f"arr_{k}"] for k in range(len(arrays.files))]
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give a run's models/round_NNN.npz") from None
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no snapshot that can be read ({error}): give a run's models/round_NNN.npz") from None


def _read_run(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: a snapshot needs the run.toml of its run, one folder above it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
