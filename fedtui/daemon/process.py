"""One supervised process: started or adopted, watched, told to end, its log rotated."""
from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from fedtui.daemon import proc
from fedtui.daemon.commands import MARK
from fedtui.daemon.host import ClientHost, HostFailed
from fedtui.daemon.logfile import LogFile
from fedtui.daemon.measure import Usage
from fedtui.daemon.oom import exposed
from fedtui.daemon.placement import PROCESS
from fedtui.daemon.proc import Ident, Stat
from fedtui.daemon.state import LIVE, Record, State

LAST_LINES = 20
HOLD_S = 1.0  # a process that is just writing to a slow disk stops only then


Refusal = Callable[["Process"], str]  # why it is not to be started now, or ""


class Process:
    """A process and what is remembered of it.

    Parameters
    ----------
    mark : value of the environment variable by which all its descendants are known.
    changed : called after every change of state or status.
    ended : called when it has ended by itself, with what it left running ended, too; the state still stands at the
        last one of its life.
    """

    def __init__(self, record: Record, log: Path, mark: str, changed: Callable[[], None], ended: Callable[[Process], None]) -> None:
        self.record, self.mark = record, mark
        self.log = LogFile(log, record)
        self.usage = Usage()
        self.lock = asyncio.Lock()  # held by whoever starts or stops it
        self.ran_s = 0.0  # how long it lived last time
        self._changed, self._ended = changed, ended
        self._known: set[Ident] = set()
        self._left: set[Ident] = set()  # what its last stop could not end
        self._child: subprocess.Popen[bytes] | None = None
        self._birth: asyncio.Task[None] | None = None
        self._host: ClientHost | None = None  # whose fork it is
        self._watch: proc.Watch | None = None
        self._over = asyncio.Event()
        self._adopted = False

    @property
    def live(self) -> bool:
        """Whether the process exists."""
        return self.record.state in LIVE

    @property
    def uptime_s(self) -> float | None:
        """Seconds since its start, whatever happened to the clock."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.record.start / proc.TICKS if self.live and self.record.pid else None

    @property
    def left(self) -> str:
        """Why its stop is not done: what of it the kernel does not let end; "" when nothing is left."""
        pids = ", ".join(str(ident.pid) for ident in self._left if proc.identify(ident.pid) == ident)
        return f"the kernel does not let pid {pids} end (waiting for a disk or device)" if pids else ""

    def become(self, state: State, **values: object) -> None:
        """Change state and other fields of the record, and tell."""
        self.record.state = state
        for name, value in values.items():
            setattr(self.record, name, value)
        self._changed()

    def spawn(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, host: ClientHost | None = None, refusal: Refusal | None = None,
    ) -> None:
        """Start it in a session of its own: no terminal, no descriptor of ours, its output straight into its log.

        With `host` it is forked from that, soon (`born` waits for it), or executed like any other when that fails: unless
        `refusal` finds no room for the larger process.
        """
        self.usage = Usage()  # the last life's would count as its own while it waits for the host
        self.become(
            State.STARTING, status="", reason="", cause="", exit_code=None, signal=0, last_lines=[], wanted=True, pid=0, start=0,
            started=time.time(), waits_for="",
        )
        if host:
            self._birth = asyncio.get_running_loop().create_task(self._fork(host, command, environment, folder, refusal))
        else:
            self._execute(command, environment, folder)

    async def born(self) -> None:
        """Return when a start that goes through the client host is done."""
        if self._birth:
            await asyncio.wait([self._birth])

    async def abandon(self) -> None:
        """Give up a start that still waits for the client host."""
        if birth := self._birth:
            birth.cancel()  # others may have done so, and not have come to what follows
            await asyncio.wait([birth])
            if self._birth is birth and self.record.state is State.STARTING and not self.record.pid:
                self.become(State.STOPPED, wanted=False)

    async def _fork(self, host: ClientHost, command: Sequence[str], environment: Mapping[str, str], folder: Path, refusal: Refusal | None) -> None:
        async with self.lock:
            try:
                log = self.log.open_for_writing()
                try:
                    async with host.fork(command, environment, folder, log) as pid:
                        self._host = host
                        self._begin(pid)  # and so saved before it does anything
                finally:
                    os.close(log)
            except (HostFailed, OSError) as error:
                self.record.via, self.record.via_reason = PROCESS, f"the client host failed: {error}"
                if refusal and (reason := refusal(self)):
                    self.become(State.HELD, reason=reason, waits_for="memory")
                else:
                    self._execute(command, environment, folder)

    def _execute(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        try:
            log = self.log.open_for_writing()
            try:
                with exposed() if self.record.role == "client" else contextlib.nullcontext():
                    self._child = subprocess.Popen(
                        command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        start_new_session=True, umask=0o077,
                    )
            finally:
                os.close(log)
        except (OSError, ValueError) as error:  # the latter for a NUL in a value
            why = f"{error.strerror}: {error.filename or command[0]}" if isinstance(error, OSError) else str(error)
            self.become(State.FAILED, wanted=False, cause=f"it could not be started: {why}")
            return
        self._begin(self._child.pid)

    def _begin(self, pid: int) -> None:
        """It has a pid: watch it."""
        self._adopted, self.usage = False, Usage()
        ident = proc.identify(pid)
        if ident and self._observe(ident):
            self.become(State.STARTING, pid=ident.pid, start=ident.start)
        else:  # ended already: a zombie until it is waited for
            self._finish(self._child.wait() if self._child else None)

    def adopt(self) -> None:
        """Watch on the process that an earlier daemon started, or take note that it has ended."""
        if not self._observe(Ident(self.record.pid, self.record.start)):
            self._finish(None)
            return
        self._adopted = True
        if self.log.recover():
            for ident in self.members():  # that daemon died while it held them
                proc.send(ident, signal.SIGCONT)

    def receive(self, fields: Mapping[str, str]) -> None:
        """What the process says of itself (sd_notify)."""
        state = self.record.state
        if state not in (State.STARTING, State.READY, State.RUNNING):
            return
        if fields.get("READY") == "1" and state is State.STARTING:
            state = State.READY
        elif "STATUS" in fields and (state is not State.STARTING or self._adopted):  # its READY=1 may have found no daemon
            state = State.RUNNING
        self.become(state, status=fields.get("STATUS", self.record.status))

    def belongs(self, pid: int) -> bool:
        """Whether `pid` is this process or one of its descendants."""
        for _ in range(64):
            if pid == self.record.pid:
                return self.live
            stat = proc.read_stat(pid)
            if stat is None or pid <= 1:
                return False
            if stat.ident in self._known:
                return True
            pid = stat.parent
        return False

    def tree(self, stats: dict[int, Stat]) -> set[Ident]:
        """The process and its descendants among `stats`, remembered from call to call."""
        roots = [Ident(self.record.pid, self.record.start)] if self.live else []
        self._known = proc.family(stats, [*roots, *self._known])
        return self._known

    def known(self) -> list[Stat]:
        """The present stats of what was its tree when that was last looked through: cheap."""
        stats = (proc.read_stat(ident.pid) for ident in self._known)
        return [stat for stat in stats if stat and stat.ident in self._known]

    def members(self) -> set[Ident]:
        """All there is of it now, also what has left its tree for a session and a parent of its own."""
        stats = proc.every()
        self._known |= {ident for ident, mark in proc.marks(stats, MARK) if mark == self.mark}
        return self.tree(stats)

    async def stop(self, grace: float) -> str:
        """End the living process, or what is left of it, and all its descendants: SIGTERM, after `grace` seconds SIGKILL. Returns `left`."""
        over = self._over
        if self.live:
            self.become(State.STOPPING, wanted=False)
        killed, self._left = await self.sweep(grace)
        if left := self.left:
            self.become(self.record.state)  # tell: `view` shows it
            return left
        await over.wait()
        if killed and grace:
            self.become(self.record.state, cause=f"did not end within {grace:g} s of SIGTERM and was killed")
        return ""

    async def finish(self) -> None:
        """Ask the living process to end once it has sent what it works on, however long that takes."""
        over = self._over
        self.become(State.STOPPING, wanted=False)
        proc.send(Ident(self.record.pid, self.record.start), signal.SIGUSR1)
        await over.wait()

    async def sweep(self, grace: float) -> tuple[set[Ident], set[Ident]]:
        """End all there is of it, also what a dead one has left behind; returns what `proc.end` does."""
        return await proc.end(self.members, grace)

    def forget(self) -> None:
        """Watch no longer: the daemon ends, the process lives on."""
        if self._watch:
            self._watch.close()

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[bool]:
        """Hold the process and its descendants still; yields False when they could not be. Nobody starts or stops it meanwhile."""
        async with self.lock:
            stopped = [ident for ident in self.members() if not _still(ident.pid)]
            try:
                for ident in stopped:
                    proc.send(ident, signal.SIGSTOP)
                deadline = time.monotonic() + HOLD_S
                while not (still := all(_still(ident.pid) for ident in stopped)) and time.monotonic() < deadline:
                    await asyncio.sleep(0.002)
                yield still
            finally:
                for ident in stopped:
                    proc.send(ident, signal.SIGCONT)

    def _observe(self, ident: Ident) -> bool:
        """Learn of its end when it comes; False when it has come."""
        self._over = asyncio.Event()  # whoever waits for an earlier one's end does not wait for this one's
        self._known = {ident}
        try:
            self._watch = proc.Watch(ident, self._gone)
        except ProcessLookupError:
            return False
        return True

    def _gone(self) -> None:
        """Its end: reap it at once."""
        assert self._watch
        if self._child and self._child.pid == self._watch.ident.pid:
            code: int | None = self._child.wait()
        else:
            status = self._watch.wait_status()
            code = None if status is None else os.waitstatus_to_exitcode(status)
            if self._host:
                self._host.reap(self._watch.ident.pid)
        self._watch.close()
        self._finish(code)

    def _finish(self, code: int | None) -> None:
        """Record how it ended; `code` as `Popen.returncode` has it, None when nobody knows."""
        self._child = self._watch = self._host = None
        record = self.record
        self.ran_s = self.uptime_s or 0.0
        record.ended = time.time()
        record.signal = -code if code is not None and code < 0 else 0
        record.exit_code = None if code is None else code if code >= 0 else 128 - code
        record.last_lines = self.log.last_lines(LAST_LINES)
        self._over.set()
        if record.state is State.STOPPING:
            if record.waits_for:
                self.become(State.HELD, pid=0)
            else:
                self.become(State.STOPPED, pid=0, reason="")
        else:
            self._ended(self)


def _still(pid: int) -> bool:
    """Whether every thread of the process is stopped, or it has none any more."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    for thread in threads:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/task/{thread}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"T", b"t", b"Z", b"X"):
                return False
    return True
