"""Figures over sites that are unlike: merged exactly, a site or class that has none gives none, the worst site is named."""
from __future__ import annotations

import csv
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score

from poweranger.counts import count, encode
from poweranger.results import Run
from poweranger.server.figures import absent, apart, class_rows, evaluation_metrics, merge
from poweranger.statistics import log_odds


def site(seed: int, sizes: tuple[int, ...], skill: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits and true classes of a site with so many images of each class."""
    y = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(seed).standard_normal((len(y), len(sizes))) + skill * np.eye(len(sizes))[y], y


def table(run: Run, name: str) -> list[dict[str, str]]:
    with (run.path / "metrics" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_s_figures_are_those_of_all_images_together(federate: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    sites = [site(1, (60, 40), 1.5), site(2, (30, 5), 0.7), site(3, (25, 0), 1.0)]  # the last has one class only
    broken = encode(count(*sites[0]))
    replies = iter([{"num-examples": len(y), "loss": 0.5 + 0.1 * n, **encode(count(logits, y))} for n, (logits, y) in enumerate(sites)]
                   + [{"num-examples": 100, **broken, "scores": broken["scores"][:-2]}])  # fmt: skip
    stay: Callable[[np.ndarray, Any], np.ndarray] = lambda weights, config: weights  # noqa: E731
    run = federate("num-server-rounds=1 wanted-sensitivity=0.9", dict.fromkeys((1, 2, 3, 4), stay), lambda number: next(replies))

    (row,) = table(run, "eval_metrics")
    logits, y = (np.concatenate(parts) for parts in zip(*sites, strict=True))
    pooled = roc_auc_score(y, log_odds(logits)[:, 1])
    assert [float(row[name]) for name in ("auc", "auc_a", "auc_b")] == pytest.approx([pooled] * 3, abs=0.002)
    own = {len(y): recall_score(y, logits.argmax(1), labels=np.unique(y), average="macro") for logits, y in sites}
    assert float(row["balanced_accuracy"]) == pytest.approx(balanced_accuracy_score(y, logits.argmax(1)))
    assert float(row["balanced_accuracy_worst"]) == pytest.approx(min(own.values()))
    assert float(row["balanced_accuracy_spread"]) == pytest.approx(np.std(list(own.values()), ddof=1))
    assert float(row["loss_worst"]) == pytest.approx(0.7)

    clients = {int(row["num_examples"]): row for row in table(run, "eval_client_metrics")}
    assert {number: float(clients[number]["balanced_accuracy"]) for number in own} == pytest.approx(own)
    assert float(clients[100]["auc"]) == pytest.approx(roc_auc_score(sites[0][1], log_odds(sites[0][0])[:, 1]), abs=0.002)
    assert clients[25]["auc"] == clients[25]["average_precision"] == "" and clients[25]["ece"]
    least = clients[min(own, key=lambda number: float(clients[number]["accuracy"]))]
    assert f"least accurate {least['client_id']} {float(least['accuracy']):.3f}" in capsys.readouterr().out

    points = {row["class"]: row for row in table(run, "class_metrics")}
    assert (points["b"]["images"], points["b"]["others"]) == ("45", "115")
    called = log_odds(logits)[:, 1] >= np.log(float(points["b"]["threshold"]) / (1 - float(points["b"]["threshold"]))) - 1e-9
    assert called[y == 1].mean() == pytest.approx(float(points["b"]["threshold_sensitivity"])) and called[y == 1].mean() >= 0.9
    assert (~called)[y == 0].mean() == pytest.approx(float(points["b"]["threshold_specificity"]))

    (refused,) = [row for row in table(run, "participation") if row["outcome"] == "excluded"]
    assert (refused["phase"], refused["reason"]) == ("eval", "its scores counts do not add up to its 100 examples")


def test_a_class_that_nobody_has_leaves_its_column_empty_and_the_means_to_the_others() -> None:
    classes = ["a", "b", "gone"]
    found = [site(seed, (20, 30, 0), 1.0) for seed in (1, 2)]
    counts = merge([count(logits, y) for logits, y in found])
    metrics = evaluation_metrics(counts, classes)
    assert "auc_gone" not in metrics and np.isfinite(list(metrics.values())).all()
    assert metrics["auc"] == pytest.approx((metrics["auc_a"] + metrics["auc_b"]) / 2)
    assert absent(counts, classes) == ["gone"]
    row = class_rows(counts, classes, 0.9)[2]
    assert row["images"] == 0 and "threshold" not in row
    assert merge([count(*found[0]), {}]) == {}  # one that sent none: nothing is of all images
    assert evaluation_metrics({}, classes) == {} and class_rows({}, classes, 0.9) == []


def test_how_far_sites_lie_apart() -> None:
    rows: list[dict[str, object]] = [
        {"client_id": "C1", "loss": 0.2, "accuracy": 0.8, "auc": None, "seconds": 3.0},
        {"client_id": "C2", "loss": 0.6, "accuracy": 0.8, "auc": 0.7, "seconds": 4.0},
    ]
    figures, worst = apart(rows, ("client_id", "seconds"))
    assert figures == pytest.approx({"loss_worst": 0.6, "loss_spread": 0.2 * 2**0.5, "accuracy_worst": 0.8, "accuracy_spread": 0.0})
    assert worst == {"loss": "C2"}  # in accuracy no one is
    assert apart(rows[:1], ()) == ({}, {})
