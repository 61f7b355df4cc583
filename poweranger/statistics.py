"""Figures of merit of a classifier and their intervals. Plain NumPy; nothing here knows where the counts come from.

Figures of ranking take a tabulation: an array (..., 2, B) whose last axis runs over scores from the lowest to the
highest, whose row 0 counts the images of other classes at each score and row 1 those of the class. With a column for
every distinct score (`tabulate`) they are exact; with a column for every bin of a histogram they are those of scores
rounded to the bins. Without any image on one side there is no figure: it is NaN.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

Z_95 = 1.959963984540054  # the normal distribution's quantile for a two-sided interval of 95 %


def log_odds(logits: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) of every class's softmax probability p; it ranks images as p does, and does not end at 1.

    Parameters
    ----------
    logits : (n, C), C at least 2.

    Returns
    -------
    np.ndarray
        (n, C), float64.
    """
    logits = np.asarray(logits, np.float64)
    odds = np.empty_like(logits)
    for c in range(logits.shape[1]):
        others = np.delete(logits, c, axis=1)
        top = others.max(1)
        odds[:, c] = logits[:, c] - top - np.log(np.exp(others - top[:, None]).sum(1))
    return odds


def probability(odds: np.ndarray) -> np.ndarray:
    """The probability of these log odds, float64 of the same shape."""
    odds = np.asarray(odds, np.float64)
    small = np.exp(-np.abs(odds))
    return np.where(odds < 0, small, 1) / (1 + small)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (n, C) of logits (n, C), float64; their sum is 1."""
    logits = np.asarray(logits, np.float64)
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


def tabulate(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct scores, ascending (B,), and how many images of either side have each: (2, B).

    Parameters
    ----------
    scores : (n,). positive : (n,), whether an image is of the class.
    """
    values, place = np.unique(scores, return_inverse=True)
    sides = [np.bincount(place[positive == side], minlength=len(values)) for side in (False, True)]
    return values, np.stack(sides)


def auc(counts: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the share of pairs in which the image of the class has the higher score, ties half.

    Hanley and McNeil, Radiology 143:29 (1982), https://doi.org/10.1148/radiology.143.1.7063747.

    Parameters
    ----------
    counts : tabulation (..., 2, B).
    """
    negative, positive = _sides(counts)
    below = np.cumsum(negative, -1) - negative / 2
    return _share((positive * below).sum(-1), positive.sum(-1) * negative.sum(-1))


def average_precision(counts: np.ndarray) -> np.ndarray:
    """Mean of the precision over the images of the class, each at its own score as the threshold; no interpolation.

    Zhu, Recall, precision and average precision, 2004; as in scikit-learn's `average_precision_score`.

    Parameters
    ----------
    counts : tabulation (..., 2, B).
    """
    negative, positive = _sides(counts)
    hits = np.cumsum(positive[..., ::-1], -1)[..., ::-1]
    called = hits + np.cumsum(negative[..., ::-1], -1)[..., ::-1]
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    none = np.where(negative.sum(-1) > 0, 1, np.nan)  # without others every ranking is perfect
    return _share((positive * precision).sum(-1), positive.sum(-1)) * none


def operating_point(counts: np.ndarray, wanted: float) -> tuple[int, float, float] | None:
    """The highest score from which at least the `wanted` share of the class is found.

    Parameters
    ----------
    counts : tabulation (2, B).

    Returns
    -------
    tuple or None
        Index of that score, and sensitivity and specificity of calling everything from it on positive; None when
        one side has no image.
    """
    negative, positive = _sides(counts)
    if not positive.sum() or not negative.sum():
        return None
    found = np.cumsum(positive[::-1])[::-1]
    index = int(np.flatnonzero(found >= wanted * positive.sum() - 1e-9)[-1])
    return index, float(found[index] / positive.sum()), float(negative[:index].sum() / negative.sum())


def calibration_error(count: np.ndarray, correct: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Expected calibration error: how far the confidence in the predicted class is from the share that is right.

    Guo et al., On calibration of modern neural networks, 2017, https://arxiv.org/abs/1706.04599.

    Parameters
    ----------
    count, correct, confidence : (..., bins) of confidence: images, those predicted right, and the sum of their
        confidences.
    """
    return _share(np.abs(np.asarray(correct, np.float64) - confidence).sum(-1), np.asarray(count, np.float64).sum(-1))


def wilson(hits: float, total: float) -> tuple[float, float]:
    """The 95 % interval of a share, `hits` of `total`, after Wilson (J. Am. Stat. Assoc. 22:209, 1927).

    It keeps within 0..1 and has a width also for 0 or all hits; of nothing it is (0, 1).
    """
    if not total:
        return 0.0, 1.0
    share, z2 = hits / total, Z_95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z_95 / (1 + z2 / total) * np.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def auc_interval(area: float, images: int, others: int) -> tuple[float, float]:
    """The 95 % interval of an AUC that is known without its scores.

    Method 5 of Newcombe, Stat. Med. 25:559 (2006), https://doi.org/10.1002/sim.2324: the areas from which this one is no further
    than chance takes it, by Hanley and McNeil's variance. As Wilson's it keeps within 0..1 and has a width also for 0 and 1.

    Parameters
    ----------
    images, others : of the class and of all other classes; at least one of each.
    """
    extra = (images + others) / 2 - 1

    def limit(end: float) -> float:
        inside, outside = area, end
        for _ in range(50):
            middle = (inside + outside) / 2
            variance = middle * (1 - middle) * (1 + extra * ((1 - middle) / (2 - middle) + middle / (1 + middle))) / (images * others)
            inside, outside = (middle, outside) if (middle - area) ** 2 <= Z_95**2 * variance else (inside, middle)
        return inside

    return limit(0.0), limit(1.0)


def bootstrap(y: np.ndarray, figures: Callable[[np.ndarray], np.ndarray], resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """95 % percentile intervals of figures over images drawn anew, each class by itself; the same for the same seed.

    Efron and Tibshirani, An introduction to the bootstrap, 1993, chapter 13. Classes keep their sizes, as is usual
    for ROC curves (Robin et al., pROC, 2011). Images count as independent: where several are of one patient, the
    intervals are too narrow. A figure that is perfect stays so in every resample: its interval has no width.

    Parameters
    ----------
    y : (n,), the images' classes.
    figures : from weights (n,), how often each image was drawn, to an array of figures (m,); NaN is left out.

    Returns
    -------
    np.ndarray
        (m, 2), low and high; NaN for a figure that was NaN throughout.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(y == c) for c in np.unique(y)]
    found = []
    for _ in range(resamples):
        weights = np.zeros(len(y))
        for member in members:
            weights[member] = np.bincount(rng.integers(0, len(member), len(member)), minlength=len(member))
        found.append(figures(weights))
    values = np.array(found)
    known = ~np.isnan(values).all(0)
    interval = np.full((values.shape[1], 2), np.nan)
    interval[known] = np.nanquantile(values[:, known], (0.025, 0.975), axis=0).T
    return interval


def _sides(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = np.asarray(counts, np.float64)
    return counts[..., 0, :], counts[..., 1, :]


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
