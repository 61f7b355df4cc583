"""What the parts of a run share: the run's own things, and one round as it goes."""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from poweranger.notify import notify
from poweranger.privacy.protection import Protection
from poweranger.results import EVAL, FIT, Row, Run
from poweranger.server.best import Best
from poweranger.server.exchange import Exchange
from poweranger.server.federation import Federation
from poweranger.server.sites import Sites
from poweranger.server.tensorboard import EventFiles


@dataclass
class Session:
    """What a strategy needs of the run it serves; `shapes` are the model's arrays, in order."""

    run: Run
    best: Best
    protection: Protection
    sites: Sites
    exchange: Exchange
    federation: Federation
    config: Mapping[str, Any]
    shapes: list[tuple[int, ...]]
    log: Callable[[str], None]
    first_round: int = 1
    events: EventFiles | None = None
    absent: list[str] = field(default_factory=list)  # classes without validation images in the last round
    last: dict[str, Any] = field(default_factory=dict)  # figures of the last complete round, and the seconds left then
    unsaved: Callable[[], None] | None = None  # writes the files of the last round that is over

    def save(self) -> None:
        """Write the files of the last round that is over, and say how it went; nothing when that is done."""
        if save := self.unsaved:
            self.unsaved = None
            save()

    def report(self, phase: str, number: int, **values: Any) -> None:
        """Tell whoever watches: `progress.json`, and the supervisor's status line."""
        rounds, connected = self.config["num-server-rounds"], [site.client_id for site in self.sites.sites()]
        self.run.progress({
            "phase": phase, "round": number, "rounds": rounds, "connected": connected, "nodes": self.sites.nodes(), **self.last, **values,
        })
        doing = {FIT: "training", EVAL: "evaluating"}.get(phase, phase)
        notify(STATUS=f"round {number} of {rounds}, {doing}")


@dataclass
class Round:
    """One round as it goes: its table rows, who answered, the figures for the progress line and the worst site of each, and why it gave no model."""

    number: int
    rows: dict[str, list[Row]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    worst: dict[str, str] = field(default_factory=dict)
    fitted: str = "0/0"
    failure: str = ""
    start: float = field(default_factory=time.monotonic)

    def add(self, table: str, **values: object) -> None:
        """Add a row to be written when the round is complete."""
        self.rows.setdefault(table, []).append({"round": self.number, **values})

    def in_words(self) -> list[str]:
        """How it went: figures and the least accurate site, or why it gave no model."""
        if self.failure:
            return [f"FAILED: {self.failure}"]
        words = [f"{name} {self.figures[name]:.3f}" for name in ("loss", "accuracy", "auc", "epsilon") if name in self.figures]
        if site := self.worst.get("accuracy"):
            words.append(f"least accurate {site} {self.figures['accuracy_worst']:.3f}")
        return words
