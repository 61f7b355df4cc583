"""The figures of a round's evaluation: over all sites from their summed counts, and how far the sites lie apart."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from poweranger.counts import CALIBRATION, CONFUSION, MILLION, SCORE_EDGES, SCORES, Counts
from poweranger.results import Row, less_is_better
from poweranger.server.utils import class_metrics
from poweranger.statistics import auc, average_precision, calibration_error, operating_point, probability

PER_SITE = ("accuracy", "balanced_accuracy", "auc", "average_precision", "ece")  # of a site's own counts, in its row


def merge(counts: Sequence[Counts]) -> Counts:
    """The sums of those counts that every site has given; exact, as if all images were at one place."""
    shared = set.intersection(*map(set, counts)) if counts else set()
    return {name: np.sum([one[name] for one in counts], axis=0) for name in (CONFUSION, SCORES, CALIBRATION) if name in shared}


def evaluation_metrics(counts: Counts, classes: Sequence[str]) -> dict[str, float]:
    """What counts tell, by column of `eval_metrics.csv`, as far as they do.

    `auc` and `average_precision` are means over the classes, each against the rest; as in `balanced_accuracy`, a
    class without images is left out of the mean and has no column of its own filled.
    """
    found = class_metrics(counts[CONFUSION], classes) if CONFUSION in counts else {}
    metrics: dict[str, float] = {name: found.pop(name) for name in ("accuracy", "balanced_accuracy") if name in found}
    if SCORES in counts:
        scores = counts[SCORES][..., _filled(counts)]
        areas = auc(scores)
        for name, values in (("auc", areas), ("average_precision", average_precision(scores))):
            if np.isfinite(values).any():
                metrics[name] = float(np.nanmean(values))
        found |= {f"auc_{name}": value for name, value in zip(classes, areas.tolist(), strict=True) if np.isfinite(value)}
    if CALIBRATION in counts:
        number, correct, confidence = counts[CALIBRATION]
        metrics["ece"] = float(calibration_error(number, correct, confidence / MILLION))
    return metrics | found


def confusion_rows(counts: Counts, classes: Sequence[str]) -> list[Row]:
    """A row a true class for `confusion.csv`."""
    table = counts[CONFUSION].tolist() if CONFUSION in counts else []
    return [{"true_class": name, **{f"predicted_{other}": n for other, n in zip(classes, row, strict=True)}} for name, row in zip(classes, table, strict=False)]


def class_rows(counts: Counts, classes: Sequence[str], wanted: float) -> list[Row]:
    """A row a class for `class_metrics.csv`: its ranking, and the probability from which the `wanted` share of it is found."""
    if SCORES not in counts:
        return []
    rows: list[Row] = []
    bins = _filled(counts)
    scores = counts[SCORES][..., bins]
    figures = zip(classes, scores, auc(scores).tolist(), average_precision(scores).tolist(), strict=True)
    for name, own, area, precision in figures:
        others, images = own.sum(1).tolist()
        row: dict[str, Any] = {"class": name, "images": images, "others": others, "auc": area, "average_precision": precision}
        if point := operating_point(own, wanted):
            bin_ = bins[point[0]]
            threshold = float(probability(SCORE_EDGES[bin_ - 1])) if bin_ else 0.0
            row |= {"threshold": threshold, "threshold_sensitivity": point[1], "threshold_specificity": point[2]}
        rows.append(row)
    return rows


def absent(counts: Counts, classes: Sequence[str]) -> list[str]:
    """The classes that the merged counts hold no image of."""
    sizes = counts[CONFUSION].sum(1) if CONFUSION in counts else np.ones(len(classes))
    return [name for name, size in zip(classes, sizes, strict=True) if not size]


def apart(rows: Iterable[Row], skip: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
    """How far the sites lie apart in each metric of their `rows`; with fewer than two sites not at all.

    Returns
    -------
    tuple
        The worst site's figure as `<metric>_worst` and the sites' standard deviation (n - 1, every site counts the
        same) as `<metric>_spread`; and the worst site's name by metric, where the sites differ.
    """
    values: dict[str, dict[str, float]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in skip and isinstance(value, (int, float)) and np.isfinite(value):
                values.setdefault(name, {})[str(row["client_id"])] = value
    figures: dict[str, float] = {}
    worst: dict[str, str] = {}
    for name, by_site in values.items():
        if len(by_site) > 1:
            choose = max if less_is_better(name) else min
            site = choose(by_site, key=by_site.__getitem__)
            figures[f"{name}_worst"] = by_site[site]
            if len(set(by_site.values())) > 1:
                worst[name] = site
            figures[f"{name}_spread"] = float(np.std(list(by_site.values()), ddof=1))
    return figures, worst


def _filled(counts: Counts) -> np.ndarray:
    """The numbers of the bins that hold any image: the others cost time and change no figure."""
    return np.flatnonzero(counts[SCORES].any((0, 1)))
