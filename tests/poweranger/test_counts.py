"""What sites count, merged: the figures of all their images together."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from poweranger.counts import CALIBRATION, CONFIDENCE_BINS, CONFUSION, SCORE_EDGES, SCORES, Counts, count, decode, encode, shapes
from poweranger.statistics import auc, average_precision, calibration_error, operating_point, probability, softmax


def answers(sites: int, n: int, classes: int, **shape: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Logits and true classes of each site: unlike in size of the classes and in how sure the model is there."""
    found = []
    skill, spread, offset, rounded = (shape.get(name, usual) for name, usual in (("skill", 1.2), ("spread", 1.0), ("offset", 0.0), ("rounded", None)))
    for site in range(sites):
        rng = np.random.default_rng((site, n, classes))
        y = rng.choice(classes, n, p=rng.dirichlet(np.ones(classes)))
        logits = spread * (1 + 0.3 * site) * (rng.standard_normal((n, classes)) + skill * np.eye(classes)[y])
        logits[:, 0] += offset
        found.append((logits.astype(np.float32) if rounded is None else logits.round(rounded), y))
    return found


def merged(found: list[tuple[np.ndarray, np.ndarray]]) -> Counts:
    """The sum of what every site sends."""
    classes = found[0][0].shape[1]
    read = [decode(encode(count(logits, y)), classes, len(y)) for logits, y in found]
    return {name: np.sum([one[name] for one in read], axis=0) for name in shapes(classes)}


HARD = {
    "usual": answers(5, 200, 3),
    "small sites": answers(8, 15, 2),
    "very sure and right": answers(3, 300, 3, skill=4, spread=6),
    "very sure and often wrong": answers(3, 300, 2, skill=0.7, spread=10),
    "thrown off, all say the same": answers(3, 100, 3, spread=3, offset=100.0),
    "hardly trained": answers(3, 300, 4, spread=0.05),
    "all say the same": answers(3, 200, 2, spread=0.3, offset=6.0),
    "ties": answers(4, 100, 3, rounded=0),
    "constant": [(np.zeros((20, 3)), np.arange(20) % 3)] * 2,
    "many classes": answers(3, 400, 9),
}


@pytest.mark.parametrize("found", HARD.values(), ids=HARD)
def test_merged_counts_give_the_figures_of_the_pooled_scores(found: list[tuple[np.ndarray, np.ndarray]]) -> None:
    total = merged(found)
    logits, y = (np.concatenate(parts) for parts in zip(*found, strict=True))
    share, classes = softmax(logits), logits.shape[1]
    for c in range(classes):
        assert auc(total[SCORES])[c] == pytest.approx(roc_auc_score(y == c, share[:, c]), abs=0.002)
        assert average_precision(total[SCORES])[c] == pytest.approx(average_precision_score(y == c, share[:, c]), abs=0.005)
        point = operating_point(total[SCORES][c], 0.9)
        assert point
        threshold = probability(SCORE_EDGES[point[0] - 1]) if point[0] else 0.0
        called = share[:, c] >= threshold
        assert called[y == c].mean() == pytest.approx(point[1], abs=1e-9)
        assert (~called)[y != c].mean() == pytest.approx(point[2], abs=1e-9)
        assert point[1] >= 0.9
    sure, right = share.max(1), logits.argmax(1) == y
    bins = [(sure > low / CONFIDENCE_BINS) & (sure <= (low + 1) / CONFIDENCE_BINS) for low in range(CONFIDENCE_BINS)]
    by_hand = sum(abs(right[own].mean() - sure[own].mean()) * own.mean() for own in bins if own.any())
    numbers, correct, confidence = total[CALIBRATION]
    assert calibration_error(numbers, correct, confidence / 1e6) == pytest.approx(by_hand, abs=1e-6)


def test_answers_that_are_no_numbers_are_counted_nowhere() -> None:
    logits = np.array([[0.0, 1.0], [np.nan, 0.0]])
    assert set(count(logits, np.array([1, 0]))) == {CONFUSION}


def test_a_reply_grows_with_its_images_not_with_the_bins() -> None:
    logits, y = HARD["small sites"][0]
    assert len(encode(count(logits, y))[SCORES]) <= 2 * 2 * len(y)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({CONFUSION: [3, 1, 0]}, "confusion counts do not fit 2 classes"),
        ({CONFUSION: [3, 1, 0, 1]}, "confusion counts do not add up to its 6 examples"),
        ({CONFUSION: [3, 1, -1, 3]}, "confusion counts are no whole numbers"),
        ({CONFUSION: [3.5, 1.0, 0.0, 1.5]}, "confusion counts are no whole numbers"),
        ({CONFUSION: [1, 0, 1, 4]}, "disagree"),
        ({SCORES: [0, 5]}, "scores counts do not add up"),
        ({SCORES: [0]}, "scores counts do not fit"),
        ({SCORES: [5, 3, 5, 3]}, "scores counts do not fit"),
        ({SCORES: [10**9, 6]}, "scores counts do not fit"),
        ({SCORES: [2**62, 6]}, "scores counts do not fit"),
        ({CALIBRATION: [2] * 45}, "calibration counts do not add up"),
        ({CALIBRATION: [10**9] * 45}, "calibration counts do not fit"),
        ({CALIBRATION: []}, "calibration counts are no whole numbers"),
    ],
)
def test_counts_that_do_not_fit_are_refused(change: dict[str, list[float]], reason: str) -> None:
    reply = encode(count(np.array([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 2), np.array([0, 0, 0, 1, 1, 1])))
    assert decode(reply, 2, 6)[CONFUSION].tolist() == [[3, 0], [1, 2]]
    with pytest.raises(ValueError, match=reason):
        decode(reply | change, 2, 6)
