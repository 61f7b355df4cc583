"""The daemon's own life: one a project, found again, killed, replaced, gone when not needed."""
from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedtui.daemon import proc
from fedtui.daemon.events import BACKLOG, Broadcast, Event

from .conftest import House


def test_twenty_at_once_give_one_daemon_and_the_others_go_quietly(new_house: Callable[..., House]) -> None:
    house = new_house()
    daemons = [house.launch() for _ in range(20)]
    house.until(lambda: sum(daemon.poll() is None for daemon in daemons) == 1 and house.answers(), 60, "one daemon left")
    left = next(daemon for daemon in daemons if daemon.poll() is None)
    assert {daemon.returncode for daemon in daemons} == {0, None}
    assert house.get("/v1/info")["daemon_pid"] == left.pid


def test_a_killed_daemon_s_processes_go_on_and_the_next_one_sees_their_end(house: House) -> None:
    house.cast(server="ends", C2="ends")
    house.post("/v1/up")
    house.reach("running", "C1")
    before = house.reach("ready", "C2", "server")
    house.daemons[0].kill()
    house.daemons[0].wait()
    assert all(proc.identify(process["pid"]) for process in before.values())

    house.open()
    after = house.ps()
    assert {name: process["pid"] for name, process in after.items()} == {name: process["pid"] for name, process in before.items()}
    assert {name: process["state"] for name, process in after.items()} == {"server": "ready", "C1": "running", "C2": "ready"}
    assert "C1 begins" in house.get("/v1/logs/C1")["text"]
    (house.root / "end").write_text("0")
    house.reach("exited", "server", "C2")
    house.post("/v1/down")
    assert house.ps()["C1"]["state"] == "stopped" and house.alive() == set()


def test_a_server_that_became_ready_while_no_daemon_listened_is_known_to_be(house: House) -> None:
    house.cast(server="listens")
    (house.root / "port").write_text(str(house.port))
    house.post("/v1/up")
    house.daemons[0].kill()
    house.daemons[0].wait()
    (house.root / "go").touch()
    house.until((house.root / "listening").exists, 10, "the server's port")
    house.open()
    house.reach("running", "C1", "C2")
    assert house.ps()["server"]["state"] == "ready"


def test_an_adopted_client_that_fails_is_restarted(house: House) -> None:
    house.post("/v1/up")
    pid = house.reach("running", "C1")["C1"]["pid"]
    house.daemons[0].kill()
    house.daemons[0].wait()
    house.open()
    os.kill(pid, signal.SIGKILL)
    house.until(lambda: house.ps()["C1"]["restarts"] == 1 and house.ps()["C1"]["state"] == "running", 20, "its restart")
    assert house.ps()["C1"]["pid"] != pid


def test_what_ended_while_no_daemon_watched_is_not_guessed(house: House) -> None:
    house.post("/v1/up")
    before = house.reach("running", "server", "C1", "C2")
    house.daemons[0].kill()
    house.daemons[0].wait()
    os.kill(before["server"]["pid"], signal.SIGKILL)
    os.kill(before["C2"]["pid"], signal.SIGTERM)  # ends with the word "stopped"
    house.until(lambda: len(house.alive()) == 1, 10, "their ends")
    house.open()
    ps = house.ps()
    assert ps["server"]["state"] == "failed" and "ended while no daemon watched" in ps["server"]["cause"]
    assert ps["C2"]["state"] == "exited"
    assert ps["C1"]["state"] == "running"


def test_processes_are_found_again_when_the_state_file_is_lost(house: House) -> None:
    house.post("/v1/up")
    before = house.reach("running", "server", "C1", "C2")
    house.daemons[0].kill()
    house.daemons[0].wait()
    house.project.processes_file.write_text("{half a")
    house.open()
    assert {name: process["pid"] for name, process in house.ps().items()} == {name: process["pid"] for name, process in before.items()}
    house.post("/v1/down")
    assert house.alive() == set()


def test_after_a_restart_of_the_machine_nothing_starts_by_itself(house: House) -> None:
    house.daemons[0].terminate()
    house.daemons[0].wait()
    records = [{"name": name, "role": "client", "state": state, "wanted": True, "waits_for": waits_for, "pid": 1 << 21, "start": 1}
               for name, state, waits_for in (("C1", "running", ""), ("C2", "backoff", ""), ("C3", "held", "memory"))]  # fmt: skip
    house.project.processes_file.write_text(json.dumps({"boot": "another", "processes": records}))
    house.open()
    for name, process in house.ps().items():
        if name != "server":
            assert process["state"] == "failed" and "the machine was restarted" in process["cause"], name


def test_a_recycled_pid_is_left_alone(house: House) -> None:
    house.post("/v1/up")
    house.reach("running", "C1")
    house.daemons[0].kill()
    house.daemons[0].wait()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        content = json.loads(house.project.processes_file.read_text())
        record = next(record for record in content["processes"] if record["name"] == "C1")
        os.kill(record["pid"], signal.SIGKILL)
        record["pid"] = stranger.pid  # same pid as ours had, but started at another time
        house.project.processes_file.write_text(json.dumps(content))
        house.open()
        assert house.ps()["C1"]["pid"] != stranger.pid
        house.post("/v1/down")
        assert stranger.poll() is None
        stranger.kill()


def test_hangup_does_not_end_it_and_is_not_ignored_by_its_processes(house: House) -> None:
    os.kill(house.daemons[0].pid, signal.SIGHUP)
    house.post("/v1/up")
    pid = house.reach("running", "C1")["C1"]["pid"]
    ignored = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn"))
    assert not int(ignored.split()[1], 16) & 1 << (signal.SIGHUP - 1)


