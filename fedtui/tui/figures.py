"""From a run's tables to what charts and the table of clients show. Plain functions; nothing here knows a widget."""
from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fedtui.tui.widgets.picture import Series
from poweranger.results import less_is_better

if TYPE_CHECKING:
    import numpy as np

    from fedtui.metrics import RunSummary
    from fedtui.tui.store import RunTables
    from fedtui.tui.widgets.palette import Colours

EVALUATION, TRAINING = ("eval_metrics", "eval_client_metrics"), ("fit_metrics", "fit_client_metrics")
PHASES = {"both": (EVALUATION, TRAINING), "evaluation": (EVALUATION,), "training": (TRAINING,)}
SMOOTHINGS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95)
OUTLYING = 3.5  # modified z-score from which a value counts as an outlier (Iglewicz and Hoaglin, 1993)
FIRST_CLIENT = 2  # of the palette, after evaluation and training
_NO_METRIC = ("round", "client_id", "num_examples")
_FIRST = ("loss", "accuracy", "balanced_accuracy", "auc", "average_precision", "ece")
_LAST = ("sensitivity_", "specificity_", "auc_")  # one for each class
WORST, SPREAD = "_worst", "_spread"  # over the sites; the worst is drawn into the chart of the mean
WORST_SITE = "worst site"
Times = Mapping[int, float]


@dataclass(frozen=True)
class Choice:
    """What the charts show.

    Attributes
    ----------
    phase : `both`, `evaluation` or `training`.
    clients : whether each client has lines of its own.
    stressed : the client whose lines are in front of the others'; "" for none.
    smoothing : weight of what went before, 0 (none) to below 1.
    by_time : x is time rather than the round: of the day for one run, since the start for several.
    """

    phase: str = "both"
    clients: bool = False
    smoothing: float = 0.0
    by_time: bool = False
    stressed: str = ""


@dataclass(frozen=True)
class Source:
    """A run to draw: its tables, a short name and, when they are asked for, the times at which its rounds were complete."""

    name: str
    tables: RunTables
    label: str = ""
    times: Times = field(default_factory=dict)
    start: float = 0.0


class ClientFigures(NamedTuple):
    """What one client's figures of a metric come to.

    Attributes
    ----------
    last, round : the last value and the round that it is of.
    distance : of `last` from the mean over the clients.
    outlying : whether it is far from what the other clients have.
    worst : whether no other client's `last` is as bad.
    """

    client: str
    examples: int | None
    last: float
    round: int
    best: float
    best_round: int
    distance: float
    outlying: bool
    worst: bool


def metric_names(sources: Iterable[Source], choice: Choice) -> list[str]:
    """The metrics that there are lines for: the main ones first, then those of single classes, how far the sites spread last."""
    found: dict[str, None] = {}
    for source in sources:
        for overall, by_client in PHASES[choice.phase]:
            for table in (overall, by_client) if choice.clients else (overall,):
                if table in source.tables and len(source.tables[table]):
                    found |= dict.fromkeys(name for name in source.tables[table].columns if name not in _NO_METRIC)
    rank = {name: place for place, name in enumerate(_FIRST)}
    shown = [name for name in found if not (name.endswith(WORST) and name.removesuffix(WORST) in found)]
    return sorted(shown, key=lambda name: (rank.get(name, len(rank)), name.endswith(SPREAD), name.startswith(_LAST)))


def smooth(values: np.ndarray, weight: float) -> np.ndarray:
    """Exponential moving average without the bias of its begin (Kingma and Ba, 2014, section 3); gaps stay gaps.

    Parameters
    ----------
    values : shape (n,). weight : of what went before, 0 to below 1.
    """
    import numpy as np

    if not weight:
        return values
    smoothed, average, seen = np.full(len(values), np.nan), 0.0, 0
    for index, value in enumerate(values.tolist()):
        if math.isfinite(value):
            seen += 1
            average = weight * average + (1 - weight) * value
            smoothed[index] = average / (1 - weight**seen)
    return smoothed


def series_of(metric: str, sources: list[Source], choice: Choice, runs: Colours, clients: Colours) -> list[Series]:
    """The lines of a metric: what is in front comes last.

    One run has a colour for its evaluation, one for its training and one for each client. Of several runs each has one
    colour; what is not the mean of its first phase is faint.
    """
    numbers = [runs.of(source.name) if len(sources) > 1 else None for source in sources]
    pairs = list(zip(sources, numbers, strict=True))[::-1]  # the first run is in front
    behind = [line for source, number in pairs for line in _client_lines(metric, source, choice, clients, number)] if choice.clients else []
    return behind + [line for source, number in pairs for line in reversed(_lines(metric, source, choice, number))]


def client_names(tables: RunTables, phase: str) -> list[str]:
    """The clients that have reported figures."""
    found = [tables[name] for _, name in PHASES[phase] if name in tables and "client_id" in tables[name].columns]
    return sorted({client for table in found for client in table.texts("client_id")})


