"""Real servers and clients as processes."""
from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from poweranger.results import list_runs, read_info

PROJECT = Path(__file__).resolve().parents[2]
TOY = Path(__file__).with_name("toy_client.py")
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
SETTINGS = ("FLOWER_HOST", "FLOWER_PORT", "DATA_DIR", "ROUNDS", "FRACTION_FIT", "FRACTION_EVAL", "IMAGE_SIZE", "NOTIFY_SOCKET")


class Federation:
    """Starts server and clients in a folder of their own, and ends what is left."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, 0
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def prefix(self, name: str) -> list[str]:
        """What a process's command begins with."""
        return []

    def spawn(self, name: str, *argv: object, **environment: str) -> subprocess.Popen[bytes]:
        env = {k: v for k, v in os.environ.items() if k not in SETTINGS} | QUIET | {"PYTHONPATH": str(PROJECT)} | environment
        with (self.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([*self.prefix(name), sys.executable, *map(str, argv)], cwd=self.root, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes[name] = process
        return process

    def server(self, config: str, *more: object, port: int = 0, **environment: str) -> subprocess.Popen[bytes]:
        (self.root / "server.log").unlink(missing_ok=True)
        return self.spawn("server", "-m", "poweranger.server.server_app", "--port", port, "--run-config", config, *more, **environment)

    def address(self) -> str:
        """Where the server listens, once it says so."""
        self.see("server", r"listening on \S+:(\d+)")
        match = re.search(r"listening on (\S+):(\d+)", self.log("server"))
        assert match
        self.port = int(match[2])
        return f"127.0.0.1:{self.port}"

    def toy(self, name: str, behaviour: str = "", **environment: str) -> subprocess.Popen[bytes]:
        return self.spawn(name, TOY, name, self.address(), behaviour, **environment)

    def client(self, name: str, *more: object, **environment: str) -> subprocess.Popen[bytes]:
        return self.spawn(name, "-m", "poweranger.client.standalone_client", "--client-id", name, "--server-address", self.address(), *more, **environment)

    def log(self, name: str) -> str:
        path = self.root / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def see(self, name: str, pattern: str, seconds: float = 90) -> None:
        """Wait for a line in a process's log."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.log(name)):
            process = self.processes[name]
            assert process.poll() is None or re.search(pattern, self.log(name)), f"{name} ended with {process.returncode}:\n{self.log(name)}"
            assert time.monotonic() < end, f"{name} never said {pattern!r}:\n{self.log(name)}"
            time.sleep(0.02)

    def finish(self, seconds: float = 120) -> int:
        """The server's exit code."""
        try:
            return self.processes["server"].wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail("the server does not end:\n" + self.log("server"))

    @property
    def run(self) -> Path:
        """The newest run's folder."""
        return list_runs(self.root / "results")[0]

    @property
    def info(self) -> dict[str, Any]:
        return read_info(self.run)

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
        for process in self.processes.values():
            process.wait()


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    made = Federation(tmp_path)
    yield made
    made.close()


@pytest.fixture
def rows() -> Callable[[Path], list[dict[str, str]]]:
    """Reads a CSV as a user's script would."""
    import csv

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    return read
