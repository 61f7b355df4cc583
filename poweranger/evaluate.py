"""A snapshot on images that took no part in the run, with intervals.

    python -m poweranger.evaluate --run 20261125-145608-run --data test_images

The figures are those of the exact scores. Shares have Wilson intervals, the others bootstrap intervals.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from poweranger.client.data_loader import load_npz_split
from poweranger.client.folder import report_unreadable, scan, shown
from poweranger.counts import CONFIDENCE_BINS, confidence_bins
from poweranger.errors import UserError, run_program
from poweranger.inference import Snapshot, add_snapshot_options, open_snapshot
from poweranger.statistics import auc, average_precision, bootstrap, calibration_error, log_odds, softmax, wilson
from poweranger.text import aligned

RESAMPLES = 1000
OVERALL = ("balanced_accuracy", "auc", "average_precision", "ece")  # with bootstrap intervals
SHARES = ("sensitivity", "specificity", "precision")
METHOD = (f"Intervals of 95 %: Wilson for shares; {RESAMPLES} bootstrap resamples, each class by itself, for balanced accuracy, AUC, AP (average "
          "precision) and ECE (expected calibration error). Images count as independent: with several of one patient the intervals are too narrow.")  # fmt: skip
HEADINGS = {"auc": "AUC", "average_precision": "AP", "ece": "ECE"}
Figure = dict[str, float | None]


def main(arguments: Sequence[str] | None = None) -> int:
    """The program."""
    parser = argparse.ArgumentParser("python -m poweranger.evaluate", allow_abbrev=False, description="Evaluate a run's model on images that took no part in the run.")
    add_snapshot_options(parser)
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of class folders, of which all images are taken, or an .npz file")
    parser.add_argument("--split", choices=("test", "val", "train"), help="which images of an .npz file (default: test)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    wanted = parser.parse_args(arguments)
    is_file = wanted.data.lower().endswith(".npz") and os.path.isfile(wanted.data)
    if wanted.split and not is_file:
        raise UserError(f"--split {wanted.split} is for .npz files: of the folder {shown(wanted.data)} all images are taken")
    snapshot = open_snapshot(wanted.run, wanted.round)
    split = (wanted.split or "test") if is_file else "all"
    y, logits, unreadable = (_ask_npz(snapshot, wanted.data, split) if is_file else _ask_folder(snapshot, wanted.data, _talk))
    report_unreadable(unreadable, _talk)
    if not len(y):
        raise UserError(f"{shown(wanted.data)} holds no image that can be evaluated")
    found = {
        "run": snapshot.run, "round": snapshot.round, "best": snapshot.best, "data": wanted.data, "split": split,
        "unreadable": [{"file": path, "reason": reason} for path, reason in unreadable], **report(y, logits, snapshot.classes),
    }  # fmt: skip
    print(json.dumps(found, indent=2) if wanted.json else table(found, snapshot.name), flush=True)
    return 0


def report(y: np.ndarray, logits: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """All figures of n images, ready for JSON.

    Parameters
    ----------
    y : (n,), true classes. logits : (n, C).

    Returns
    -------
    dict
        Each figure as `{"value", "low", "high"}`; None for what cannot be told, because a class has no image.
    """
    predicted, count = logits.argmax(1), len(classes)
    confusion = np.bincount(y * count + predicted, minlength=count**2).reshape(count, count)
    figures = _figures(y, logits)
    values, intervals = figures(np.ones(len(y))), bootstrap(y, figures, RESAMPLES)
    found = [_figure(value, *interval) for value, interval in zip(values.tolist(), intervals.tolist(), strict=True)]
    ranking = found[len(OVERALL) :]
    hits, actual, called, total = np.diag(confusion), confusion.sum(1), confusion.sum(0), len(y)
    return {
        "images": total,
        "accuracy": _share(hits.sum(), total),
        **dict(zip(OVERALL, found[: len(OVERALL)], strict=True)),
        "classes": {
            name: {
                "images": int(actual[c]),
                "sensitivity": _share(hits[c], actual[c]),
                "specificity": _share(total - actual[c] - called[c] + hits[c], total - actual[c]),
                "precision": _share(hits[c], called[c]),
                "auc": ranking[c],
                "average_precision": ranking[count + c],
            }
            for c, name in enumerate(classes)
        },
        "confusion": {name: dict(zip(classes, row, strict=True)) for name, row in zip(classes, confusion.tolist(), strict=True)},
        "intervals": METHOD,
    }


def table(found: dict[str, Any], model: str) -> str:
    """The report for people."""
    where = f" ({found['split']})" if found["split"] != "all" else ""
    missed = f", {len(found['unreadable'])} unreadable" if found["unreadable"] else ""
    lines = [f"{model}, on {shown(found['data'])}{where}: {found['images']:,} images{missed}", ""]
    lines += aligned([["all classes", "95 % interval"], *([_heading(name), _spell(found[name])] for name in ("accuracy", *OVERALL))])
    for head, figures in (("class", SHARES), ("class against the rest", ("auc", "average_precision"))):
        rows = [[shown(name), str(own["images"]), *(_spell(own[figure]) for figure in figures)] for name, own in found["classes"].items()]
        lines += ["", *aligned([[head, "images", *map(_heading, figures)], *rows])]
    names = [shown(name) for name in found["confusion"]]
    rows = [[name, *map(str, row.values())] for name, row in zip(names, found["confusion"].values(), strict=True)]
    return "\n".join([*lines, "", *aligned([["true \\ predicted", *names], *rows]), "", *textwrap.wrap(found["intervals"], 100)])


def _figures(y: np.ndarray, logits: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """From the images' weights (n,) to the figures `OVERALL`, then AUC and average precision of each class."""
    odds, shares, classes = log_odds(logits), softmax(logits), logits.shape[1]
    correct, confidence = logits.argmax(1) == y, shares.max(1)
    bins = confidence_bins(confidence)
    ranks = []
    for c in range(classes):
        order = np.argsort(odds[:, c], kind="stable")
        ascending = odds[order, c]
        starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
        ranks.append((order, starts, (y[order] == c) == np.array([[False], [True]])))

    def figures(weights: np.ndarray) -> np.ndarray:
        tabulated = [np.add.reduceat(weights[order] * side, starts, axis=1) for order, starts, side in ranks]
        areas, precisions = (np.array([measure(counts) for counts in tabulated]) for measure in (auc, average_precision))
        sizes = np.bincount(y, weights, classes)
        recall = np.bincount(y, weights * correct, classes)[sizes > 0] / sizes[sizes > 0]
        ece = calibration_error(*(np.bincount(bins, weights * of, CONFIDENCE_BINS) for of in (1, correct, confidence)))
        return np.array([recall.mean(), _mean(areas), _mean(precisions), ece, *areas, *precisions])

    return figures


