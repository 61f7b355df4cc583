"""Sampling, schedule and figures."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

from poweranger.run_config import parse_overrides, resolve
from poweranger.server.utils import class_metrics, learning_rate, sample, spell_seconds, weighted_means


def test_sample_takes_the_share_and_at_least_the_minimum() -> None:
    names = [f"C{i}" for i in range(10)]
    assert len(sample(names, 0.3, 1, 0, 1, "fit")) == 3
    assert len(sample(names, 0.0, 2, 0, 1, "fit")) == 2
    assert len(sample(names[:1], 0.3, 5, 0, 1, "fit")) == 1
    assert len(sample([f"C{i}" for i in range(100)], 0.29, 1, 0, 1, "fit")) == 29


def test_sample_is_the_same_for_the_same_round_and_differs_over_rounds() -> None:
    names = [f"C{i}" for i in range(20)]
    draws = [sample(names[::-1] if r % 2 else names, 0.3, 1, 7, r // 2, "fit") for r in range(20)]
    assert all(draws[i] == draws[i + 1] for i in range(0, 20, 2)) and len({tuple(d) for d in draws}) > 5


def test_learning_rate_warms_up_and_falls_to_two_percent() -> None:
    config = resolve(parse_overrides("num-server-rounds=30 learning-rate=0.05 warmup-rounds=1"))
    rates = [learning_rate(r, config) for r in range(1, 31)]
    assert rates[0] == pytest.approx(0.025) and rates[1] == pytest.approx(0.05) and all(a > b for a, b in itertools.pairwise(rates[1:]))
    assert 0.02 * 0.05 <= rates[-1] < 0.05 * 0.03
    constant = resolve(parse_overrides("lr-schedule=constant warmup-rounds=0"))
    assert {learning_rate(r, constant) for r in range(1, 4)} == {0.05}
    step = resolve(parse_overrides("lr-schedule=step warmup-rounds=1 num-server-rounds=8"))
    assert [learning_rate(r, step) for r in range(1, 9)] == pytest.approx([0.025, 0.05, 0.05, 0.05, 0.005, 0.005, 0.0005, 0.0005])


def test_missing_and_nan_metrics_are_left_out_and_weights_renormalised() -> None:
    rows = [{"num_examples": 1, "loss": 1.0, "accuracy": 0.5}, {"num_examples": 3, "loss": float("nan"), "accuracy": 0.9}, {"num_examples": 4, "loss": 3.0}]
    means = weighted_means(rows, ("num_examples",))
    assert means["loss"] == pytest.approx((1 + 4 * 3) / 5) and means["accuracy"] == pytest.approx((0.5 + 3 * 0.9) / 4)
    assert weighted_means([{"num_examples": 0, "loss": 1.0}], ()) == {}


def test_class_metrics_by_hand() -> None:
    counts = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])  # the third class has no image
    found = class_metrics(counts, ["a", "b", "c"])
    assert found["accuracy"] == pytest.approx(17 / 20) and found["balanced_accuracy"] == pytest.approx((0.8 + 0.9) / 2)
    assert found["sensitivity_a"] == pytest.approx(0.8) and found["specificity_a"] == pytest.approx(0.9)
    assert "sensitivity_c" not in found and found["specificity_c"] == 1.0
    assert class_metrics(np.zeros((2, 2)), ["a", "b"]) == {}


def test_spell_seconds() -> None:
    assert [spell_seconds(s) for s in (0.42, 12.3, 200, 7500)] == ["0.4 s", "12 s", "3 min 20 s", "2 h 5 min"]
