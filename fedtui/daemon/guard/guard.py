"""The guard in the daemon: looks once a second, asks the policy, does what it says, and writes down why."""
from __future__ import annotations

import dataclasses
import time
import tomllib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fedtui.daemon.commands import RunWish
from fedtui.daemon.guard import policy
from fedtui.daemon.guard.estimates import HOST_MB, Estimates
from fedtui.daemon.guard.forecast import Forecast, foresee, growth
from fedtui.daemon.guard.history import History
from fedtui.daemon.guard.policy import Decision, Held, State, Step, View
from fedtui.daemon.guard.readings import Meter
from fedtui.daemon.notes import log
from fedtui.daemon.placement import HOST
from fedtui.daemon.process import Process
from fedtui.daemon.progress import progress_file
from fedtui.daemon.state import SERVER
from fedtui.daemon.state import State as ProcessState
from fedtui.memory_rules import MemoryRules
from fedtui.roster import Client
from poweranger.errors import UserError
from poweranger.run_config import BY_NAME, from_environment, from_pyproject, resolve

if TYPE_CHECKING:
    from fedtui.daemon.supervisor import Supervisor

START_CLIENTS = "start-clients"
LAST = 5  # decisions in the API's answer


class Guard:
    """One project's guard; all its methods belong to the event loop's thread."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.history = History(supervisor.project.state / "memory-guard.jsonl")
        self.estimates = Estimates(supervisor.project.state / "memory.json")
        self._meter = Meter()
        self.reading = self._meter.read()
        self.forecasts: list[Forecast] = []
        self._state = State()
        self._stopping: dict[str, tuple[Step, float]] = {}  # how far, and since when
        self._foreseen: set[str] = set()
        self._last = self.history.last(LAST)

    @property
    def rules(self) -> MemoryRules:
        """As the project file has them."""
        return self._supervisor.last_roster.memory

    def tick(self) -> None:
        """Look, and do one thing at most. Called once a second, when all processes have been measured."""
        self.reading = self._meter.read()
        self._observe()
        self._foresee()
        if self.rules.guard:
            self._state, decision = policy.decide(self.rules, self._state, self._view())
            if decision:
                self._carry_out(decision)

    def save(self) -> None:
        """Keep what has been learned of the processes for the next daemon."""
        try:
            self.estimates.save(self._supervisor.table)
        except OSError as error:
            self._supervisor.notes.say("estimates", f"what processes need cannot be written down ({error.strerror}): make room on the disk")

    # Starts

    def refusal(self, process: Process) -> str:
        """Why this client is not started now; "" when it fits, or when the guard only watches."""
        name = process.record.name
        self.reading = self._meter.read()
        forked = process.record.via == HOST
        need, promised = self._need(name, forked), self._promised(forked, but=process)
        if not self.rules.guard or policy.fits(self.rules, self.reading, promised, need):
            return ""
        left, reserve = self.reading.available_mb - promised - need, self.rules.reserve(self.reading.limit_mb)
        short = f"{left:.0f} MB would be left, under the reserve of {reserve:.0f} MB" if left > 0 else f"{max(self.reading.available_mb - promised, 0):.0f} MB are left for it"
        reason = f"starting {name} needs about {need:.0f} MB of memory, {short}; it starts when there is room"
        if process.record.waits_for not in ("memory", "return"):
            self._write_down("hold", Step.HOLD, name, reason)
        return "" if self.rules.dry_run else reason

    def plan(self, wish: RunWish, clients: Sequence[Client]) -> tuple[RunWish, list[str]]:
        """The wish with which the run does not wait for clients that do not fit now, and what to tell the user of that."""
        if not self.rules.guard or self.rules.dry_run:
            return wish, []
        self.reading = self._meter.read()
        table = self._supervisor.table
        starts = self._supervisor.last_roster.server_local and not (SERVER in table and table[SERVER].live)
        server = self.estimates.need(SERVER, SERVER) if starts else 0.0
        promised, fitting, missing = self._promised(any(map(self._supervisor.forked, clients))) + server, 0, []
        for client in clients:
            live = client.name in table and table[client.name].live
            need = 0.0 if live else self._need(client.name, self._supervisor.forked(client))
            if live or policy.fits(self.rules, self.reading, promised, need):
                promised, fitting = promised + need, fitting + 1
            else:
                missing.append(client.name)
        if not missing:
            return wish, []
        notes = [f"{fitting} of {len(clients)} clients fit into memory now; {', '.join(missing)} start{'s' if len(missing) == 1 else ''} when there is room (--force starts all)"]
        wanted = wish.settings.get(START_CLIENTS, 0)
        if isinstance(wanted, int) and wanted > fitting > 0:
            wish = dataclasses.replace(wish, settings={**wish.settings, START_CLIENTS: fitting})
            notes.append(f"so the run begins with {fitting}")
        return wish, notes

    def _client(self, name: str) -> Client:
        """As the roster has it; one that it does not name makes up its images."""
        return next((client for client in self._supervisor.last_roster.clients if client.name == name), Client(name))

    def _forked(self, name: str) -> bool:
        return self._supervisor.forked(self._client(name))

    def _need(self, name: str, forked: bool) -> float:
        """MB that a client needs when it is started in this way."""
        client = self._client(name)

        def cache_mb() -> float:
            if not client.data_dir and not client.env.get("DATA_DIR"):
                return 0.0  # made-up images are few
            try:
                return float(resolve(from_pyproject(self._supervisor.project.pyproject), from_environment(client.env))["cache-mb"])
            except UserError:  # what is wrong is said where it is used
                return float(BY_NAME["cache-mb"].default)

        return self.estimates.need(name, "client", forked, cache_mb)

    def _promised(self, fork: bool = False, but: Process | None = None) -> float:
        """MB that the living processes will grow yet, as far as is known: the client host, too, while it loads, or when a `fork` needs one."""
        host = self._supervisor.host
        promised = max(HOST_MB - host.usage.use_mb, 0.0) if host.pid is None and (fork or host.alive) else 0.0
        for name, process in self._supervisor.table.items():
            if process.live and process is not but and process.record.state is not ProcessState.STOPPING:
                estimate = self.estimates.get(name)
                fresh = not process.record.pid or estimate.start != process.record.start
                trained = not fresh and len(estimate.rounds) > 1
                expected = self._expected(process) if fresh else max(estimate.peaks.values()) if trained else estimate.expected_mb
                promised += max(expected - process.usage.use_mb, 0.0)
        return promised

    def _expected(self, process: Process) -> float:
        name, role = process.record.name, process.record.role
        return self._need(name, process.record.via == HOST) if role == "client" else self.estimates.need(name, role)

    # Looking

    def _observe(self) -> None:
        """Learn from what the processes use and say."""
        for name, process in self._supervisor.table.items():
            record = process.record
            if not process.live or not record.pid:
                continue
            estimate = self.estimates.get(name)
            if estimate.start != record.start:
                estimate.begin(record.start, self._expected(process), record.via == HOST)
            estimate.see(process.usage.use_mb, record.state.value, record.status)

    def _foresee(self) -> None:
        """Say of each client once that it grows until memory is used up."""
        server = self._supervisor.table.get(SERVER)
        on = not self._supervisor.last_roster.server_local or (server and server.live)
        clients = {process.record.name: self.estimates.get(process.record.name).rounds for process in self._clients() if on}
        self.forecasts = foresee(clients, self.reading.available_mb, self._rounds())
        alarming = {forecast.name: forecast for forecast in self.forecasts if forecast.round is not None}
        for name in self._foreseen - alarming.keys():
            self._supervisor.notes.settle(f"forecast {name}")
        for name in alarming.keys() - self._foreseen:
            self._write_down("forecast", self._state.step, name, str(alarming[name]))
            self._supervisor.notes.say(f"forecast {name}", f"memory: {alarming[name]}")
        self._foreseen = set(alarming)

    def _rounds(self) -> int:
        """Rounds of the run, from what its server says; 0 when it says nothing of them."""
        server = self._supervisor.table.get(SERVER)
        _, _, total = server.record.status.partition(" of ") if server and server.live else ("", "", "")
        digits = total.split(",")[0].strip()
        return int(digits) if digits.isdigit() else 0

    def _clients(self) -> Iterable[Process]:
        """The clients that live."""
        return [process for process in self._supervisor.table.values() if process.live and process.record.role == "client"]

    def _view(self) -> View:
        """What the policy decides on."""
        clients, now = [], self.reading.time
        living = [process for process in self._clients() if process.record.pid]  # what still waits for the client host takes nothing
        self._stopping = {
            process.record.name: self._stopping.get(process.record.name, (Step.STOP if process.record.waits_for else Step.KILL, now))
            for process in living if process.record.state is ProcessState.STOPPING
        }  # fmt: skip
        for process in living:
            name = process.record.name
            stopping, since = self._stopping.get(name, (Step.CALM, 0.0))
            estimate = self.estimates.get(name)
            clients.append(policy.Client(name, process.usage.use_mb, estimate.expected_mb, process.record.started, stopping, since))
        held = [
            Held(name, self._need(name, self._forked(name)), process.record.waits_for == "return") for name, process in self._supervisor.table.items()
            if process.record.state is ProcessState.HELD and process.record.waits_for in ("memory", "return")
        ]  # fmt: skip
        promised = self._promised(any(self._forked(waiting.name) for waiting in held))
        near = policy.near(self.reading, policy.thresholds(self.rules, self.reading.limit_mb))
        return View(self.reading, clients, held, promised, self._minimum() if near else 0)

    def _minimum(self) -> int:
        """Clients of this machine without which the present run waits; 0 when none is on."""
        server = self._supervisor.table.get(SERVER)
        if not server or not server.live:
            return 0
        try:
            info = tomllib.loads((progress_file(self._supervisor.project.results).parent / "run.toml").read_text())
            return int(info["config"]["min-available-clients"]) - len(self._supervisor.remote()) if info["outcome"] == "running" else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    # Acting

    def _carry_out(self, decision: Decision) -> None:
        supervisor, name = self._supervisor, decision.name
        self._write_down(decision.action, decision.step, name, decision.reason)
        if decision.action == "clear":
            supervisor.notes.settle("memory guard")
        elif decision.action == "start":
            if not self.rules.dry_run:
                supervisor.start_again(supervisor.table[name])
        elif decision.action == "warn":
            supervisor.notes.say("memory guard", decision.reason)
        elif not self.rules.dry_run:
            done = {"finish": "stopped at its round's end", "stop": "stopped at once", "kill": "killed"}[decision.action]
            self._stopping[name] = ({"finish": Step.STOP, "stop": Step.STOP_NOW, "kill": Step.KILL}[decision.action], self.reading.time)
            back = f"; it comes back when there is room for the {self._expected(supervisor.table[name]):.0f} MB of memory it needs" if self.rules.auto_return else ""
            left = f"{self.reading.available_mb:.0f} MB were left"
            supervisor.notes.say("memory guard", f"memory is short ({left}): {name} is {done}, {decision.reason}")
            supervisor.relieve(supervisor.table[name], decision.action, f"{done} by the memory guard: {left}, {decision.reason}{back}", self.rules.auto_return)

    def _write_down(self, action: str, step: Step, name: str, reason: str) -> None:
        """A line of history with the numbers it was decided on, in the log and for whoever is attached."""
        bounds = policy.thresholds(self.rules, self.reading.limit_mb)
        entry = {
            "time": time.time(), "action": action, "step": step.name.lower(), "process": name, "reason": reason, "dry_run": self.rules.dry_run,
            "reserve_mb": round(bounds[Step.HOLD], 1), "promised_mb": round(self._promised(), 1), "machine": self.reading.to_json(),
            "processes": {
                process.record.name: {"use_mb": round(process.usage.use_mb, 1), "expected_mb": round(self.estimates.get(process.record.name).expected_mb, 1)}
                for process in self._supervisor.table.values() if process.live
            },
        }  # fmt: skip
        log(f"memory guard{' (dry run)' if self.rules.dry_run else ''}: {action} {name}: {reason}" if name else f"memory guard: {action}: {reason}")
        try:
            self.history.add(entry)
            self._supervisor.notes.settle("guard history")
        except OSError as error:
            self._supervisor.notes.say("guard history", f"{self.history.path} cannot be written ({error.strerror}): make room on its disk")
        self._last = [*self._last, entry][-LAST:]
        self._supervisor.broadcast.publish("guard", decision=entry)

    # Telling

    def to_json(self) -> dict[str, Any]:
        """As the API tells it."""
        rules = self.rules
        bounds = policy.thresholds(rules, self.reading.limit_mb)
        return {
            "state": "off" if not rules.guard else "dry-run" if rules.dry_run else "on", "auto_return": rules.auto_return,
            "step": self._state.step.name.lower(), "reserve_mb": round(bounds[Step.HOLD], 1), "promised_mb": round(self._promised(), 1),
            "thresholds_mb": {step.name.lower(): round(bound, 1) for step, bound in bounds.items()},
            "forecasts": [{"process": forecast.name, "mb_a_round": round(forecast.slope_mb, 1), "round": forecast.round, "text": str(forecast)} for forecast in self.forecasts],
            "last": self._last,
        }  # fmt: skip

    def needs(self, process: Process) -> dict[str, Any]:
        """What is known of a process's needs, for its line in the API."""
        estimate = self.estimates.get(process.record.name)
        return {
            "use_mb": round(process.usage.use_mb, 1), "need_mb": round(self._expected(process), 1), "peaks_mb": {phase: round(size, 1) for phase, size in estimate.peaks.items()},
            "mb_a_round": round(growth(estimate.rounds), 1),
        }  # fmt: skip

    def host_needs(self) -> dict[str, Any]:
        """The same of the client host."""
        return {"use_mb": round(self._supervisor.host.usage.use_mb, 1), "need_mb": HOST_MB, "peaks_mb": {}, "mb_a_round": 0.0}
