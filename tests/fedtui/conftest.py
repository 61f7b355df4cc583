"""The command line as a user has it: a process of its own, in a project with a daemon that supervises actors."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fedtui.daemon.conftest import House, house, new_house

__all__ = ["house", "new_house"]

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Done:
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


class Fedtui:
    """`fedtui("ps", "--json")` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        settings = ("NO_COLOR", "ROUNDS", "DATA_DIR", "FRACTION_FIT", "FRACTION_EVAL", "MIN_AVAILABLE_CLIENTS", "IMAGE_SIZE")
        self.environment = {name: value for name, value in os.environ.items() if name not in settings}
        self.environment["PYTHONPATH"] = str(REPOSITORY)
        self.prefix: list[str] = []  # of the command line

    def start(self, *words: object, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "fedtui", *map(str, words)], cwd=self.folder, env=self.environment | environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )

    def __call__(self, *words: object, seconds: float = 60, **environment: str) -> Done:
        return self.end(self.start(*words, **environment), seconds)

    def end(self, process: subprocess.Popen[bytes], seconds: float = 60) -> Done:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"{process.args} does not end: {process.communicate()}") from None
        return Done(process.returncode, out.decode(), err.decode())


@pytest.fixture
def fedtui_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Path], Fedtui]:
    """`fedtui_in(folder)` is the command there; daemons keep their state in the test's own folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Fedtui


@pytest.fixture
def cli(house: House, fedtui_in: Callable[[Path], Fedtui]) -> Fedtui:
    """The command in a project with C1 and C2 and a running daemon."""
    return fedtui_in(house.root)


@pytest.fixture
def alone(tmp_path: Path, fedtui_in: Callable[[Path], Fedtui]) -> Iterator[Fedtui]:
    """The command in a project without a daemon; one that a command starts is ended."""
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "pyproject.toml").write_text('[tool.flwr.app]\npublisher = "test"\n')
    cli = fedtui_in(tmp_path / "alone")
    yield cli
    cli("down")
