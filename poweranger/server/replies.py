"""Guards: what a reply must be before it may touch the global model or a figure. Pure functions."""
from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Message, MetricRecord

from poweranger.counts import Counts, decode
from poweranger.messages import ARRAYS, METRICS, NUM_EXAMPLES, unpack


class Unusable(ValueError):
    """Why a reply is excluded, as a sentence."""


@dataclass
class Figures:
    """The numbers of one reply.

    Attributes
    ----------
    metrics : scalars by column name; a value may be NaN (it is then left out of the mean).
    counts : as `counts.shapes` has them, those that the client sent.
    """

    num_examples: int
    metrics: dict[str, float] = field(default_factory=dict)
    counts: Counts = field(default_factory=dict)


def read_weights(reply: Message, size: int) -> np.ndarray:
    """The flat float32 weights of a training reply.

    Raises
    ------
    Unusable
        When they are missing, of another size than `size`, or not finite.
    """
    try:
        flat = unpack(reply.content.array_records[ARRAYS])
    except Exception as error:  # whatever a broken client may send, NumPy and Flower fail at it in many ways
        raise Unusable(f"it sent no usable weights: {error}") from None
    if flat.size != size:
        raise Unusable(f"it sent {flat.size} weights, the model has {size}")
    bad = int(flat.size - np.isfinite(flat).sum())
    if bad:
        raise Unusable(f"{bad} of its {size} weights are NaN or infinite")
    return flat


def read_figures(reply: Message, num_classes: int) -> Figures:
    """The numbers of a reply.

    Raises
    ------
    Unusable
        When the number of examples is missing, zero or no number, or the counts do not fit it or the classes.
    """
    record: Any = reply.content.metric_records.get(METRICS, MetricRecord())
    count = record.get(NUM_EXAMPLES)
    if not isinstance(count, (int, float)) or not math.isfinite(count) or count < 0:
        raise Unusable(f"it sent no usable {NUM_EXAMPLES} ({count!r})")
    if count == 0:
        raise Unusable("it used 0 examples")
    try:
        counts = decode(record, num_classes, int(count))
    except ValueError as error:
        raise Unusable(str(error)) from None
    scalars = {name: value for name, value in record.items() if name != NUM_EXAMPLES and not isinstance(value, list)}
    return Figures(int(count), {name.replace("-", "_"): float(value) for name, value in scalars.items()}, counts)