def client_figures(tables: RunTables, metric: str, phase: str = "both") -> list[ClientFigures]:
    """Each client's figures of a metric, by name; of the evaluation when that has it, else of the training."""
    import numpy as np

    for _, name in PHASES[phase]:
        table = tables.get(name)
        if table is None or metric not in table.columns or "client_id" not in table.columns:
            continue
        rounds, values = table.numbers("round"), table.numbers(metric)
        examples = table.numbers("num_examples") if "num_examples" in table.columns else np.full(len(values), np.nan)
        clients = np.array(table.texts("client_id"), object)
        good = np.isfinite(values) & np.isfinite(rounds)
        found = [(client, *(column[good & (clients == client)] for column in (rounds, values, examples))) for client in sorted(set(clients[good]))]
        if not found:
            continue
        last = np.array([values[-1] for _, _, values, _ in found])
        distances, outlying = last - last.mean(), _outlying(last)
        extreme = last == (last.max() if less_is_better(metric) else last.min())
        worst = extreme & (extreme.sum() == 1 < len(last))
        figures = []
        for place, (client, at, values, count) in enumerate(found):
            best = int(values.argmin() if less_is_better(metric) else values.argmax())
            size = int(count[-1]) if np.isfinite(count[-1]) else None
            figures.append(ClientFigures(client, size, last[place], int(at[-1]), values[best], int(at[best]), distances[place], bool(outlying[place]), bool(worst[place])))
        return figures
    return []


def round_times(run: Path) -> dict[int, float]:
    """When the rounds of a run were complete, in seconds since 1970: the times of its snapshots."""
    times = {}
    for path in (run / "models").glob("round_*.npz"):
        try:
            times[int(path.stem.removeprefix("round_"))] = path.stat().st_mtime
        except (OSError, ValueError):
            continue
    return times


def short_names(runs: Iterable[str]) -> dict[str, str]:
    """The runs' names without the time that they begin with, as long as that tells them apart."""
    runs = list(runs)
    words = [re.sub(r"^\d{8}-\d{6}-", "", run) for run in runs]
    return {run: word if words.count(word) == 1 else run for run, word in zip(runs, words, strict=True)}


def started(summary: RunSummary) -> float:
    """When a run began, in seconds since 1970; 0 when it is not known."""
    return summary.start.timestamp() if summary.start else 0.0


def _lines(metric: str, source: Source, choice: Choice, colour: int | None) -> list[Series]:
    """The means over the clients, evaluation first."""
    lines: list[Series] = []
    for (name, _), (label, own) in zip((EVALUATION, TRAINING), (("eval", 0), ("fit", 1)), strict=True):
        table = source.tables.get(name)
        if (name in [overall for overall, _ in PHASES[choice.phase]]) and table is not None and {"round", metric} <= set(table.columns):
            x, y = _x(table.numbers("round"), source, choice, several=colour is not None), table.numbers(metric)
            shown = own if colour is None else colour
            front = colour is None or not lines
            smoothed = smooth(y, choice.smoothing)
            best = None if lines else _best(metric, x, y)
            lines.append(Series(label if colour is None else source.label, x, smoothed, shown, not front, best))
            if colour is None and name == EVALUATION[0] and not choice.clients and f"{metric}{WORST}" in table.columns:
                lines.append(Series(WORST_SITE, x, smooth(table.numbers(f"{metric}{WORST}"), choice.smoothing), shown, faint=True))
            if choice.smoothing and front:
                lines.append(Series(label, x, y, shown, faint=True))
    return lines


def _client_lines(metric: str, source: Source, choice: Choice, colours: Colours, colour: int | None) -> list[Series]:
    import numpy as np

    for _, name in PHASES[choice.phase]:
        table = source.tables.get(name)
        if table is None or not {"round", "client_id", metric} <= set(table.columns):
            continue
        clients = np.array(table.texts("client_id"), object)
        x, y = _x(table.numbers("round"), source, choice, several=colour is not None), table.numbers(metric)
        lines = []
        for client in sorted(set(clients)):
            own = clients == client
            shown = FIRST_CLIENT + colours.of(client) if colour is None else colour
            faint = colour is not None or choice.stressed not in ("", client)
            lines.append(Series(client, x[own], smooth(y[own], choice.smoothing), shown, faint))
        return sorted(lines, key=lambda line: not line.faint)
    return []


def _x(rounds: np.ndarray, source: Source, choice: Choice, *, several: bool) -> np.ndarray:
    import numpy as np

    if not choice.by_time:
        return rounds
    if not source.times:
        return np.full(len(rounds), np.nan)
    known = sorted(source.times)
    times = np.interp(rounds, known, [source.times[number] for number in known], left=np.nan, right=np.nan)
    return times - (source.start or source.times[known[0]]) if several else times


def _best(metric: str, x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    import numpy as np

    good = np.flatnonzero(np.isfinite(y) & np.isfinite(x))
    if len(good) < 2:
        return None
    index = good[y[good].argmin() if less_is_better(metric) else y[good].argmax()]
    return float(x[index]), float(y[index])


def _outlying(values: np.ndarray) -> np.ndarray:
    """Which values are far from the median, in terms of the median distance from it; of fewer than four none is."""
    import numpy as np

    distance = np.abs(values - np.median(values))
    usual = max(float(np.median(distance)), 1e-3 * float(np.abs(values).max(initial=0.0)), 1e-12)
    return (0.6745 * distance / usual > OUTLYING) & (len(values) >= 4)
