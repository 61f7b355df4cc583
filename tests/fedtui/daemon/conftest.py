"""A project of its own for each test, with the real daemon in a process of its own and actors for it to supervise."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fedtui.daemon import proc
from fedtui.daemon.commands import MARK
from fedtui.project import Project

REPOSITORY = Path(__file__).resolve().parents[3]
DAEMON = Path(__file__).with_name("daemon_under_test.py")


class House:
    """A project and its daemon, as a user has them."""

    def __init__(self, root: Path, until: Callable[..., None], roster: str) -> None:
        root.mkdir(parents=True)
        self.root, self.until = root, until
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (root / "pyproject.toml").write_text(
            f'[tool.flwr.app]\npublisher = "test"\n[tool.fedtui]\nserver-address = "127.0.0.1:{self.port}"\n{roster}'
        )
        self.cast()
        self.project = Project.find(root)
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.prefix: list[str] = []  # of the daemon's command line

    def cast(self, **parts: str) -> None:
        """Who plays which part from the next start on."""
        (self.root / "parts.json").write_text(json.dumps(parts))

    def launch(self) -> subprocess.Popen[bytes]:
        """Start a daemon without waiting for it."""
        with (self.root / "daemon.log").open("ab") as log:
            self.daemons.append(subprocess.Popen(
                [*self.prefix, sys.executable, str(DAEMON), str(self.root)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])},
            ))
        return self.daemons[-1]

    def open(self) -> subprocess.Popen[bytes]:
        """Start a daemon and wait until it answers."""
        daemon = self.launch()
        self.until(lambda: self.answers() or daemon.poll() is not None, 20, "the daemon's answer")
        assert daemon.poll() is None, self.log()
        return daemon

    def log(self) -> str:
        path = self.root / "daemon.log"
        return path.read_text() if path.exists() else ""

    def answers(self) -> bool:
        try:
            return self.get("/v1/info")["daemon_pid"] > 0
        except httpx.TransportError:
            return False

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.HTTPTransport(uds=str(self.project.socket), verify=False)  # loading certificates takes 20 ms
        with httpx.Client(transport=transport, base_url="http://daemon", timeout=30) as client:
            return client.request(method, path, **options)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **body: Any) -> Any:
        answer = self.ask("POST", path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, status: int, **body: Any) -> str:
        """The sentence with which a request is refused."""
        answer = self.ask("POST", path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()["error"]

    def ps(self) -> dict[str, dict[str, Any]]:
        return {process["name"]: process for process in self.get("/v1/processes")}

    def reach(self, state: str, *names: str, seconds: float = 20) -> dict[str, dict[str, Any]]:
        """Wait until these processes are in that state, and return all."""
        self.until(lambda: all(self.ps()[name]["state"] == state for name in names), seconds, f"{state} of {', '.join(names)}")
        return self.ps()

    def alive(self) -> set[int]:
        """Every process that has come from this project's daemon, wherever it has gone."""
        own = f"{MARK}={self.project.state}/".encode()
        found = set()
        for pid in proc.every():
            with contextlib.suppress(OSError):
                if any(word.startswith(own) for word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")):
                    found.add(pid)
        return found

    def close(self) -> None:
        """End the daemon and all that came from it."""
        for daemon in self.daemons:
            daemon.kill()
            daemon.wait()
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def new_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]) -> Iterator[Callable[..., House]]:
    """`new_house(roster_lines, name=...)` makes a project; its daemon is not started."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    home = tempfile.mkdtemp(prefix="fedtui-")  # short: sockets go there when their path in tmp_path is too long
    monkeypatch.setenv("HOME", home)
    houses: list[House] = []

    def make(roster: str = "", name: str = "project") -> House:
        houses.append(House(tmp_path / name, until, "stop-grace = 1\n" + roster))
        return houses[-1]

    yield make
    for house in houses:
        house.close()
    shutil.rmtree(home)


@pytest.fixture
def house(new_house: Callable[..., House]) -> House:
    """A project with the clients C1 and C2, and its running daemon."""
    house = new_house("[tool.fedtui.clients.C1]\n[tool.fedtui.clients.C2]\n")
    house.open()
    return house
