"""The best round's model and the early end, also where a figure is missing."""
from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from poweranger.errors import UserError
from poweranger.results import Run, less_is_better, read_info, snapshots
from poweranger.run_config import parse_overrides, resolve

Federate = Callable[..., Run]
NAN = math.nan


def climb(weights: np.ndarray, config: Mapping[str, Any]) -> np.ndarray:
    return weights + np.float32(1)


SITES = {1: climb, 2: climb}


def losses(*values: float | None) -> Callable[[int], dict[str, Any]]:
    """Each round's loss; None stands for an evaluation without one."""
    return lambda number: {"accuracy": 0.5} if values[number - 1] is None else {"loss": values[number - 1]}


def hits(*values: int) -> Callable[[int], dict[str, Any]]:
    """Each round's right answers, of two images a class."""
    return lambda number: {"loss": 1.0, "confusion": [values[number - 1], 2 - values[number - 1], 2 - values[number - 1], values[number - 1]]}


def check_best(run: Run, number: int, metric: str, value: float) -> None:
    assert read_info(run.path)["best"] == {"round": number, "metric": metric, "value": pytest.approx(value)}
    best, snapshot = run.path / "models" / "best.npz", snapshots(run.path)[number]
    assert best.read_bytes() == snapshot.read_bytes() and best.stat().st_ino != snapshot.stat().st_ino and not best.is_symlink()


def test_the_first_of_the_best_rounds_is_kept(federate: Federate, capsys: pytest.CaptureFixture[str]) -> None:
    run = federate("num-server-rounds=4", SITES, hits(0, 2, 2, 1))
    check_best(run, 2, "balanced_accuracy", 1.0)
    assert [("best so far" in line) for line in capsys.readouterr().out.splitlines() if "  clients " in line] == [True, True, False, False]
    assert "stopped_early" not in run.info and "reason" not in run.info


def test_nan_and_missing_figures_are_no_improvement_and_never_the_best(federate: Federate, capsys: pytest.CaptureFixture[str]) -> None:
    run = federate("num-server-rounds=9 best-metric=loss patience=3", SITES, losses(NAN, 0.7, 0.6, NAN, None, 0.65, 0.1))
    check_best(run, 3, "loss", 0.6)
    said, info = capsys.readouterr().out, read_info(run.path)
    why = "loss has not fallen for 3 rounds: the best is 0.6, of round 3"
    assert info["outcome"] == "finished" and info["rounds_done"] == 6 and info["stopped_early"] is True and info["reason"] == f"stopped early: {why}"
    assert f"the run stops early after round 6 of 9: {why}" in said
    assert "round 5: its evaluation has no loss, so it cannot be the best (it has accuracy" in said
    progress = json.loads((run.path / "progress.json").read_text())
    assert progress["phase"] == "finished" and progress["reason"] == info["reason"] and progress["round"] == 6


def test_a_figure_that_nobody_gives_leaves_no_best_and_is_told_once(federate: Federate, capsys: pytest.CaptureFixture[str]) -> None:
    run = federate("num-server-rounds=9 best-metric=dice patience=2", SITES)
    assert run.info["reason"] == "stopped early: no evaluation had dice in 2 rounds" and run.info["rounds_done"] == 2
    assert "best" not in run.info and not (run.path / "models" / "best.npz").exists()
    assert capsys.readouterr().out.count("has no dice") == 1


def test_a_resumed_run_waits_as_long_as_an_unbroken_one(federate: Federate) -> None:
    values = losses(0.5, 0.4, 0.6, 0.6, 0.6, 0.6)
    first = federate("num-server-rounds=3 best-metric=loss patience=3", SITES, values)
    models = first.path / "models"
    (models / "best.npz").write_bytes(snapshots(first.path)[1].read_bytes())  # killed between the files of the best
    first.update(best={"round": 1, "metric": "loss", "value": 0.5})
    again = federate("num-server-rounds=9", SITES, values, resume=first.name)
    check_best(again, 2, "loss", 0.4)
    assert again.info["rounds_done"] == 5 and again.info["stopped_early"] is True


def test_a_run_that_stopped_early_gets_its_patience_anew(federate: Federate) -> None:
    values = losses(0.4, *[0.6] * 9)
    first = federate("num-server-rounds=9 best-metric=loss patience=2", SITES, values)
    assert first.info["rounds_done"] == 3
    second = federate("", SITES, values, resume=first.name)
    assert second.info["rounds_done"] == 5 and "round 1" in second.info["reason"]
    third = federate("patience=0", SITES, values, resume=first.name)
    assert third.info["rounds_done"] == 9 and "stopped_early" not in third.info and "reason" not in third.info
    check_best(third, 1, "loss", 0.4)


def test_patience_needs_evaluations() -> None:
    with pytest.raises(UserError, match="patience = 3 needs evaluations"):
        resolve(parse_overrides("patience=3 fraction-evaluate=0"))


def test_what_is_good_by_a_metrics_name() -> None:
    less = ["loss", "val_loss", "mean_error", "ece", "accuracy_spread", "loss_worst"]
    more = ["accuracy", "balanced_accuracy", "auc", "sensitivity_loss", "auc_time", "accuracy_worst", "glossiness"]
    assert [less_is_better(name) for name in less + more] == [True] * len(less) + [False] * len(more)


