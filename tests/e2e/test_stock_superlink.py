"""Our clients on Flower's own SuperLink, with TLS and keys that `fedtui keys` made."""
from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedtui import keys
from fedtui.project import Project
from tests.e2e.conftest import PROJECT, QUIET, TOY, Federation

FLOWER = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_run_submitted_to_a_stock_superlink_is_answered_by_our_client(federation: Federation, until: Callable[..., None], monkeypatch) -> None:
    if not (FLOWER / "flower-superlink").exists():
        pytest.skip("flower-superlink is not installed beside this Python")
    root, port = federation.root, free_port()
    monkeypatch.setenv("XDG_STATE_HOME", str(root / "state"))
    project = root / "project"
    shutil.copytree(PROJECT / "poweranger", project / "poweranger", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(PROJECT / name, project)
    folder = Project.find(project).keys
    keys.init(Project.find(project), [])
    (root / "flwr").mkdir()
    (root / "flwr" / "config.toml").write_text(f'[superlink.stock]\naddress = "127.0.0.1:{port}"\nroot-certificates = "{folder.ca}"\n')
    environment = os.environ | QUIET | {"FLWR_HOME": str(root / "flwr"), "PATH": f"{FLOWER}:/usr/bin:/bin", "PYTHONPATH": ""}
    with (root / "superlink.log").open("wb") as log:
        superlink = subprocess.Popen(
            [FLOWER / "flower-superlink", "--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation",
             "--ssl-certfile", folder.server, "--ssl-keyfile", folder.server_key, "--ssl-ca-certfile", folder.ca, "--enable-supernode-auth"],
            cwd=project, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0 or superlink.poll() is not None, what="the SuperLink listens")

        def flwr(*words: object) -> None:
            done = subprocess.run([FLOWER / "flwr", *map(str, words)], env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stdout + done.stderr

        flwr("supernode", "register", folder.clients / "C1.pub", "stock")
        federation.spawn("C1", TOY, "C1", f"127.0.0.1:{port}", "", folder.ca, folder.private("C1"))
        federation.see("C1", "connected to")
        flwr("run", project, "stock", "--run-config", "num-server-rounds=2 fraction-fit=1 fraction-evaluate=1")
        until(lambda: list(project.glob("results/runs/*/models/round_002.npz")), 120, "the end of round 2")
        federation.see("C1", "round 2: evaluated")
    finally:
        superlink.terminate()
        superlink.wait(30)