def test_terminating_the_daemon_leaves_its_processes_to_the_next(house: House) -> None:
    house.post("/v1/up")
    before = house.reach("running", "server", "C1")
    house.daemons[0].terminate()
    assert house.daemons[0].wait(10) == 0
    assert not house.project.socket.exists()
    house.open()
    assert house.ps()["C1"]["pid"] == before["C1"]["pid"]


def test_shutdown_refuses_while_something_runs(house: House) -> None:
    house.post("/v1/up")
    house.reach("running", "server", "C1", "C2")
    assert "server, C1, C2 still run" in house.refused("/v1/shutdown", 409)
    house.post("/v1/shutdown", stop=True)
    assert house.daemons[0].wait(10) == 0 and house.alive() == set()


def test_it_ends_by_itself_when_nothing_runs_and_nobody_asks(new_house: Callable[..., House]) -> None:
    house = new_house("idle-exit = 0.5\n[tool.fedtui.clients.C1]\n")
    daemon = house.open()
    house.post("/v1/processes/C1/start")
    house.reach("running", "C1")
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.wait(2.5)  # a running process keeps it
    house.post("/v1/processes/C1/stop")
    assert daemon.wait(10) == 0


@pytest.mark.parametrize("name", ["with space", "Müller-日本", "x" * 150])
def test_project_paths(new_house: Callable[..., House], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if len(name) > 100:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("y" * 100)))
    house = new_house("[tool.fedtui.clients.C1]\n", name=name)
    house.open()
    house.post("/v1/up")
    house.reach("running", "server", "C1")
    assert len(os.fsencode(house.project.socket)) <= 107
    house.post("/v1/shutdown", stop=True)


def test_another_user_is_refused(house: House) -> None:
    """Even one who gets at the socket's file."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    assert house.project.socket.stat().st_mode & 0o777 == 0o600
    path = house.project.socket
    path.chmod(0o666)
    path.parent.chmod(0o755)
    program = (
        "import os, socket\n"
        f"os.chdir({str(path.parent)!r}); os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.connect('daemon.sock')\n"
        "print(s.makefile().read())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert "403" in answer.stdout and "another user" in answer.stdout and "daemon_pid" not in answer.stdout
    assert house.answers()


def test_a_frozen_reader_of_events_costs_a_bounded_amount_and_is_told_to_ask_anew() -> None:
    async def freeze() -> list[Event]:
        broadcast = Broadcast()
        frozen = broadcast.subscribe()
        first = asyncio.ensure_future(anext(frozen))
        await asyncio.sleep(0)
        for number in range(10 * BACKLOG + 3):
            broadcast.publish("note", text=str(number))
        events = [await first]
        broadcast.close()
        return events + [event async for event in frozen]

    events = asyncio.run(freeze())
    assert len(events) <= BACKLOG
    assert events[0] == {"event": "resync"} and events[-1]["text"] == str(10 * BACKLOG + 2)


def test_events_tell_of_processes(house: House) -> None:
    with socket.socket(socket.AF_UNIX) as reader:
        reader.settimeout(20)
        reader.connect(str(house.project.socket))
        reader.sendall(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        lines = reader.makefile()
        assert any("hello" in line for line in lines)
        house.post("/v1/processes/C1/start")
        for line in lines:
            if line.startswith("{") and (event := json.loads(line))["event"] == "process" and event["process"]["state"] == "running":
                assert event["process"]["name"] == "C1"
                break


def test_it_is_small_and_imports_neither_flower_nor_tensorflow(new_house: Callable[..., House]) -> None:
    house = new_house("".join(f"[tool.fedtui.clients.C{number}]\n" for number in range(1, 6)))
    house.open()
    house.post("/v1/up")
    house.reach("running", "server", *(f"C{number}" for number in range(1, 6)))
    house.get("/v1/progress")
    house.get("/v1/memory")
    assert _rss(house) < 60 << 20
    maps = Path(f"/proc/{house.daemons[0].pid}/maps").read_text()
    assert "tensorflow" not in maps and "grpc" not in maps
    program = "import sys, fedtui.daemon.run, poweranger.results; print([n for n in sys.modules if n.split('.')[0] in ('flwr', 'tensorflow', 'keras')])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_curl_like_requests_that_are_wrong_get_a_sentence(house: House) -> None:
    assert "no process 'nobody'" in house.refused("/v1/processes/nobody/start", 404)
    assert "no action 'dance'" in house.refused("/v1/processes/C1/dance", 404)
    assert "no key 'client'" in house.refused("/v1/up", 400, client=1)
    for path in ("/v1/nothing", "/", "/v1/logs/nobody", "/v1/logs/..%2f..%2fsecret"):
        answer = house.ask("GET", path)
        assert answer.status_code == 404 and answer.json()["error"]
    assert house.ask("GET", "/v1/up").status_code == 405
    assert "no JSON" in house.ask("POST", "/v1/up", content=b"{").json()["error"]
    assert "bytes" in house.ask("POST", "/v1/up", content=b" " * 100_000).json()["error"]
    assert "integer" in house.ask("GET", "/v1/logs/C1?offset=x").json()["error"]


def test_ps_and_down_work_while_pyproject_does_not_parse(house: House) -> None:
    house.post("/v1/up")
    house.reach("running", "server", "C1", "C2")
    (house.root / "pyproject.toml").write_text("[tool.flwr.app]\n[tool.fedtui\n")
    assert set(house.ps()) == {"server", "C1", "C2"}
    assert any("line 2" in note for note in house.get("/v1/info")["notes"])
    assert "line 2" in house.refused("/v1/up", 400)
    house.post("/v1/down")
    assert house.alive() == set()


def _rss(house: House) -> int:
    stat = proc.read_stat(house.daemons[-1].pid)
    assert stat
    return stat.rss
