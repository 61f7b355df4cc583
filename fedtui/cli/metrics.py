"""A run's figures, round by round: `metrics`."""
from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedtui.cli.context import Json, project
from fedtui.cli.output import coloured, say, write_json, write_table

if TYPE_CHECKING:
    from fedtui.table import Table

CHART_LINES = 14
PER_CLASS, OVER_SITES = ("sensitivity_", "specificity_", "auc_"), ("_worst", "_spread")  # too many for a table on a terminal
EVALUATION, TRAINING = "eval_metrics", "fit_metrics"


def metrics(
    run: Annotated[str | None, typer.Option(metavar="R", help="A run's name; else the newest.")] = None,
    last: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the last rounds.")] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Charts of loss and accuracy instead of the table.")] = False,
    as_json: Json = False,
) -> None:
    """Print a run's figures. A row a round: those of the evaluation, then, as fit_..., those of the training."""
    from fedtui.metrics import find_run, run_tables

    folder = find_run(project().results, run)
    tables = run_tables(folder)
    for name in (EVALUATION, TRAINING):
        tables[name].poll()
    rows = joined(tables[EVALUATION], tables[TRAINING], last)
    if as_json:
        write_json(rows)
    elif plot:
        say(folder.name)
        _plot(rows)
    else:
        say(folder.name)
        columns = [name for name in rows[0] if not name.removeprefix("fit_").startswith(PER_CLASS) and not name.endswith(OVER_SITES)] if rows else []
        write_table(rows, {name: name for name in columns}, empty="no round has been completed yet")
        if rows and len(columns) < len(rows[0]):
            say("figures of each class, the worst site's and the spread over sites: --json")


def joined(evaluation: Table, training: Table, last: int | None = None) -> list[dict[str, Any]]:
    """The rows of both tables by round, a column of `training` named `fit_...`; None where a figure is missing."""
    by_round: dict[Any, dict[str, Any]] = {}
    names = [name for name in evaluation.columns if name != "round"] + [f"fit_{name}" for name in training.columns if name != "round"]
    for table, prefix in ((evaluation, ""), (training, "fit_")):
        for row in table.rows(last):
            number = row.pop("round", None)
            if number is not None:
                merged = by_round.setdefault(number, {"round": number} | dict.fromkeys(names))
                merged.update({f"{prefix}{name}": value for name, value in row.items()})
    return [by_round[number] for number in sorted(by_round)][-(last or 0) :]


def _plot(rows: list[dict[str, Any]]) -> None:
    from fedtui.cli.plot import chart
    from fedtui.metrics import decimate

    width = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 80
    width = min(max(width, 40), 120)
    rounds = [float(row["round"]) for row in rows]
    for name in ("loss", "accuracy"):
        series = {}
        for label, column in (("evaluation", name), ("training", f"fit_{name}")):
            values = [float("nan") if row.get(column) is None else float(row[column]) for row in rows]
            x, y = decimate(rounds, values, 2 * width)
            if len(x):
                series[label] = (x.tolist(), y.tolist())
        ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
        print(chart(name, series, width, CHART_LINES, colour=coloured(sys.stdout), ascii_only=ascii_only))
    sys.stdout.flush()
