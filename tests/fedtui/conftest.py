"""The command line as a user has it: a process of its own, in a project with a daemon that supervises actors."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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

    def start(self, *words: object, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "fedtui", *map(str, words)], cwd=self.folder, env=self.environment | environment,
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
