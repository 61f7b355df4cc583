"""The processes of one project: what starts when, what is restarted, how all end."""
from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Coroutine, Mapping
from dataclasses import asdict
from typing import Any

from fedtui.daemon import adoption, endings, placement, port, progress, remote, state
from fedtui.daemon.commands import Commands, RunWish, environment, federation, host_environment
from fedtui.daemon.events import Broadcast
from fedtui.daemon.guard.guard import Guard
from fedtui.daemon.host import ClientHost
from fedtui.daemon.measure import OomKills
from fedtui.daemon.notes import Notes, about_synthetic, log
from fedtui.daemon.process import Process, Refusal
from fedtui.daemon.restarts import Restarts
from fedtui.daemon.state import SERVER, SIMULATION, Record, State, new_record
from fedtui.daemon.view import view
from fedtui.logs import clean
from fedtui.project import Project
from fedtui.roster import Client, Roster
from poweranger.errors import UserError

TELL_S = 0.2  # a status may change with every step: it is told this often


class Refused(UserError):
    """It cannot be done as things stand now."""


class UnknownProcess(UserError):
    """There is no process of that name."""


class Supervisor:
    """The table of processes; all its methods belong to the event loop's thread."""

    def __init__(self, project: Project, commands: Commands, broadcast: Broadcast) -> None:
        self.project, self.commands, self.broadcast = project, commands, broadcast
        self.notes = Notes(broadcast)
        self.oom = OomKills()
        self.table: dict[str, Process] = {}
        self.last_roster = Roster()  # as the file was when it last could be read
        self._touched: set[str] = set()
        self.host = ClientHost(commands.host(), host_environment(project), project.root, project.state / "client-host.log")
        self._cards = placement.cards(os.environ)
        self._saved: dict[str, tuple[State, int]] = {}
        self._telling: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._restarts = Restarts(self.start_again)
        self.guard = Guard(self)

    def begin(self) -> None:
        """Take over what an earlier daemon left."""
        for process in adoption.take_over(self.project, self.roster(), self.add):
            if process.record.state is State.STOPPING and process.record.waits_for:  # what that daemon had begun
                self._spawn_task(self._relieve(process, "finish"))
            elif process.record.state is State.STOPPING:
                self._spawn_task(self._stop(process))
            elif process.record.state is State.BACKOFF:
                self._restarts.schedule(process)
        self._server_changed()
        self.save()

    def end(self) -> None:
        """Let go of all processes: they live on."""
        self._restarts.cancel_all()
        for task in self._tasks:
            task.cancel()
        self.save()
        for process in self.table.values():
            process.forget()
        self.host.close()

    @property
    def active(self) -> list[str]:
        """The names of what runs, or is about to."""
        return [name for name, process in self.table.items() if process.live or process.record.state in (State.BACKOFF, State.HELD)]

    def roster(self) -> Roster:
        """The roster as the file has it; as it last was while the file does not parse."""
        try:
            self.last_roster = self.project.roster()
            self.notes.settle("roster")
        except UserError as error:
            self.notes.say("roster", str(error))
        return self.last_roster

    def listed(self) -> list[Process]:
        """What `ps` shows, in order: the server, the roster's clients, then what else runs or has failed."""
        roster = self.roster()
        names = [SERVER] if roster.server_local else []
        names += [client.name for client in roster.effective()]
        others = [name for name, process in self.table.items() if name not in names and process.record.state is not State.STOPPED]
        return [self.table.get(name) or self.add(new_record(name)) for name in [*names, *others]]

    def remote(self) -> dict[str, dict[str, Any]]:
        """The clients on other machines that are connected to the server here, by name; see `remote.clients`."""
        server = self.table.get(SERVER)
        if server is None or not server.live:
            return {}
        active = self.active
        ours = {name: (0.0, math.inf) if name in active else (process.record.started, process.record.ended) for name, process in self.table.items()}
        return remote.clients(progress.progress_file(self.project.results), server.record.started, ours)

    def shown(self) -> list[dict[str, Any]]:
        """What `ps` prints: the processes here, then the clients elsewhere; one that runs elsewhere is not listed as stopped here."""
        elsewhere = self.remote()
        here = [view(process) for process in self.listed() if process.live or process.record.name not in elsewhere]
        return [*here, *elsewhere.values()]

    def find(self, name: str) -> Process:
        """The process called so; `UnknownProcess` when neither roster nor table has it."""
        roster = self.roster()
        if name == SERVER and not roster.server_local and not (name in self.table and self.table[name].live):
            raise Refused(f"{roster.elsewhere}: the server is started, stopped and looked at there")
        if far := self.remote().get(name):
            raise Refused(f"{name} is connected from {far['address']} and was not started here: start, stop and look at it there")
        if name in self.table:
            return self.table[name]
        known = [process.record.name for process in self.listed()]
        if name not in (*known, SERVER, SIMULATION):
            raise UnknownProcess(f"there is no process {name!r} (known: {', '.join(known)}): `fedtui client add` adds a client")
        return self.table.get(name) or self.add(new_record(name))

    def add(self, record: Record) -> Process:
        """Put a process into the table."""
        name = record.name
        log, mark = self.project.logs / f"{name}.log", f"{self.project.state}/{name}"
        process = self.table[name] = Process(record, log, mark, lambda: self._changed(name), self._ended)
        return process

    async def up(self, wish: RunWish, count: int | None, *, synthetic: bool = False, force: bool = False) -> list[str]:
        """Start the server, when it runs here, and the first `count` clients of the roster; what runs already is left alone.

        With `synthetic` they are made-up clients, none of the roster's.

        Returns
        -------
        list of str
            What the user should know.

        Raises
        ------
        UserError
            When the roster is wrong; `Refused` when the port is held. Nothing has been started then.
        """
        roster = self.last_roster = self.project.roster()
        clients = roster.made_up(count or 2) if synthetic else roster.effective(count)
        self.project.keys.check_clients(client.name for client in clients)
        if not clients and not roster.server_local:
            raise UserError("the roster has no client to start: `fedtui keys import FILE` takes what the server's operator exported, `fedtui client add` adds one")
        far = self.remote()
        notes = [f"{client.name} is connected from {far[client.name]['address']}: not started here" for client in clients if client.name in far]
        clients = tuple(client for client in clients if client.name not in far)
        notes += about_synthetic(roster, clients)
        if not force:
            wish, more = self.guard.plan(wish, clients)
            notes += more
        if roster.server_local:
            server = self.find(SERVER)
            async with server.lock:
                if server.live:
                    untaken = " and goes on as it was started: --rounds, --set, --name and --resume were not taken" if wish != RunWish() else ""
                    notes.append(f"the server runs already{untaken}")
                else:
                    self._start_server(server, roster, wish)
        else:
            notes.append(f"{roster.elsewhere}: only clients are started")
        if any(map(self.forked, clients)):
            self.host.prepare()  # while the server starts
        for client in clients:
            process = self.table.get(client.name) or self.add(new_record(client.name))
            async with process.lock:
                if not process.live:
                    self._restarts.cancel(process)
                    process.record.restarts, process.record.options = 0, {}  # a made-up client may take a name that the roster had
                    self._start_client(process, force)
        return notes

    async def start(self, name: str, *, force: bool = False) -> Process:
        """Start one process, as it was last started. `force` starts a client before the server is ready."""
        process = self.find(name)
        async with process.lock:
            if not process.live:
                self._restarts.cancel(process)
                process.record.restarts = 0
                self._start(process, force)
        await process.born()
        return process

    async def stop(self, name: str) -> Process:
        """Stop one process with all its descendants; no policy undoes that."""
        process = self.find(name)
        _insist({name: await self._stop(process)})
        return process

    async def restart(self, name: str, *, force: bool = False) -> Process:
        """Stop, then start."""
        await self.stop(name)
        return await self.start(name, force=force)

    async def kill(self, name: str) -> Process:
        """SIGKILL at once, also in the middle of a stop."""
        process = self.find(name)
        process.record.waits_for = ""
        _insist({name: await (process.stop(0) if process.live and process.record.pid else self._stop(process))})
        return process

    def relieve(self, process: Process, action: str, reason: str, comes_back: bool) -> None:
        """End a client for want of memory: `finish` lets it send what it works on, `stop` does not, `kill` does not ask."""
        process.record.waits_for = "return" if comes_back else ""
        process.record.reason, process.record.cause = (reason, "") if comes_back else ("", reason)
        self._spawn_task(self._relieve(process, action))

    async def _relieve(self, process: Process, action: str) -> None:
        if process.live and process.record.pid:
            await (process.finish() if action == "finish" else process.stop(0 if action == "kill" else self.last_roster.stop_grace_s))
        await self._clear_up(process)

    def start_again(self, process: Process) -> None:
        """Start what was held or has failed; what is wrong becomes its cause."""
        try:
            self._start(process)
        except UserError as error:
            process.become(State.FAILED, cause=str(error), reason="")

    async def down(self) -> None:
        """Stop everything: the clients first, then the server."""
        others = {name: process for name, process in self.table.items() if name != SERVER}
        left = dict(zip(others, await asyncio.gather(*map(self._stop, others.values())), strict=True))
        if SERVER in self.table:
            left[SERVER] = await self._stop(self.table[SERVER])
        _insist(left)

    async def simulate(self, wish: RunWish) -> Process:
        """Start Flower's simulation as the process `simulation`."""
        process = self.find(SIMULATION)
        async with process.lock:
            if process.live:
                raise Refused("a simulation runs already: `fedtui stop simulation` ends it")
            process.record.options = asdict(wish)
            self._start(process)
        return process

    def receive(self, pid: int, fields: dict[str, str]) -> None:
        """A message by sd_notify, from a process of ours or a descendant of one; others are ignored."""
        live = [process for process in self.table.values() if process.live]
        sender = next((process for process in live if process.record.pid == pid), None)
        if sender := sender or next((process for process in live if process.belongs(pid)), None):
            sender.receive({name: clean(value, 500) for name, value in fields.items()})

    def save(self) -> None:
        """Write `processes.json`; a full disk is said once."""
        try:
            state.save(self.project.processes_file, [process.record for process in self.table.values()])
            self.notes.settle("state")
        except OSError as error:
            self.notes.say("state", f"{self.project.processes_file} cannot be written ({error.strerror}): a daemon started after this one will not know its processes")
        self._saved = {name: (process.record.state, process.record.pid) for name, process in self.table.items()}

    def _start(self, process: Process, force: bool = False) -> None:
        """Start by role, with what it was last started with."""
        roster, name = self.project.roster(), process.record.name
        if name == SERVER:
            self._start_server(process, roster, RunWish(**process.record.options))
        elif name == SIMULATION:
            wish = RunWish(**process.record.options)
            self._launch(process, self.commands.simulation(wish), {"DATA_DIR": wish.data_dir or ""})
        else:
            self._start_client(process, force)

    def _start_server(self, server: Process, roster: Roster, wish: RunWish) -> None:
        if not roster.server_local:
            raise Refused(f"{roster.elsewhere}: start the server there")
        if refusal := port.refusal(roster.host, roster.port):
            raise Refused(refusal)
        server.record.options = asdict(wish)
        self._launch(server, self.commands.server(roster, wish), federation(self.project, roster))

    def _start_client(self, process: Process, force: bool) -> None:
        """Start a client, or withhold its start until the server that is just starting is ready."""
        server = self.table.get(SERVER)
        if server and server.record.state is State.STARTING and not force:
            process.become(State.HELD, wanted=True, reason="waits for the server to be ready", cause="", waits_for="server")
            return
        self.project.keys.check_clients([process.record.name])
        roster = self.project.roster()
        client = next((client for client in roster.clients if client.name == process.record.name), None)
        if client is None and process.record.options.get("in_roster"):  # its images would be made up now
            raise Refused(f"{process.record.name} is no longer in the roster: `fedtui client add {process.record.name}` adds it again")
        process.record.options = {"in_roster": client is not None}
        client = client or Client(process.record.name)
        placed = self._place(client, roster)
        process.record.via, process.record.via_reason, process.record.gpu = placed.via, placed.reason, placed.gpu
        refusal = None if force else self.guard.refusal
        if refusal and (reason := refusal(process)):
            process.become(State.HELD, wanted=True, reason=reason, cause="", waits_for="memory")
            return
        extra = federation(self.project, roster) | {"DATA_DIR": ""} | placed.environment | client.env  # what the roster says counts
        host = self.host if placed.via == placement.HOST else None
        self._launch(process, self.commands.client(roster, client), extra, host, refusal)

    def forked(self, client: Client) -> bool:
        """Whether this client is forked from the client host when it is started."""
        return self._place(client, self.last_roster).via == placement.HOST

    def _place(self, client: Client, roster: Roster) -> placement.Placement:
        others = [process.record.gpu for name, process in self.table.items() if process.live and name != client.name]
        placed = placement.place(client, roster.client_host, self._cards, others)
        if placed.via == placement.HOST and self.host.failure:
            return placement.Placement(placement.PROCESS, f"the client host failed: {self.host.failure}")
        return placed

    def _launch(
        self, process: Process, command: list[str], extra: dict[str, str], host: ClientHost | None = None, refusal: Refusal | None = None,
    ) -> None:
        process.spawn(command, environment(self.project, process.mark, extra), self.project.root, host, refusal)
        self.save()  # at once: a daemon that is killed now leaves a process that the next one must find

    async def _stop(self, process: Process) -> str:
        """Stop a process, or its start; returns what `Process.stop` does."""
        process.record.wanted, process.record.waits_for = False, ""
        await process.abandon()  # which may hold the lock for long
        async with process.lock:
            await process.abandon()  # a start that came first; it waits for the lock
            self._restarts.cancel(process)
            left = await process.stop(self.roster().stop_grace_s) if process.live or process.left else ""
            if process.record.state in (State.BACKOFF, State.HELD):
                process.become(State.STOPPED, reason="")
            return left

    def _ended(self, process: Process) -> None:
        """A process has ended by itself."""
        ending = endings.judge(process, self.project, self.last_roster, self.oom)
        if ending:
            log(f"{process.record.name} has failed: {ending}")  # its next start forgets that
        process.become(State.FAILED if ending else State.EXITED, cause=ending, reason="")
        self._spawn_task(self._clear_up(process))

    async def _clear_up(self, process: Process) -> None:
        """End what a dead process has left running, then let its restart policy act."""
        async with process.lock:
            if process.live:
                return
            await process.sweep(self.last_roster.stop_grace_s)
            record = process.record
            if record.state is State.FAILED and record.role == "client" and record.wanted and record.exit_code != 2:
                self._restarts.schedule(process)

    def _changed(self, name: str) -> None:
        """A new state is saved and told at once, a new status soon."""
        self._touched.add(name)
        record = self.table[name].record
        if (record.state, record.pid) != self._saved.get(name):
            self.save()
            self._tell()
        elif self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_S, self._tell)
        if name == SERVER:
            self._server_changed()

    def _tell(self) -> None:
        if self._telling:
            self._telling.cancel()
            self._telling = None
        for name in self._touched:
            self.broadcast.publish("process", process=view(self.table[name]))
        self._touched.clear()

    def _server_changed(self) -> None:
        """Start the clients that waited for the server, or send them home."""
        server = self.table.get(SERVER)
        held = [process for process in self.table.values() if process.record.state is State.HELD and process.record.waits_for == "server"]
        if not held or (server and server.record.state is State.STARTING):
            return
        for process in held:
            if server and server.record.state in (State.READY, State.RUNNING):
                self.start_again(process)
            else:
                process.become(State.STOPPED, wanted=False, reason="", cause="not started: the server did not become ready")

    def _spawn_task(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _insist(left: Mapping[str, str]) -> None:
    """A stop after which something is left, by name and why, is none."""
    if sentences := [f"{name} has not ended: {why}" for name, why in left.items() if why]:
        raise Refused("; ".join(sentences))
