"""The daemon's side of the client host (`poweranger/client/host.py`, which says what is spoken): starts it and asks it for clients."""
from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import poweranger
from fedtui.cleaning import clean
from fedtui.daemon import proc
from fedtui.daemon.measure import Usage
from fedtui.daemon.oom import client_score

START_S = 120.0  # for the import: from a slow disk it takes long
FORK_S = 20.0
AGAIN_S, LONGEST_S = 60.0, 3600.0  # after a failure, clients are processes of their own for so long; twice as long after each further one
IDLE_S = 60.0  # without a client of its own a host only costs memory
ROOM = 4096  # bytes for what a client's command line and environment have more than the host's own


class HostFailed(Exception):
    """No client can be forked: the reason in words."""


class ClientHost:
    """The one host of a daemon, started when it is first needed.

    Parameters
    ----------
    command : starts the host.
    log : file that its output goes to.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> None:
        room = " " * ROOM
        self._command, self._environment = [*command, room], {**environment, "FEDTUI_ROOM": room}
        self._folder, self._log = folder, log
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._starting: asyncio.Task[None] | None = None
        self._failed: tuple[float, str] | None = None  # until when none is started, and why
        self._pause = 0.0  # the last one after a failure; 0 once a client has been forked
        self._ended: list[int] = []  # clients to be reaped
        self._code = 0  # state of the code that it has loaded
        self._turn = asyncio.Lock()  # one request at a time: the socket holds only ten, and sending must not wait
        self._needed = time.monotonic()
        self.usage = Usage()

    @property
    def alive(self) -> bool:
        """Whether there is one, if only to load."""
        return self._process is not None

    @property
    def failure(self) -> str:
        """Why none is started just now; "" when one can be."""
        return self._failed[1] if self._failed and time.monotonic() < self._failed[0] else ""

    def known(self) -> list[proc.Stat]:
        """Its present stats; none of its clients', which are processes of their own."""
        stat = proc.read_stat(self._process.pid) if self._process else None
        return [stat] if stat else []

    @property
    def pid(self) -> int | None:
        """Its pid while it is there to fork."""
        return self._process.pid if self._process and self._control else None

    @contextlib.asynccontextmanager
    async def fork(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: int) -> AsyncIterator[int]:
        """A client, as its pid, that begins when the context ends well; else, also by the daemon's death, it never does.

        Raises
        ------
        HostFailed
            When there is no host, or it cannot fork this client.
        """
        async with self._turn:
            await self._ready()
            channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with channel:
                channel.setblocking(False)
                with theirs:
                    self._send({"fork": {"command": command, "environment": environment, "folder": str(folder), "oom_score": client_score()}}, log, theirs.fileno())
                try:
                    answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(channel, 4096), FORK_S)
                except TimeoutError:
                    raise HostFailed(self._fail(f"it did not fork within {FORK_S:g} s")) from None
                if not answer:
                    raise HostFailed(self._fail())
                told = json.loads(answer)
                if "error" in told:
                    raise HostFailed(told["error"])
                self._pause = 0.0
                yield told["pid"]
                with contextlib.suppress(BrokenPipeError):  # killed already: whoever watches it sees that
                    channel.send(b"go")

    def prepare(self) -> None:
        """Start it, if need be, so that the first client need not wait for it."""
        self._needed = time.monotonic()
        if not (self._control or self._starting or self.failure):
            self._starting = asyncio.get_running_loop().create_task(self._begin())

    def reap(self, pid: int) -> None:
        """Let go of a client that has ended, once its exit status has been read."""
        self._ended.append(pid)
        self._reap()

    def tend(self, needed: bool) -> None:
        """Called every few seconds with whether it has clients: a host without any ends after a while."""
        self._reap()
        if needed or self._turn.locked():
            self._needed = time.monotonic()
        elif time.monotonic() - self._needed > IDLE_S:
            self.close()

    def close(self) -> None:
        """End it; its clients live on."""
        if self._starting:
            self._starting.cancel()
        if self._control:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._starting = self._control = self._process = None
        self.usage = Usage()
        self._ended.clear()

    async def _ready(self) -> None:
        """Return when there is one that can fork, and that has loaded what a process of its own would load now."""
        if self._control and self._code != _newest_code():
            self.close()
        self.prepare()
        if self._starting:
            await asyncio.shield(self._starting)  # others may wait for it, too
        if not self._control:
            raise HostFailed(self._failed[1] if self._failed else "the daemon ends")

    async def _begin(self) -> None:
        """Start it and wait until it is ready, or note why not."""
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        self._code = _newest_code()
        try:
            with theirs:
                self._execute(theirs)
            loop = asyncio.get_running_loop()
            if await asyncio.wait_for(loop.sock_recv(control, 16), START_S) == b"ready":
                self._control = control
                loop.add_reader(control, self.close)  # it has no more to say but its end
            else:
                self._fail()
        except TimeoutError:
            self._fail(f"it was not ready within {START_S:g} s")
        except OSError as error:
            self._fail(f"{error.strerror}: {error.filename}")
        finally:
            self._starting = None
            if not self._control:
                control.close()

    def _execute(self, control: socket.socket) -> None:
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = subprocess.Popen(  # not as exposed as its forks: they share its memory, so its end would free none
                self._command, env=self._environment, cwd=self._folder, stdin=control.fileno(), stdout=descriptor, stderr=descriptor,
                start_new_session=True, umask=0o077,
            )
            self.usage = Usage()
        finally:
            os.close(descriptor)

    def _send(self, request: Mapping[str, object], *descriptors: int) -> None:
        assert self._control
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
        except OSError as error:
            raise HostFailed(f"{error.strerror} when asking the client host") from None

    def _reap(self) -> None:
        if self._control and self._ended:
            with contextlib.suppress(HostFailed):  # it is busy: next time
                self._send({"reap": self._ended})
                self._ended.clear()

    def _fail(self, reason: str = "") -> str:
        """It is of no use: end it, and for a while do without. The reason is its last line when none is given."""
        with contextlib.suppress(OSError):
            lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
            reason = reason or (clean(lines[-1], 200) if lines else "")
        self._pause = min(2 * self._pause, LONGEST_S) or AGAIN_S
        self._failed = time.monotonic() + self._pause, reason or "it ended without a word"
        self._starting = None
        self.close()
        return self._failed[1]


def _newest_code() -> int:
    """The newest change of the app's modules, and of which packages are installed beside it."""
    folders = [Path(folder) for folder in poweranger.__path__]
    paths = [path for folder in folders for path in folder.rglob("*.py")] + [Path(sysconfig.get_path("purelib"))]
    changes = [0]
    for path in paths:
        with contextlib.suppress(OSError):  # gone while we look
            changes.append(path.stat().st_mtime_ns)
    return max(changes)
