"""Who took part in which round, and what came of it: from `participation.csv`, and for the round that goes on from `progress.json`."""
from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from fedtui.tui.store import RunTables

Phases = dict[str, tuple[list[str], list[str]]]  # by phase who was sampled, and who has answered
FIT, EVAL = PHASES = ("fit", "eval")
STRAGGLES = 2.0  # times what the others took, usually
STRAGGLES_S = 1.0  # and so many seconds longer: of short times no one notices


class Part(NamedTuple):
    """A client's part in one phase of a round.

    Attributes
    ----------
    outcome : `ok`, `failed`, `late` or `excluded`; `waiting` or `answered` in the round that goes on.
    usual : seconds that the others took, the median of them; None without others.
    """

    outcome: str
    seconds: float | None = None
    reason: str = ""
    usual: float | None = None

    @property
    def straggles(self) -> bool:
        """Whether the client answered well but kept the others waiting."""
        if self.outcome != "ok" or self.seconds is None or self.usual is None:
            return False
        return self.seconds > STRAGGLES * self.usual and self.seconds > self.usual + STRAGGLES_S


@dataclass(frozen=True)
class Rounds:
    """A run's rounds. `parts` by client, round and phase; `going` is the round that goes on, `best` the best one, None without one."""

    clients: tuple[str, ...] = ()
    rounds: tuple[int, ...] = ()
    parts: dict[tuple[str, int, str], Part] = field(default_factory=dict)
    going: int | None = None
    best: int | None = None

    @cached_property
    def answers(self) -> dict[str, tuple[int, int, float | None]]:
        """By client how often it answered well, how often it was asked, and the median of the seconds that training took it."""
        good, asked = Counter[str](), Counter[str]()
        took: dict[str, list[float]] = {}
        for (client, _, phase), part in self.parts.items():
            asked[client] += part.outcome not in ("waiting", "answered")
            good[client] += part.outcome == "ok"
            if phase == FIT and part.outcome == "ok" and part.seconds is not None:
                took.setdefault(client, []).append(part.seconds)
        return {client: (good[client], asked[client], statistics.median(took[client]) if client in took else None) for client in self.clients}

    @cached_property
    def troubles(self) -> list[tuple[str, int, str]]:
        """Client, round and phase of all that went wrong or was slow, latest first."""
        found = [key for key, part in self.parts.items() if part.straggles or part.outcome not in ("ok", "waiting", "answered")]
        return sorted(found, key=lambda key: (-key[1], PHASES.index(key[2]), key[0]))


class Going:
    """Remembers what `progress.json` told of the round that goes on: it speaks of one phase at a time."""

    def __init__(self) -> None:
        self._about: tuple[object, object] = (None, None)
        self._phases: Phases = {}

    def take(self, run: str, progress: Mapping[str, Any]) -> tuple[int | None, Phases]:
        """The round that goes on in `run` (None without one), and by phase who was sampled and who has answered."""
        number, phase = progress.get("round"), progress.get("phase")
        if progress.get("run") != run or progress.get("outcome") not in (None, "running") or phase not in PHASES or not isinstance(number, int):
            self._about = (None, None)
            return None, {}
        if self._about != (run, number):
            self._about, self._phases = (run, number), {}
        self._phases[phase] = (_names(progress.get("sampled")), _names(progress.get("replied")))
        if phase == EVAL and FIT in self._phases:  # it went on to this, so all have answered that will
            self._phases[FIT] = (self._phases[FIT][1], self._phases[FIT][1])
        return number, dict(self._phases)


def rounds_of(tables: RunTables) -> Rounds:
    """The complete rounds of a run."""
    table = tables.get("participation")
    rows = table.rows() if table is not None else []
    parts: dict[tuple[str, int, str], Part] = {}
    times: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        number, client, phase, seconds = row.get("round"), str(row.get("client_id", "")), str(row.get("phase", "")), row.get("seconds")
        if isinstance(number, int) and client and phase in PHASES:
            took = seconds if isinstance(seconds, float) else None
            parts[client, number, phase] = Part(str(row.get("outcome", "")), took, str(row.get("reason", "")))
            if took is not None and row.get("outcome") == "ok":
                times.setdefault((number, phase), []).append(took)
    for key, part in parts.items():
        parts[key] = part._replace(usual=_of_others(times.get(key[1:], []), part.seconds if part.outcome == "ok" else None))
    return _rounds(parts)


def with_going(rounds: Rounds, number: int | None, phases: Phases) -> Rounds:
    """Complete rounds together with the one that goes on, see `Going`."""
    if number is None:
        return rounds
    going = {
        (client, number, phase): Part("answered" if client in replied else "waiting")
        for phase, (sampled, replied) in phases.items() for client in sampled
    }  # fmt: skip
    return _rounds(going | rounds.parts, number)


def _rounds(parts: dict[tuple[str, int, str], Part], going: int | None = None) -> Rounds:
    clients = sorted({client for client, _, _ in parts}, key=_natural)
    return Rounds(tuple(clients), tuple(sorted({number for _, number, _ in parts})), parts, going)


def duration(seconds: float | None) -> str:
    """Seconds in four characters at most."""
    if seconds is None or not 0 <= seconds < 360_000:
        return ""
    if seconds < 99.5:
        return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 5970 else f"{seconds / 3600:.0f}h"


def spell(part: Part) -> str:
    """What came of a part, in a sentence."""
    if part.outcome == "waiting":
        return "has not answered yet"
    if part.outcome == "answered":
        return "has answered; how long it took stands here when the round is complete"
    text = part.outcome + (f" after {part.seconds:.1f} s" if part.seconds is not None else "")
    if part.straggles:
        text += f", the others took {part.usual:.1f} s: a straggler"
    return f"{text}: {part.reason}" if part.reason else text


def _of_others(times: list[float], own: float | None) -> float | None:
    """The median of the times without one's own."""
    if own is not None:
        times = times.copy()
        times.remove(own)
    return statistics.median(times) if times else None


def _names(value: object) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []


def _natural(name: str) -> tuple[str, int, str]:
    """C2 before C10."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem):][:9] or 0), name
