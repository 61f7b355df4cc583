"""What the guard does, as a function of what was measured: no clock, no file, no process. Called once a second.

The ladder, by what is left as multiples of the reserve (`MemoryRules`): warn, hold starts, stop a client at its round's
end, stop one at once, kill one. It is climbed at once and left slowly. One client at a time is stopped, then the policy
looks again; what was stopped comes back when there has been room for a minute.
"""
from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from fedtui.daemon.guard.readings import Reading
from fedtui.memory_rules import MemoryRules

AHEAD_S = 5.0  # a fall that would reach the last step within this time counts as having reached the one before
WINDOW = 5  # readings over which the fall is measured
NEAR = 2.0  # times the threshold of the first step: further away a fall may be anybody's passing wish
CALM_S = 5.0  # the ladder is left only after so long, and with this much more than the threshold:
BACK = 1.15
SETTLE_S = 3.0  # after a client has ended its memory comes back within this time
PACE_S, FALL_PACE_S, LAST_PACE_S = 60.0, 5.0, 1.0  # between two stops: as a rule; while it still falls all the same; in the last extremity
PATIENCE_S = 120.0  # a client that has not ended its round by then is stopped at once
ROOM_S, START_ROOM_S = 60.0, 5.0  # how long there must have been room for one that was stopped, and for one never started
LONGEST_ROOM_S = 960.0
FORGIVE_S = 600.0  # a client that has run so long since its return is as good as new
STALLED = 25.0  # percent of the time in which nothing goes on for want of memory: the reserve is not what it seems
ABOVE_MB = 50.0  # a client so far above its estimate is one that grows


class Step(IntEnum):
    """The steps of the ladder."""

    CALM = 0
    WARN = 1
    HOLD = 2
    STOP = 3  # at the round's end
    STOP_NOW = 4
    KILL = 5


@dataclass(frozen=True)
class Client:
    """A client that lives.

    Attributes
    ----------
    use_mb, estimate_mb : what it uses, and what it was expected to use at most when it started.
    started : when, in any unit: the newest is stopped first.
    stopping : how far the guard, or its user, has gone in stopping it; CALM for not at all.
    since : seconds, as of `Reading.time`, since when.
    """

    name: str
    use_mb: float
    estimate_mb: float
    started: float
    stopping: Step = Step.CALM
    since: float = 0.0


@dataclass(frozen=True)
class Held:
    """A client that waits for memory.

    Attributes
    ----------
    estimate_mb : what it needs.
    stopped : the guard has stopped it: it waits longer than one that was never started.
    """

    name: str
    estimate_mb: float
    stopped: bool


@dataclass(frozen=True)
class View:
    """All that a decision depends on besides `State`.

    Attributes
    ----------
    promised_mb : what the living processes are expected to grow yet.
    minimum : clients of this machine without which the run waits (`min-available-clients` less those elsewhere); 0 when no run is on.
    """

    reading: Reading
    clients: Sequence[Client] = ()
    held: Sequence[Held] = ()
    promised_mb: float = 0.0
    minimum: int = 0


@dataclass(frozen=True)
class Decision:
    """One thing to do. `action` is `warn`, `clear`, `finish` (stop at the round's end), `stop`, `kill`, or `start`; `name` the client's."""

    action: str
    step: Step
    reason: str
    name: str = ""


@dataclass(frozen=True)
class State:
    """What the policy remembers.

    Attributes
    ----------
    above : since when the reading has been above the present step's threshold.
    begun : when the present shortage began, in which clients are stopped.
    stopped : when a client was last chosen.
    gone : when one that was chosen was last seen.
    recent : what was left in the last seconds beyond what is promised: growth that was expected is no alarm.
    told : clients whose stop will make the run wait, which has been said.
    room : since when there has been room for each held client.
    returned, waits : when a client came back, and how long the next return takes.
    """

    step: Step = Step.CALM
    above: float | None = None
    low: int = 0
    begun: float = 0.0
    stopped: float = float("-inf")
    gone: float = float("-inf")
    recent: tuple[float, ...] = ()
    told: frozenset[str] = frozenset()
    room: Mapping[str, float] = field(default_factory=dict)
    returned: Mapping[str, float] = field(default_factory=dict)
    waits: Mapping[str, float] = field(default_factory=dict)


