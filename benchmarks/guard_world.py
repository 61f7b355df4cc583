"""A machine in which clients use memory by given curves, and the guard's policy decides: seconds pass as fast as they are computed."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fedtui.daemon.guard.policy import Client, Decision, Held, State, Step, View, decide, fits
from fedtui.daemon.guard.readings import Reading
from fedtui.memory_rules import MemoryRules

Curve = Callable[[float], float]  # seconds since the start -> MB


@dataclass
class Actor:
    """A client of the simulated machine.

    Attributes
    ----------
    curve : what it uses.
    need_mb : what it is expected to use.
    round_s : how long it takes to end its round when it is told to.
    stop_s : how long it takes to end when it is told to stop at once.
    wanted : seconds from the beginning at which somebody starts it.
    """

    name: str
    curve: Curve
    need_mb: float
    round_s: float = 5.0
    stop_s: float = 0.5
    wanted: float = 0.0
    begun: float | None = None
    held: str = ""
    stopping: Step = Step.CALM
    since: float = 0.0
    ends: float = float("inf")

    def use(self, now: float) -> float:
        """MB it uses."""
        return self.curve(now - self.begun) if self.begun is not None else 0.0


@dataclass
class Second:
    """What was seen and done in one second."""

    time: float
    available_mb: float
    step: Step
    uses: dict[str, float]
    decision: Decision | None = None
    killed: str = ""  # by the kernel


@dataclass
class World:
    """`others` uses memory, too: the server, and what else runs."""

    limit_mb: float
    actors: Sequence[Actor]
    others: Curve = lambda now: 0.0
    rules: MemoryRules = field(default_factory=MemoryRules)
    minimum: int = 0
    state: State = field(default_factory=State)
    seconds: list[Second] = field(default_factory=list)
    held_at: list[float] = field(default_factory=list)  # when a start was held

    def run(self, seconds: int) -> list[Second]:
        """Let so many seconds pass."""
        for _ in range(seconds):
            self._pass(float(len(self.seconds)))
        return self.seconds

    def decisions(self, *actions: str) -> list[tuple[float, Decision]]:
        """When what was decided."""
        return [(second.time, second.decision) for second in self.seconds if second.decision and second.decision.action in actions]

    @property
    def killed(self) -> list[str]:
        """Whom the kernel killed."""
        return [second.killed for second in self.seconds if second.killed]

    def _pass(self, now: float) -> None:
        for actor in self.actors:
            if actor.ends <= now:
                actor.begun, actor.ends, actor.stopping = None, float("inf"), Step.CALM
        killed = self._kernel(now)
        reading = self._reading(now)
        for actor in self.actors:
            if actor.begun is None and not actor.held and actor.wanted <= now:
                actor.wanted = float("inf")
                if not self.rules.guard or fits(self.rules, reading, self._promised(now), actor.need_mb):
                    actor.begun = now
                else:
                    actor.held = "memory"
                    self.held_at.append(now)
        decision = None
        if self.rules.guard:
            living = [actor for actor in self.actors if actor.begun is not None]
            clients = [Client(a.name, a.use(now), a.need_mb, a.begun or 0.0, a.stopping, a.since) for a in living]
            held = [Held(a.name, a.need_mb, a.held == "return") for a in self.actors if a.begun is None and a.held]
            self.state, decision = decide(self.rules, self.state, View(reading, clients, held, self._promised(now), self.minimum))
            if decision and not self.rules.dry_run:
                self._obey(decision, now)
        self.seconds.append(Second(now, reading.available_mb, self.state.step, {a.name: a.use(now) for a in self.actors}, decision, killed))

    def _obey(self, decision: Decision, now: float) -> None:
        actor = next((actor for actor in self.actors if actor.name == decision.name), None)
        if actor is None or decision.action == "warn":
            return
        if decision.action == "start":
            actor.begun, actor.held = now, ""
            return
        delays = {"finish": (Step.STOP, actor.round_s), "stop": (Step.STOP_NOW, actor.stop_s), "kill": (Step.KILL, 0.1)}
        actor.stopping, delay = delays[decision.action]
        actor.since, actor.ends = now, min(actor.ends, now + delay)
        actor.held = "return" if self.rules.auto_return else ""

    def _kernel(self, now: float) -> str:
        """The OOM killer: takes the largest client when nothing is left."""
        if self._reading(now).available_mb > 0:
            return ""
        victim = max((actor for actor in self.actors if actor.begun is not None), key=lambda actor: actor.use(now), default=None)
        if victim is None:
            return "the server"
        victim.begun, victim.ends, victim.stopping = None, float("inf"), Step.CALM
        victim.wanted = now + 1  # the restart policy
        return victim.name

    def _reading(self, now: float) -> Reading:
        used = self.others(now) + sum(actor.use(now) for actor in self.actors)
        return Reading(now, max(self.limit_mb - used, 0.0), self.limit_mb, self.limit_mb)

    def _promised(self, now: float) -> float:
        return sum(max(actor.need_mb - actor.use(now), 0.0) for actor in self.actors if actor.begun is not None and not actor.stopping)


def grows_to(size_mb: float, seconds: float = 8.0, a_second: float = 0.0) -> Curve:
    """Loading for so many seconds up to a size, and from then on a leak."""
    return lambda age: size_mb * min(age / seconds, 1.0) + max(age - seconds, 0.0) * a_second


