"""What each process needs: its peaks by phase and by round, and from them what it will need when it is started again."""
from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedtui.daemon.state import SERVER, SIMULATION
from poweranger.files import replace_file

BARE_CLIENT_MB = 450.0  # a process that has loaded TensorFlow and trains on a few images (benchmarks/memory.py)
BARE_FORK_MB, HOST_MB = 150.0, 300.0  # the same forked from the client host, and the host itself (benchmarks/host.py)
BARE_SERVER_MB = 150.0
ROUNDS_KEPT = 50
_ROUND = re.compile(r"\bround (\d+)\b")
_PHASES = {"training": "training", "evaluating": "evaluating", "evaluation": "evaluating"}


@dataclass
class Estimate:
    """Of one process; sizes in MB.

    Attributes
    ----------
    expected_mb : what it was expected to use at most when it was started.
    peaks : the most it has used since, by phase (`loading`, `waiting`, `training`, `evaluating`).
    rounds : the most it has used in each of the last rounds, as [round, size].
    last_mb : the peak of its last start in which it trained; None when there was none.
    start : start time of the process that `peaks` and `rounds` are of.
    forked : whether that is a fork of the client host; `last_mb` is of one started in the same way.
    """

    expected_mb: float = 0.0
    peaks: dict[str, float] = field(default_factory=dict)
    rounds: list[list[float]] = field(default_factory=list)
    last_mb: float | None = None
    start: int = 0
    forked: bool = False

    @property
    def peak_mb(self) -> float | None:
        """The most it has used since its start, once it has trained; else that of its last start."""
        return max(self.peaks.values()) if "training" in self.peaks else self.last_mb

    def begin(self, start: int, expected_mb: float, forked: bool = False) -> None:
        """It has been started anew."""
        self.last_mb = self.peak_mb if forked == self.forked else None
        self.start, self.expected_mb, self.forked = start, expected_mb, forked
        self.peaks, self.rounds = {}, []

    def see(self, size_mb: float, state: str, status: str) -> None:
        """Take what it uses now, and what it says it does."""
        match = _ROUND.search(status)
        doing = next((phase for word, phase in _PHASES.items() if word in status), "loading" if state == "starting" else "waiting")
        self.peaks[doing] = max(self.peaks.get(doing, 0.0), size_mb)
        if match and doing in ("training", "evaluating"):
            number = float(match[1])
            if not self.rounds or number != self.rounds[-1][0]:
                if self.rounds and number < self.rounds[-1][0]:  # another run
                    self.rounds.clear()
                self.rounds = [*self.rounds[1 - ROUNDS_KEPT :], [number, size_mb]]
            self.rounds[-1][1] = max(self.rounds[-1][1], size_mb)


class Estimates:
    """All processes' estimates, kept in a file from one daemon to the next."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.of: dict[str, Estimate] = _load(path)
        self._saved = ""

    def get(self, name: str) -> Estimate:
        """The estimate of a process, made when there is none."""
        return self.of.setdefault(name, Estimate())

    def need(self, name: str, role: str, forked: bool = False, cache_mb: Callable[[], float] = lambda: 0.0) -> float:
        """MB that a process will need when it is started: its own last peak, else the largest of a client here, else a bare one.

        A fork of the client host and a process of its own say nothing of each other. `cache_mb` tells what a client may keep of its images.
        """
        own = self.get(name)
        if own.forked == forked and (peak := own.peak_mb) is not None:
            return peak
        if role != "client":
            return BARE_SERVER_MB
        alike = [estimate for other, estimate in self.of.items() if other not in (SERVER, SIMULATION) and estimate.forked == forked]
        peaks = [peak for estimate in alike if (peak := estimate.peak_mb) is not None]
        return max(peaks) if peaks else (BARE_FORK_MB if forked else BARE_CLIENT_MB) + cache_mb()

    def save(self, names: Iterable[str]) -> None:
        """Write the file when something has changed; only `names` are kept. Raises OSError."""
        kept = {name: dataclasses.asdict(self.of[name]) for name in names if name in self.of}
        text = json.dumps(kept)
        if text != self._saved:
            replace_file(self._path, lambda file: file.write(text.encode()), durable=False)
            self._saved = text


def _load(path: Path) -> dict[str, Estimate]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        return {name: Estimate(**entry) for name, entry in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # absent or damaged: everything is learned anew
        return {}