def thresholds(rules: MemoryRules, limit_mb: float) -> dict[Step, float]:
    """For each step the MB below which it begins."""
    reserve = rules.reserve(limit_mb)
    shares = {Step.WARN: rules.warn_at, Step.HOLD: 1.0, Step.STOP: rules.stop_at, Step.STOP_NOW: rules.stop_now_at, Step.KILL: rules.kill_at}
    return {step: reserve * share for step, share in shares.items()}


def decide(rules: MemoryRules, state: State, view: View) -> tuple[State, Decision | None]:
    """The next state, and at most one decision."""
    now, bounds = view.reading.time, thresholds(rules, view.reading.limit_mb)
    state = dataclasses.replace(state, recent=(*state.recent, view.reading.available_mb - view.promised_mb)[-WINDOW:])
    before = state.step
    state, reached = _climb(state, view, bounds)
    under_way = next((client for client in view.clients if client.stopping), None)
    if under_way:
        state = dataclasses.replace(state, gone=now)
    decision = None
    if reached >= Step.STOP:
        state, decision = _escalate(state, under_way, reached, now) if under_way else _choose(state, view, reached)
    if decision is None and state.step != before and (state.step > before or state.step is Step.CALM):
        decision = Decision("warn", state.step, _shortage(view.reading, bounds)) if state.step else Decision("clear", state.step, f"{_left(view.reading)}")
    state, back = _return(rules, state, view, bounds, under_way is not None)
    return (state, decision) if decision else _take_back(state, back, now)


def fits(rules: MemoryRules, reading: Reading, promised_mb: float, estimate_mb: float) -> bool:
    """Whether a start leaves the reserve, once it and all others have grown as expected."""
    return reading.available_mb - promised_mb - estimate_mb >= rules.reserve(reading.limit_mb)


def near(reading: Reading, bounds: Mapping[Step, float]) -> bool:
    """Whether so little is left that a quick fall is answered by a stop."""
    return reading.available_mb < NEAR * bounds[Step.WARN]


def fall(recent: Sequence[float]) -> float:
    """MB a second by which what is left becomes less, in most of the last seconds: a jump or two, as of starts, are no fall."""
    if len(recent) < WINDOW:
        return 0.0
    return max(statistics.median_low(earlier - later for earlier, later in itertools.pairwise(recent)), 0.0)


def _climb(state: State, view: View, bounds: Mapping[Step, float]) -> tuple[State, Step]:
    """Up at once (to stop a client at its round's end: at the second reading in a row), down after a while.

    Returned with the step that this reading alone asks for: while the ladder is left slowly, nothing more is stopped.
    """
    now, available = view.reading.time, view.reading.available_mb
    reached = max((step for step, bound in bounds.items() if available < bound), default=Step.CALM)
    if available - fall(state.recent) * AHEAD_S < bounds[Step.KILL] and near(view.reading, bounds):
        reached = max(reached, Step.STOP_NOW)
    if view.reading.stalled >= STALLED and available < bounds[Step.HOLD]:
        reached = max(reached, Step.STOP)
    low = state.low + 1 if reached >= Step.STOP else 0
    if reached is Step.STOP and low < 2:
        reached = Step.HOLD
    state = dataclasses.replace(state, low=low)
    if reached > state.step:
        begun = now if reached >= Step.STOP > state.step else state.begun
        return dataclasses.replace(state, step=reached, above=None, begun=begun), reached
    if state.step is Step.CALM or reached is state.step or available < bounds[state.step] * BACK:
        return dataclasses.replace(state, above=None), reached
    above = now if state.above is None else state.above
    if now - above < CALM_S:
        return dataclasses.replace(state, above=above), reached
    lower = max((step for step, bound in bounds.items() if available < bound * BACK), default=Step.CALM)
    return dataclasses.replace(state, step=min(max(lower, reached), state.step), above=None), reached


