"""Figures of merit against scikit-learn, and intervals against published values."""
from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from poweranger.statistics import (
    auc,
    auc_interval,
    average_precision,
    bootstrap,
    calibration_error,
    log_odds,
    operating_point,
    probability,
    softmax,
    tabulate,
    wilson,
)


def answers(n: int, classes: int, seed: int, *, skill: float = 1.5, spread: float = 1.0, rounded: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, C) of a classifier of some skill, and the true classes; `rounded` to so many digits they have ties."""
    rng = np.random.default_rng(seed)
    y = rng.choice(classes, n, p=rng.dirichlet(np.full(classes, 5.0)))
    logits = spread * (rng.standard_normal((n, classes)) + skill * np.eye(classes)[y])
    return logits if rounded is None else logits.round(rounded), y


@pytest.mark.parametrize(("spread", "rounded"), [(1.0, None), (1.0, 0), (0.02, None), (6.0, None)])
def test_ranking_is_as_scikit_learn_has_it(spread: float, rounded: int | None) -> None:
    logits, y = answers(400, 3, 1, spread=spread, rounded=rounded)
    share, odds = softmax(logits).round(12), log_odds(logits).round(9)  # rounded: ties must be ties for both
    assert np.allclose(probability(log_odds(logits)), softmax(logits), atol=1e-12)
    for c in range(3):
        values, counts = tabulate(odds[:, c], y == c)
        assert auc(counts) == pytest.approx(roc_auc_score(y == c, share[:, c]), abs=1e-9)
        assert average_precision(counts) == pytest.approx(average_precision_score(y == c, share[:, c]), abs=1e-9)
        point = operating_point(counts, 0.9)
        assert point
        away, found, thresholds = roc_curve(y == c, odds[:, c], drop_intermediate=False)
        first = np.flatnonzero(found >= 0.9)[0]
        assert (values[point[0]], *point[1:]) == pytest.approx((thresholds[first], found[first], 1 - away[first]))


def test_a_missing_side_gives_no_figure() -> None:
    both = np.array([[1, 2], [2, 1]])
    counts = np.stack([both, both * [[0], [1]], both * [[1], [0]]])  # all there, no others, none of the class
    assert np.isfinite(auc(counts)).tolist() == [True, False, False]
    assert np.isfinite(average_precision(counts)).tolist() == [True, False, False]
    assert operating_point(counts[1], 0.9) is operating_point(counts[2], 0.9) is None
    assert np.isnan(calibration_error(np.zeros(3), np.zeros(3), np.zeros(3)))
    assert log_odds(np.array([[900.0, -900.0]])).tolist() == [[1800.0, -1800.0]]  # a probability would end at 1


def test_wilson_as_published() -> None:
    """Newcombe, Statistics in Medicine 17:857 (1998), table I, method 3."""
    for hits, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):
        assert wilson(hits, total) == pytest.approx((low, high), abs=5e-5)
        assert wilson(total - hits, total) == pytest.approx((1 - high, 1 - low), abs=5e-5)
    assert wilson(0, 0) == (0, 1)


def test_an_area_s_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, truth, inside = np.random.default_rng(0), 0.9213503964748574, 0  # Phi(2 / sqrt 2)
    for _ in range(500):
        scores, positive = np.r_[rng.normal(0, 1, 40), rng.normal(2, 1, 25)], np.arange(65) >= 40
        low, high = auc_interval(float(auc(tabulate(scores, positive)[1])), 25, 40)
        inside += low <= truth <= high
    assert 0.92 < inside / 500 < 0.98
    assert auc_interval(1.0, 25, 40)[1] == 1.0 and 0.8 < auc_interval(1.0, 25, 40)[0] < 0.95


def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """The AUC of two normal distributions one deviation apart is 0.760."""
    truth, held = 0.7602, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = np.arange(120) % 2
        scores = rng.standard_normal(120) + y
        order = np.argsort(scores)
        side = y[order][None] == np.arange(2)[:, None]

        def figures(weights: np.ndarray, order: np.ndarray = order, side: np.ndarray = side) -> np.ndarray:
            return np.array([auc(weights[order] * side), np.nan])

        (low, high), unknown = bootstrap(y, figures, resamples=200, seed=seed)
        assert np.isnan(unknown).all()
        held += low <= truth <= high
    assert 51 <= held <= 60  # 57 expected; fewer than 51 have a chance of 1 in 200
