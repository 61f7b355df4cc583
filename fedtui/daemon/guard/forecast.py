"""Where memory will be in later rounds, from the peaks of the last ones."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LAST = 12  # rounds that are looked at
LEAST = 5  # rounds before anything is said
SURE = 3.0  # the slope must be so many times its own standard error
LEAST_MB = 2.0  # a round: less is noise
STEADY = 0.5  # the newer half must grow this share as fast as the whole does: else the curve flattens
FAR = 100  # rounds: where nobody knows how many the run has, what lies further away is not in sight


@dataclass(frozen=True)
class Forecast:
    """Of one client: MB it grows a round, and the round in which the memory there is will be used up (None: not in sight)."""

    name: str
    slope_mb: float
    round: int | None

    def __str__(self) -> str:
        end = f": reaches the limit about round {self.round}" if self.round is not None else ""
        return f"{self.name} grows {self.slope_mb:.0f} MB a round{end}"


def slope(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope of the least squares line through the points, and its standard error (infinite for fewer than three)."""
    count = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if count < 3 or not spread:
        return 0.0, math.inf
    value = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - value * (x - mean_x)) ** 2 for x, y in points)
    return value, math.sqrt(rest / (count - 2) / spread)


def growth(peaks: Sequence[Sequence[float]]) -> float:
    """MB a round by which a client grows; 0 when it does not, not surely, or ever less.

    Parameters
    ----------
    peaks : (round, MB) of its rounds; the last is under way and not looked at.
    """
    points = [(number, size) for number, size in peaks[:-1]][-LAST:]
    if len(points) < LEAST:
        return 0.0
    value, error = slope(points)
    newer, _ = slope(points[-max(len(points) // 2, 3) :])
    return value if value >= LEAST_MB and value > SURE * error and newer >= STEADY * value else 0.0


def foresee(peaks: Mapping[str, Sequence[Sequence[float]]], available_mb: float, rounds: int) -> list[Forecast]:
    """The clients that grow, the fastest first, each with the round in which all that grow together have used up what is left.

    Parameters
    ----------
    peaks : (round, MB) by client.
    rounds : of the run; a limit that lies behind its end is not in sight. 0 when not known.
    """
    grows = {name: size for name, points in peaks.items() if (size := growth(points))}
    left = available_mb / sum(grows.values()) if grows else math.inf
    found = []
    for name, size in sorted(grows.items(), key=lambda item: -item[1]):
        last = peaks[name][-1][0]
        found.append(Forecast(name, size, int(last + left) if last + left <= (rounds or last + FAR) else None))
    return found
