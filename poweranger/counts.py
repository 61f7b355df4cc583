"""What a site counts of its model's answers. The counts of several sites add up, and every figure comes from the sum.

Merged figures are therefore those of all images together, not means of the sites' own.

- `confusion` (C, C): images by true class and predicted class.
- `scores` (C, 2, SCORE_BINS): for each class, its probability over all images, of other classes (0) and of the class (1).
  The bins are of the log odds, equally wide on an asinh scale: about 0.002 wide in the middle and 0.2 % of the log odds
  beyond, as far as double precision can tell probabilities from 0 and from 1. So the order of very sure answers is kept,
  and each bin's edge can be used as a threshold. The AUC from them is within 0.002 of that of the scores.
- `calibration` (3, CONFIDENCE_BINS): by the predicted class's probability, in equal bins: images, those predicted
  right, and the sum of the probabilities in millionths.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from poweranger.statistics import log_odds, softmax

CONFUSION, SCORES, CALIBRATION = "confusion", "scores", "calibration"  # in the replies
SCORE_BINS = 5120
CONFIDENCE_BINS = 15  # as in Guo et al., 2017
LOWEST, HIGHEST = -700.0, 33.0  # log odds of 1e-304 and of 1 - 5e-15; beyond either all is one bin
MILLION = 1_000_000
Counts = dict[str, np.ndarray]

SCORE_EDGES = np.sinh(np.linspace(np.arcsinh(LOWEST), np.arcsinh(HIGHEST), SCORE_BINS - 1))  # between the bins


def shapes(classes: int) -> dict[str, tuple[int, ...]]:
    """Shape of each count by name, for a model of `classes` classes."""
    return {CONFUSION: (classes, classes), SCORES: (classes, 2, SCORE_BINS), CALIBRATION: (3, CONFIDENCE_BINS)}


def count(logits: np.ndarray, y: np.ndarray) -> Counts:
    """Count the answers to n images.

    Parameters
    ----------
    logits : (n, C). Where some are not finite there are no scores and no calibration.
    y : (n,), the true classes.
    """
    classes = logits.shape[1]
    y, predicted = np.asarray(y, np.int64), logits.argmax(1)
    counts: Counts = {CONFUSION: np.bincount(y * classes + predicted, minlength=classes**2).reshape(classes, classes)}
    if not np.isfinite(logits).all():
        return counts
    place = np.searchsorted(SCORE_EDGES, log_odds(logits), side="right")
    own = y[:, None] == np.arange(classes)
    flat = (np.arange(classes) * 2 + own) * SCORE_BINS + place
    counts[SCORES] = np.bincount(flat.ravel(), minlength=classes * 2 * SCORE_BINS).reshape(classes, 2, SCORE_BINS)
    sure = softmax(logits).max(1)
    place = confidence_bins(sure)
    columns = (np.ones(len(y)), predicted == y, np.rint(sure * MILLION))
    counts[CALIBRATION] = np.stack([np.bincount(place, column, CONFIDENCE_BINS).astype(np.int64) for column in columns])
    return counts


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """The bin of each confidence (n,) above 0 and up to 1; a bin holds its upper edge."""
    return np.ceil(confidence * CONFIDENCE_BINS).astype(int) - 1


def encode(counts: Counts) -> dict[str, list[int]]:
    """The counts as a reply carries them: flat lists; of the scores, mostly empty, pairs of a bin's number and its count."""
    lists = {name: array.ravel().tolist() for name, array in counts.items() if name != SCORES}
    if SCORES in counts:
        flat = counts[SCORES].ravel()
        full = np.flatnonzero(flat)
        lists[SCORES] = np.stack([full, flat[full]], axis=1).ravel().tolist()
    return lists


def decode(reply: Mapping[str, Any], classes: int, examples: int) -> Counts:
    """The counts in a reply, those that are there.

    Raises
    ------
    ValueError
        When they do not fit the classes or the number of examples; the text says which.
    """
    counts: Counts = {}
    for name, shape in shapes(classes).items():
        if name in reply:
            numbers = np.asarray(reply[name])
            if numbers.dtype.kind not in "iu" or numbers.ndim != 1 or (numbers < 0).any():
                raise ValueError(f"its {name} counts are no whole numbers from 0")
            numbers = numbers.astype(np.int64)
            size = int(np.prod(shape))
            if name == SCORES:
                numbers = _dense(numbers, size)
            if numbers.size != size or numbers.max() > examples * MILLION:
                raise ValueError(f"its {name} counts do not fit {classes} classes")
            counts[name] = numbers.reshape(shape)
    _check_sums(counts, examples)
    return counts


def _dense(pairs: np.ndarray, size: int) -> np.ndarray:
    places, found = pairs[::2], pairs[1::2]
    if len(places) != len(found) or not (np.diff(places) > 0).all() or (places >= size).any():
        return np.empty(0, np.int64)
    flat = np.zeros(size, np.int64)
    flat[places] = found
    return flat


def _check_sums(counts: Counts, examples: int) -> None:
    """Every image has one true class, one score a class and one confidence."""
    sums: dict[str, Any] = {}
    if CONFUSION in counts:
        sums[CONFUSION] = counts[CONFUSION].sum()
    if SCORES in counts:
        sums[SCORES] = counts[SCORES].sum((1, 2))
    if CALIBRATION in counts:
        sums[CALIBRATION] = counts[CALIBRATION][0].sum()
    for name, total in sums.items():
        if (total != examples).any():
            raise ValueError(f"its {name} counts do not add up to its {examples} examples")
    if CONFUSION in counts and SCORES in counts and (counts[SCORES][:, 1].sum(1) != counts[CONFUSION].sum(1)).any():
        raise ValueError("its scores and its confusion counts disagree about the classes' sizes")
