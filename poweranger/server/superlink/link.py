"""SuperLink state and public listener in this process."""
from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import logging
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from flwr.app import Context, RecordDict
from flwr.cli.config_utils import get_fab_metadata
from flwr.common.constant import NOOP_FLWR_AID, SUPERLINK_NODE_ID, SubStatus
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager

from poweranger.errors import PortInUse, UserError
from poweranger.server.superlink.fleet import GRACE, HOLD, FleetApp
from poweranger.server.superlink.grid import LocalGrid, News
from poweranger.server.superlink.keys import check_certificate
from poweranger.server.superlink.listed import ListedKeys
from poweranger.server.superlink.store import Store
from poweranger.server.superlink.tls import handler, report_failures


class Link:
    """The Fleet API on a port, while the context lasts; several runs may follow one another.

    Parameters
    ----------
    host, port : where to listen; port 0 takes a free one, which `port` then tells.
    certfile, keyfile : PEM files; with them the port speaks TLS.
    client_keys : folder of public keys, `<client name>.pub` or `.pem`; then only these clients may join. A key that is
        added counts at once; a client whose key is taken away is out at once.
    log : gets a line when a client is refused or its connection is lost.
    hold, grace : seconds; see `fleet`.

    Raises
    ------
    UserError
        For an unusable file (named), client keys without TLS, or an address that is not this machine's.
    PortInUse
        On entering, when somebody else listens on the port.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        certfile: Path | None = None,
        keyfile: Path | None = None,
        client_keys: Path | None = None,
        log: Callable[[str], None] = print,
        hold: float = HOLD,
        grace: float = GRACE,
    ) -> None:
        if (certfile is None) != (keyfile is None):
            raise UserError("TLS needs both files: give --certfile and --keyfile")
        if certfile and keyfile:
            check_certificate(certfile, keyfile)
        elif client_keys:
            raise UserError("client keys without TLS protect nothing: give --certfile and --keyfile, or leave out --client-keys")
        self.host, self.port = host, port
        self._store = Store()
        self.state = InMemoryLinkState(NoOpFederationManager(), self._store)
        listed = ListedKeys(client_keys, self.state, log) if client_keys else None
        self._news = News()
        self._app = FleetApp(self.state, listed=listed, news=self._news.ring, log=log, hold=hold, grace=grace)
        config = uvicorn.Config(
            self._app, ssl_certfile=certfile, ssl_keyfile=keyfile, lifespan="off", ws="none", log_config=None, access_log=False,
            server_header=False, proxy_headers=False, timeout_keep_alive=75, timeout_graceful_shutdown=1,
            ssl_context_factory=(lambda _, usual: report_failures(usual())) if certfile else None,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # TLS connections of waiting clients outlast its shutdown: no news
        self._server = _Server(config, self._app)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Link:
        listening = _listen(self.host, self.port)
        self.port = listening.getsockname()[1]
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, name="fleet", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._app.close()
        self._server.should_exit = True
        if self._thread:
            self._thread.join(4)

    @contextlib.contextmanager
    def run(self, run_config: dict[str, Any] | None = None, fab: Fab | None = None) -> Iterator[tuple[LocalGrid, Context]]:
        """Open a run; leaving ends it, and its messages and objects are deleted.

        Parameters
        ----------
        run_config : given to the ServerApp's context, and to stock nodes over their bundle's configuration.
        fab : the app for stock SuperNodes; without it they cannot answer.
        """
        state, config = self.state, dict(run_config or {})
        name, version, digest = "local/app", "0", None
        if fab:
            digest = state.store_fab(fab)
            name, version = get_fab_metadata(fab.content)
        run_id = state.create_run(
            name, version, digest, config, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        (run,) = state.get_run_info(run_ids=[run_id])
        task_id = run.primary_task_id
        if task_id is None or not state.claim_task(task_id) or not state.activate_task(task_id):
            raise RuntimeError("Flower's state did not start the run")
        # The run is this process: no heartbeats, and a suspended machine does not fail it.
        state.task_token_store[task_id].active_until = datetime.datetime.max.replace(tzinfo=datetime.UTC)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = task_id, run_id, SUPERLINK_NODE_ID
        result = SubStatus.FAILED
        try:
            grid = LocalGrid(state, self._store, run, self._app.wake, self._news, self._app.peers)
            yield grid, Context(run_id=run_id, node_id=SUPERLINK_NODE_ID, node_config={}, state=RecordDict(), run_config=config)
            result = SubStatus.COMPLETED
        finally:
            state.finish_task(task_id, result, "")
            state.cleanup_run(run_id)


class _Server(uvicorn.Server):
    """Says whose TLS failed, and why."""

    def __init__(self, config: uvicorn.Config, app: FleetApp) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(handler(self._app.say_refusal))
        await super().startup(sockets)


def _listen(host: str, port: int) -> socket.socket:
    """A bound and listening socket: who comes early waits in its queue."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (socket.gaierror, UnicodeError, OverflowError):
        raise UserError(f"cannot listen on {host}:{port}: no such address") from None
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"port {port} is in use{_holder(port)}: stop that, or choose another port with --port") from None
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listening


def _holder(port: int) -> str:
    """Who listens on a port, in words; empty when it cannot be known (another user's process)."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by process {connection.pid} ({shlex.join(psutil.Process(connection.pid).cmdline())[:200]})"
    except (psutil.Error, OSError):
        pass
    return ""
