"""The daemon as a function: lock first, then the socket, then the processes."""
from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from fedtui.daemon import api
from fedtui.daemon.commands import Commands
from fedtui.daemon.events import Broadcast
from fedtui.daemon.keeper import Keeper
from fedtui.daemon.notes import log
from fedtui.daemon.notify import NotifySocket
from fedtui.daemon.supervisor import Supervisor
from fedtui.daemon.view import iso
from fedtui.project import Project
from fedtui.version import version
from poweranger.errors import UserError
from poweranger.notify import notify

LOCK_S = 10.0  # another daemon that is just ending lets go of the lock within this time


class AlreadyRuns(UserError):
    """There is a daemon for this project."""

    exit_code = 0


def run(project: Project, commands: Commands | None = None) -> None:
    """Be the project's daemon until told to end, or not needed any more. Processes live on, and the next one adopts them.

    SIGTERM and SIGINT end it, SIGHUP does not. `commands` says what to start; the real programs without it.

    Raises
    ------
    AlreadyRuns
        When there is one: of many started at once, one stays.
    UserError
        When the state folder cannot be used.
    """
    with _locked(project):
        asyncio.run(_serve(project, commands or Commands(project)))


async def _serve(project: Project, commands: Commands) -> None:
    broadcast = Broadcast()
    supervisor = Supervisor(project, commands, broadcast)
    started = iso(time.time())

    def end() -> None:
        server.should_exit = True
        broadcast.close()

    def info() -> dict[str, Any]:
        return {
            "daemon_pid": os.getpid(), "version": version(), "project": str(project.root), "state_dir": str(project.state),
            "socket": str(project.socket), "logs": str(project.logs), "started": started, "idle_exit_s": supervisor.last_roster.idle_exit_s,
            "attached": broadcast.attached, "client_host_pid": supervisor.host.pid, "notes": supervisor.notes.open,
        }

    keeper = Keeper(supervisor, end)
    app = api.build(supervisor, keeper, info, end)
    app.state.log = project.state / "daemon.log"
    config = uvicorn.Config(
        app, http=_OwnUserOnly, ws="none", loop="asyncio", lifespan="off", access_log=False, log_config=None,
        server_header=False, timeout_graceful_shutdown=1,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)  # a handler rather than SIG_IGN, which processes would inherit
    notifications = NotifySocket(project.notify_socket, supervisor.receive)
    listener = _listen(project)
    try:
        supervisor.begin()
        work = loop.create_task(keeper.run())
        notify(READY=1)
        log(f"daemon {os.getpid()} for {project.root}")
        await server.serve(sockets=[listener])
        work.cancel()
    finally:
        supervisor.end()
        notifications.close()
        project.socket.unlink(missing_ok=True)
    log(f"daemon {os.getpid()} ends")


class _Server(uvicorn.Server):
    """Leaves signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _OwnUserOnly(H11Protocol):
    """Talks only to this user's processes, besides the socket's mode 0600."""

    _foreign = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Turn another user away."""
        super().connection_made(transport)
        credentials = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iii"))
        if struct.unpack("iii", credentials)[1] != os.getuid():
            self._foreign = True
            text = b'{"error": "this daemon belongs to another user"}'
            transport.write(b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Nothing another user sends is looked at."""
        if not self._foreign:
            super().data_received(data)


@contextlib.contextmanager
def _locked(project: Project) -> Iterator[None]:
    """Hold the project's lock; it goes with the process, however that ends."""
    descriptor = os.open(project.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if _answers(project):
                    raise AlreadyRuns(f"a daemon runs already for {project.root}") from None
                if time.monotonic() > deadline:
                    raise UserError(f"another process holds {project.lock} without answering: end it, then start the daemon again") from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def _answers(project: Project) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return connection.connect_ex(os.fspath(project.socket)) == 0


def _listen(project: Project) -> socket.socket:
    """The socket, 0600 from the first moment; one that a killed daemon left is replaced: we hold the lock."""
    project.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o177)
    try:
        listener.bind(os.fspath(project.socket))
    finally:
        os.umask(previous)
    return listener
