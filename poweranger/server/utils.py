"""Pure helpers of the round loop: sampling, learning rate, metrics."""
from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def sample(clients: Sequence[str], fraction: float, minimum: int, seed: int, server_round: int, phase: str) -> list[str]:
    """Draw `max(int(n * fraction), minimum)` clients, at most all; the same draw for the same arguments."""
    size = min(len(clients), max(int(round(len(clients) * fraction, 9)), minimum))
    return sorted(random.Random(f"{seed}/{phase}/{server_round}").sample(sorted(clients), size))


def learning_rate(server_round: int, config: Mapping[str, Any]) -> float:
    """The rate of a round (counted from 1): a linear warm-up, then as `lr-schedule` says.

    Cosine down to 2 %: Loshchilov and Hutter, "SGDR", 2017. Steps of a tenth after half and three quarters of the
    rounds: as He et al., "Deep residual learning", 2016, did.
    """
    warmup, rounds, peak = config["warmup-rounds"], config["num-server-rounds"], config["learning-rate"]
    done = server_round - 1
    if done < warmup:
        return peak * (done + 1) / (warmup + 1)
    if config["lr-schedule"] == "constant":
        return peak
    if config["lr-schedule"] == "step":
        return peak * 0.1 ** ((done >= rounds / 2) + (done >= rounds * 3 / 4))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1, rounds - warmup))))


def weighted_means(rows: Sequence[Mapping[str, Any]], skip: Sequence[str]) -> dict[str, float]:
    """Mean of each metric over the rows that have it, weighted by their `num_examples`.

    A missing, NaN or infinite value is left out of that metric's mean and the other weights are renormalised.
    """
    sums: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if name not in skip and isinstance(value, (int, float)) and math.isfinite(value) and row["num_examples"] > 0:
                pair = sums.setdefault(name, [0.0, 0.0])
                pair[0] += row["num_examples"] * value
                pair[1] += row["num_examples"]
    return {name: total / weight for name, (total, weight) in sums.items()}


def class_metrics(confusion: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Accuracy, balanced accuracy, and sensitivity and specificity per class, from counts.

    Parameters
    ----------
    confusion : (C, C) counts, true class by predicted class; summed over sites it gives exact figures.

    Returns
    -------
    dict
        A figure that the counts do not determine (a class without images) is left out.
    """
    total = confusion.sum()
    if not total:
        return {}
    hits, actual, predicted = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    present = actual > 0
    metrics = {"accuracy": float(hits.sum() / total), "balanced_accuracy": float((hits[present] / actual[present]).mean())}
    for k, name in enumerate(classes):
        if actual[k]:
            metrics[f"sensitivity_{name}"] = float(hits[k] / actual[k])
        if total > actual[k]:
            metrics[f"specificity_{name}"] = float((total - actual[k] - predicted[k] + hits[k]) / (total - actual[k]))
    return metrics


def spell_seconds(seconds: float) -> str:
    """A duration as people say it: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
