"""What runs write, for reading: their tables, a summary of each, how they differ, and long series made short for drawing."""
from __future__ import annotations

import datetime
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedtui.table import Table
from poweranger.errors import UserError
from poweranger.results import TABLES, list_runs, now, read_info

__all__ = ["RunSummary", "Table", "config_differences", "decimate", "find_run", "run_tables", "summaries", "summary"]

OUTCOMES = ("running", "finished", "failed", "stopped", "interrupted")


@dataclass(frozen=True)
class RunSummary:
    """One run in a line.

    Attributes
    ----------
    outcome : one of `OUTCOMES`; `reason` says more when there is more to say.
    rounds_done, rounds : complete rounds, and how many it was to have; None when not known.
    best_accuracy, best_loss : the best of the rounds' evaluations; None before the first.
    best_round, best_metric, best_value : whose model is `best.npz`, by which figure; None and "" before the first.
    stopped_early : it ended before its last round for want of a better model; `reason` says more.
    privacy : `[privacy]` of `run.toml`: `dp`, `epsilon`, `delta`, `secure_aggregation`, `not_possible`.
    seconds : from start to end, so far for a running one; None when the end is not known.
    clients, synthetic : who took part, and who of them with made-up images.
    """

    name: str
    path: Path
    outcome: str
    reason: str = ""
    start: datetime.datetime | None = None
    end: datetime.datetime | None = None
    rounds_done: int | None = None
    rounds: int | None = None
    best_accuracy: float | None = None
    seconds: float | None = None
    config: dict[str, Any] = field(default_factory=dict)
    best_loss: float | None = None
    clients: tuple[str, ...] = ()
    synthetic: tuple[str, ...] = ()
    best_round: int | None = None
    best_metric: str = ""
    best_value: float | None = None
    stopped_early: bool = False
    privacy: dict[str, Any] = field(default_factory=dict)


def find_run(results: Path, name: str | None = None) -> Path:
    """The folder of the run called `name`, or of the newest one.

    Raises
    ------
    UserError
        When there is no such run.
    """
    runs = list_runs(results)
    if name is None and runs:
        return runs[0]
    for run in runs:
        if run.name == name:
            return run
    if not runs:
        raise UserError(f"there is no run in {results / 'runs'} yet: `fedtui up` starts one")
    raise UserError(f"there is no run {name} in {results / 'runs'} (newest: {', '.join(run.name for run in runs[:3])})")


def run_tables(run: Path) -> dict[str, Table]:
    """A reader for each table of a run, by the table's name (`fit_metrics`, ...); none has been polled yet."""
    return {name: Table(run / "metrics" / f"{name}.csv") for name in TABLES}


def summaries(results: Path) -> list[RunSummary]:
    """All runs, newest first."""
    return [summary(run) for run in list_runs(results)]


def summary(run: Path) -> RunSummary:
    """What a run's `run.toml` and evaluations tell; one that cannot be read counts as failed, with that as the reason."""
    try:
        info = read_info(run)
    except UserError as error:
        return RunSummary(run.name, run, "failed", str(error))
    outcome, config = info.get("outcome"), info.get("config")
    config = config if isinstance(config, dict) else {}
    start, end = _moment(info.get("start")), _moment(info.get("end"))
    best = info.get("best")
    best = best if isinstance(best, dict) else {}
    privacy = info.get("privacy")
    stop = now() if outcome == "running" else end
    evaluations = Table(run / "metrics" / "eval_metrics.csv")
    evaluations.poll()
    return RunSummary(
        name=run.name,
        path=run,
        outcome=outcome if outcome in OUTCOMES else "failed",
        reason=str(info.get("reason", "")),
        start=start,
        end=end,
        rounds_done=_count(info.get("rounds_done")),
        rounds=_count(config.get("num-server-rounds")),
        best_accuracy=max(_values(evaluations, "accuracy"), default=None),
        seconds=(stop - start).total_seconds() if start and stop else None,
        config=config,
        best_loss=min(_values(evaluations, "loss"), default=None),
        clients=_names(info.get("clients")),
        synthetic=_names(info.get("synthetic")),
        best_round=_count(best.get("round")),
        best_metric=str(best.get("metric", "")),
        best_value=value if isinstance(value := best.get("value"), float) else None,
        stopped_early=info.get("stopped_early") is True,
        privacy=privacy if isinstance(privacy, dict) else {},
    )


def config_differences(runs: Iterable[RunSummary]) -> dict[str, dict[str, Any]]:
    """For each run by name, only those keys of its configuration in which the runs differ; None where it has no such key."""
    runs = list(runs)
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    differing = [key for key in keys if any(run.config.get(key) != runs[0].config.get(key) for run in runs)]
    return {run.name: {key: run.config.get(key) for key in differing} for run in runs}


def decimate(x: np.ndarray | Sequence[float], y: np.ndarray | Sequence[float], buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """At most 2 `buckets` + 2 points of a series, with the smallest and the largest value of every stretch of it.

    Parameters
    ----------
    x, y : shape (n,), in drawing order. Points that are no finite numbers are left out.
    buckets : stretches of equal length, such as the columns of a chart.

    Returns
    -------
    tuple of arrays
        x and y of the points kept, in order; all of them when they are few. The first and the last one are kept.
    """
    points = np.asarray([x, y], np.float64)
    points = points[:, np.isfinite(points).all(0)]
    count = points.shape[1]
    if count > 2 * buckets + 2:
        kept = {0, count - 1}
        for begin, end in itertools.pairwise(np.linspace(0, count, buckets + 1).astype(int)):
            values = points[1, begin:end]
            kept |= {int(begin + values.argmin()), int(begin + values.argmax())}
        points = points[:, sorted(kept)]
    return points[0], points[1]


def _values(table: Table, column: str) -> list[float]:
    if column not in table.columns:
        return []
    return [value for value in table.numbers(column).tolist() if not math.isnan(value)]


def _names(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _moment(value: object) -> datetime.datetime | None:
    return value if isinstance(value, datetime.datetime) and value.tzinfo else None


def _count(value: object) -> int | None:
    return value if type(value) is int else None
