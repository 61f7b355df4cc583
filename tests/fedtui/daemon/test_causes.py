"""From facts to a sentence, and other plain functions."""
from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from fedtui.daemon import port, proc
from fedtui.daemon.causes import Facts, explain
from fedtui.daemon.commands import Commands, RunWish, environment
from fedtui.daemon.restarts import next_pause
from fedtui.project import Project
from fedtui.roster import Client, Roster

TRACEBACK = ["Traceback (most recent call last):", '  File "x.py", line 1, in f', "    g()", "ValueError: odd", "some later line"]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (Facts(None, signal.SIGKILL, oom_kill=True, rss_mb=812.4), "ran out of memory (it used 812 MB)"),
        (Facts(None, signal.SIGKILL), "ended from outside by SIGKILL"),
        (Facts(None, signal.SIGSEGV), "crashed with SIGSEGV"),
        (Facts(1, lines=["E0 CUDA_ERROR_OUT_OF_MEMORY: out of memory", *TRACEBACK]), "GPU ran out of memory"),
        (Facts(4, lines=["OSError: [Errno 98] Address already in use"]), "in use by pid 7 (nginx)"),
        (Facts(1, lines=["Traceback (most recent call last):", "ModuleNotFoundError: No module named 'keras'"]), "module keras is missing"),
        (Facts(2, lines=["noise", "client: batch-size = 0 is not allowed"]), "wrong configuration: batch-size = 0 is not allowed"),
        (Facts(3, lines=["server: only 1 of 3 clients came within 60 s"]), "only 1 of 3 clients came within 60 s"),
        (Facts(1, lines=["OSError: [Errno 28] No space left on device"]), "disk is full"),
        (Facts(1, lines=["MemoryError"]), "no more memory"),
        (Facts(1, lines=TRACEBACK), "ValueError: odd"),
        (Facts(9, lines=["last words"]), "exit code 9: last words"),
        (Facts(9), "exit code 9 and said nothing"),
        (Facts(None), "while no daemon watched"),
    ],
)
def test_causes(facts: Facts, words: str) -> None:
    assert words in explain(facts, lambda: "pid 7 (nginx)")


def test_pauses_double_up_to_a_minute_and_begin_anew_after_a_good_run() -> None:
    pauses, last = [], 0.0
    for _ in range(8):
        last = next_pause(last, ran_s=3)
        pauses.append(last)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert next_pause(60, ran_s=61) == 1


def test_a_process_is_signalled_only_by_pid_and_start_time() -> None:
    own = proc.identify(os.getpid())
    assert own
    assert proc.send(own, 0)
    assert not proc.send(proc.Ident(own.pid, own.start + 1), 0)


@pytest.mark.parametrize(("bound", "asked", "held"), [
    ("127.0.0.1", "127.0.0.1", True), ("0.0.0.0", "127.0.0.1", True), ("127.0.0.1", "0.0.0.0", True),
    ("127.0.0.2", "127.0.0.1", False), ("127.0.0.1", "localhost", True), ("::", "127.0.0.1", True), ("::1", "127.0.0.1", False), ("::1", "::1", True),
])
def test_who_holds_a_port(bound: str, asked: str, held: bool) -> None:
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    try:
        listener = socket.create_server((bound, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {bound}")
    with listener:
        found = port.holder(asked, listener.getsockname()[1])
        assert (found is not None) == held
        if found:
            assert found.pid == os.getpid() and "python" in found.command and not found.ours


def test_the_real_command_lines(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.flwr.app]\n")
    commands, roster = Commands(Project.find(tmp_path)), Roster("0.0.0.0:9000")
    wish = RunWish.of({"classes": "a,b c", "num-server-rounds": 5}, run_name="mine")
    server = commands.server(roster, wish)
    assert server[1:3] == ["-m", "poweranger.server.server_app"]
    assert server[server.index("--host") + 1] == "0.0.0.0" and server[server.index("--port") + 1] == "9000"
    assert server[server.index("--run-config") + 1] == "'classes=a,b c' num-server-rounds=5"
    assert server[server.index("--run-name") + 1] == "mine"
    client = commands.client(roster, Client("C1", "/data/site 1"))
    assert client[client.index("--server-address") + 1] == "127.0.0.1:9000" and client[-1] == "/data/site 1"


def test_the_environment_has_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.flwr.app]\n")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "SSH_AUTH_SOCK", "WATCHDOG_USEC"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    values = environment(Project.find(tmp_path), "mark", {"CUDA_VISIBLE_DEVICES": "0", "NOTIFY_SOCKET": "/elsewhere"})
    assert "x" not in values.values()
    assert values["CUDA_VISIBLE_DEVICES"] == "0" and values["NOTIFY_SOCKET"].endswith("notify.sock")
    assert values["FLWR_TELEMETRY_ENABLED"] == "0" and values["PYTHONUNBUFFERED"] == "1"
