"""Talks to the project's daemon over its Unix socket, and starts the daemon when it is needed."""
from __future__ import annotations

import fcntl
import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from fedtui.project import Project
from poweranger.errors import UserError

ANSWER_S = 10.0  # a daemon that is alive answers a question within milliseconds
START_S = 20.0


class DaemonError(UserError):
    """The daemon refused, with the sentence it gave, or it cannot be reached."""

    exit_code = 1


class NoDaemon(DaemonError):
    """Nobody listens on the daemon's socket."""


class DaemonClient:
    """The daemon of one project. A method is one request; see docs/api.md for what each answers.

    A request that finds no daemon starts one: it adopts what an earlier daemon left running. When a daemon that has
    answered before is gone and has left nothing running, it was ended on purpose, and is not started again. What the
    daemon refuses is raised as `DaemonError`; a wrong value or an unknown name as a plain `UserError`.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self._answered = False

    def running(self) -> dict[str, Any] | None:
        """What the daemon says of itself, or None when there is none. Starts nothing."""
        try:
            return self._once("GET", "/v1/info", None, ANSWER_S)
        except NoDaemon:
            return None

    def left_running(self) -> bool:
        """Whether a daemon that is gone has left something for the next one to adopt."""
        from fedtui.daemon import state

        records, same_boot = state.load(self.project.processes_file)
        return same_boot and any(record.state in (*state.LIVE, state.State.BACKOFF, state.State.HELD) for record in records)

    def ensure_daemon(self) -> dict[str, Any]:
        """What the daemon says of itself; it is started when there is none. Many at once start one.

        Raises
        ------
        DaemonError
            When it does not come up; with the last line it logged.
        """
        if info := self.running():
            return info
        with (self.project.state / "start.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self.running() or self._start()

    def info(self) -> dict[str, Any]:
        """The daemon's pid, version, paths."""
        return self._ask("GET", "/v1/info")

    def processes(self) -> list[dict[str, Any]]:
        """All processes: the server, the roster's clients, and what else was started."""
        return self._ask("GET", "/v1/processes")

    def up(self, **wishes: Any) -> dict[str, Any]:
        """Start server and clients; returns at once with `processes` and `notes`."""
        return self._ask("POST", "/v1/up", wishes)

    def down(self) -> dict[str, Any]:
        """Stop the clients, then the server; returns when all have ended."""
        return self._ask("POST", "/v1/down", {})

    def act(self, name: str, action: str, *, force: bool = False) -> dict[str, Any]:
        """`start`, `stop`, `restart` or `kill` one process."""
        return self._ask("POST", f"/v1/processes/{quote(name, safe='')}/{action}", {"force": force})

    def failure(self, name: str) -> dict[str, Any] | None:
        """The failure card of a process, or None when it has not failed."""
        try:
            return self._ask("GET", f"/v1/processes/{quote(name, safe='')}/failure")
        except UserError:
            return None

    def log(self, name: str, offset: int = 0, limit: int = 65536) -> dict[str, Any]:
        """A piece of a process's log by offset; a negative offset counts from the end."""
        return self._ask("GET", f"/v1/logs/{quote(name, safe='')}?{urlencode({'offset': offset, 'limit': limit})}")

    def memory(self) -> dict[str, Any]:
        """Memory of the machine and of each process, and what the memory guard does."""
        return self._ask("GET", "/v1/memory")

    def memory_history(self, limit: int = 100) -> list[dict[str, Any]]:
        """The memory guard's last decisions, oldest first."""
        return self._ask("GET", f"/v1/memory/history?limit={limit}")

    def progress(self) -> dict[str, Any]:
        """Where the newest run stands."""
        return self._ask("GET", "/v1/progress")

    def simulate(self, **wishes: Any) -> dict[str, Any]:
        """Start the process `simulation`."""
        return self._ask("POST", "/v1/simulate", wishes)

    def shutdown(self, *, stop: bool = False) -> dict[str, Any]:
        """End the daemon; it refuses while processes run unless they shall `stop`, too."""
        return self._ask("POST", "/v1/shutdown", {"stop": stop})

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        timeout = ANSWER_S if method == "GET" else None  # an action takes as long as processes take to end
        try:
            return self._once(method, path, body, timeout)
        except NoDaemon:
            if self._answered and not self.left_running():
                raise DaemonError("the daemon has been ended, and everything with it") from None
            self.ensure_daemon()
            return self._once(method, path, body, timeout)

    def _once(self, method: str, path: str, body: Mapping[str, Any] | None, timeout: float | None) -> Any:
        connection = _Connection(self.project.socket, timeout)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        except (FileNotFoundError, ConnectionRefusedError):
            raise NoDaemon(f"no daemon runs for {self.project.root}") from None
        except TimeoutError:
            raise DaemonError(f"the daemon does not answer within {timeout:g} s: {self._log} may say why") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            if method == "GET" and isinstance(error, ConnectionError):  # killed while it answered: another one can
                raise NoDaemon(f"the daemon of {self.project.root} has ended") from None
            raise DaemonError(f"the daemon broke off ({error}): ask again; {self._log} may say why") from None
        finally:
            connection.close()
        self._answered = True
        if response.status < 400:
            return answer
        sentence = str(answer.get("error", f"the daemon answered {response.status}"))
        raise (UserError if response.status in (400, 404, 422) else DaemonError)(sentence)

    def _start(self) -> dict[str, Any]:
        """Start a daemon that outlives this command and its terminal, and wait until it answers."""
        command = [self.project.python(), "-m", "fedtui.daemon", "--project", str(self.project.root)]
        with os.fdopen(os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            process = subprocess.Popen(
                command, cwd=self.project.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + START_S
        while not (info := self.running()):
            if process.poll() is not None or time.monotonic() > end:
                raise DaemonError(f"the daemon did not start: {self._last_words()} (more in {self._log})")
            time.sleep(0.02)
        return info

    @property
    def _log(self) -> Path:
        return self.project.state / "daemon.log"

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace")[-4000:].split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket. The standard library's client: importing httpx would take longer than most commands do."""

    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("daemon", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket file."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))