def _escalate(state: State, client: Client, reached: Step, now: float) -> tuple[State, Decision | None]:
    """Go further with the one that is being stopped; no other is touched before it has gone."""
    waited = now - client.since
    if reached is Step.KILL and client.stopping < Step.KILL and waited >= 1:
        return state, Decision("kill", reached, "it was told to stop, but memory fell faster", client.name)
    if client.stopping is Step.STOP and (reached >= Step.STOP_NOW or waited >= PATIENCE_S):
        why = "memory falls faster than its round ends" if reached >= Step.STOP_NOW else f"it has not ended its round within {PATIENCE_S:g} s"
        return state, Decision("stop", max(reached, Step.STOP_NOW), why, client.name)
    return state, None


def _choose(state: State, view: View, reached: Step) -> tuple[State, Decision | None]:
    """A client to stop, unless one was stopped just now; before the run has to wait for it, that is said."""
    now = view.reading.time
    if not view.clients:
        return state, None
    victim = max(view.clients, key=_rank)
    excess = victim.use_mb - victim.estimate_mb
    falls_on = state.stopped >= state.begun or excess > ABOVE_MB  # one was stopped in this shortage already, or it is a client that grows
    pace = LAST_PACE_S if reached is Step.KILL else FALL_PACE_S if falls_on and reached is Step.STOP_NOW else PACE_S
    if now - state.gone < min(SETTLE_S, pace) or now - state.stopped < pace:
        return state, None
    left = len(view.clients) - 1
    if left < view.minimum and victim.name not in state.told:
        text = f"{victim.name} has to be stopped: the run will wait, it needs {view.minimum} of the clients here (min-available-clients) and {left or 'none'} {'are' if left > 1 else 'is'} left"
        return dataclasses.replace(state, told=state.told | {victim.name}), Decision("warn", reached, text, victim.name)
    why = f"it uses {victim.use_mb:.0f} MB, {excess:.0f} more than expected" if excess > ABOVE_MB else "it is the newest"
    action = {Step.STOP: "finish", Step.STOP_NOW: "stop", Step.KILL: "kill"}[reached]
    patience = {**state.waits, victim.name: _patience(state, victim.name, now)}
    state = dataclasses.replace(state, stopped=now, gone=now, told=state.told - {victim.name}, waits=patience)
    return state, Decision(action, reached, why, victim.name)


def _rank(client: Client) -> tuple[float, float]:
    """The one furthest above its estimate first, else the newest."""
    excess = client.use_mb - client.estimate_mb
    return (excess if excess > ABOVE_MB else 0.0), client.started


def _patience(state: State, name: str, now: float) -> float:
    """How long there must be room before this one comes back: twice as long when it soon had to be stopped again."""
    soon = name in state.returned and now - state.returned[name] < FORGIVE_S
    return min(2 * state.waits.get(name, ROOM_S), LONGEST_ROOM_S) if soon else ROOM_S


def _return(rules: MemoryRules, state: State, view: View, bounds: Mapping[Step, float], busy: bool) -> tuple[State, Held | None]:
    """The held client whose time has come."""
    now = view.reading.time
    room = {
        held.name: state.room.get(held.name, now) for held in view.held
        if not busy and state.step < Step.HOLD and fits(rules, view.reading, view.promised_mb, held.estimate_mb)
    }  # fmt: skip
    waits = {held.name: state.waits.get(held.name, ROOM_S) if held.stopped else START_ROOM_S for held in view.held}
    ripe = next((held for held in view.held if held.name in room and now - room[held.name] >= waits[held.name]), None)
    return dataclasses.replace(state, room=room), ripe


def _take_back(state: State, held: Held | None, now: float) -> tuple[State, Decision | None]:
    """The next one begins to wait when this one has started."""
    if held is None:
        return state, None
    state = dataclasses.replace(state, room={}, returned={**state.returned, held.name: now})
    return state, Decision("start", state.step, f"there has been room for the {held.estimate_mb:.0f} MB it needs", held.name)


def _shortage(reading: Reading, bounds: Mapping[Step, float]) -> str:
    return f"memory is short: {_left(reading)}, the reserve is {bounds[Step.HOLD]:.0f} MB"


def _left(reading: Reading) -> str:
    where = "this cgroup's" if reading.group else "the machine's"
    return f"{reading.available_mb:.0f} MB of {where} {reading.limit_mb:.0f} MB are left"
