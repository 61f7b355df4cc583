"""The best round so far, and when to stop for want of a better one."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from poweranger.results import Run, less_is_better
from poweranger.table import Row, as_number


class Best:
    """Follows one figure of the evaluations, `best-metric`, over a run's rounds.

    All of it follows from `eval_metrics.csv`: a resumed run knows what an unbroken one would. A round without the
    figure, or with one that is no finite number, is no improvement; of equal rounds the first is the best.

    Attributes
    ----------
    round, value : of the best round; round 0 as long as there is none.
    """

    def __init__(self, run: Run, config: Mapping[str, Any], log: Callable[[str], None]) -> None:
        self.metric, self._patience, self._log = str(config["best-metric"]), config["patience"], log
        self._since = run.info.get("patience_since", 0)
        self._instead = ""  # the figures that the last round had, when it lacked this one
        self.round, self.value = 0, math.nan
        for row in run.tables["eval_metrics"].read():
            self._improves(int(row["round"]), as_number(row.get(self.metric)))
        run.keep_best(self.entry())

    def entry(self) -> dict[str, Any]:
        """`[best]` of `run.toml`; empty as long as there is none."""
        return {"round": self.round, "metric": self.metric, "value": self.value} if self.round else {}

    def take(self, number: int, rows: Sequence[Row]) -> bool:
        """Look at the row (or none) that round `number` has for `eval_metrics.csv`; True when it is the best so far."""
        row = rows[0] if rows else {}
        value = as_number(row.get(self.metric))
        instead = ""
        if row and value is None:
            instead = ", ".join(name for name in row if name != "round" and as_number(row[name]) is not None) or "no figure"
            if instead != self._instead:  # a name that no round will have is told once
                self._log(f"round {number}: its evaluation has no {self.metric}, so it cannot be the best (it has {instead})")
        self._instead = instead
        return self._improves(number, value)

    def why_stop(self, number: int) -> str:
        """Why round `number` shall be the last, as a sentence; empty when the run goes on."""
        waited = number - max(self.round, self._since)
        if not self._patience or waited < self._patience:
            return ""
        if not self.round:
            return f"no evaluation had {self.metric} in {waited} rounds"
        change = "fallen" if less_is_better(self.metric) else "risen"
        return f"{self.metric} has not {change} for {waited} rounds: the best is {self.value:.4g}, of round {self.round}"

    def _improves(self, number: int, value: float | None) -> bool:
        if value is None or (self.round and (value >= self.value if less_is_better(self.metric) else value <= self.value)):
            return False
        self.round, self.value = number, value
        return True