def _ask_folder(snapshot: Snapshot, data: str, log: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]]]:
    """True classes, logits, and unreadable files with their reasons."""
    try:
        folder = scan(data, log)
    except OSError as error:
        raise UserError(f"{shown(data)} cannot be read ({error.strerror}): give a folder of class folders or an .npz file") from None
    places = _places(snapshot, data, folder.classes)
    answers = list(snapshot.ask([file.path for file in folder.files], log))
    good = [(places[file.label], answer) for file, answer in zip(folder.files, answers, strict=True) if not isinstance(answer, str)]
    broken = [(file.path, answer) for file, answer in zip(folder.files, answers, strict=True) if isinstance(answer, str)]
    return np.array([label for label, _ in good], int), np.array([answer for _, answer in good]), folder.unreadable + broken


def _ask_npz(snapshot: Snapshot, data: str, split: str) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]]]:
    images = load_npz_split(data, split, snapshot.image_size, snapshot.channels)
    numbers = np.unique(images.y)
    places = dict(zip(numbers.tolist(), _places(snapshot, data, [str(number) for number in numbers]), strict=True))
    return np.array([places[label] for label in images.y.tolist()], int), snapshot.logits(images.x), []


def _places(snapshot: Snapshot, data: str, names: Sequence[str]) -> list[int]:
    """The places of the classes called `names` in the model's order."""
    strange = [shown(name) for name in names if name not in snapshot.classes]
    if strange:
        raise UserError(f"{shown(data)} has the class{'es' * (len(strange) > 1)} {', '.join(strange)}, which the model of {snapshot.run} does not know: "
                        f"its classes are {', '.join(map(shown, snapshot.classes))}")  # fmt: skip
    return [snapshot.classes.index(name) for name in names]


def _share(hits: float, total: float) -> Figure:
    return _figure(float(hits / total), *wilson(hits, total)) if total else _figure(math.nan, math.nan, math.nan)


def _figure(value: float, low: float, high: float) -> Figure:
    return {name: number if math.isfinite(number) else None for name, number in (("value", value), ("low", low), ("high", high))}


def _mean(values: np.ndarray) -> float:
    """Mean over the classes that have a value."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _heading(name: str) -> str:
    return HEADINGS.get(name, name.replace("_", " "))


def _spell(figure: Figure) -> str:
    value, low, high = figure.values()
    return "-" if value is None else f"{value:.3f} ({low:.3f}-{high:.3f})"


def _talk(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_program("evaluate", main)
