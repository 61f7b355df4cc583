"""Starting, ending, restarting: the real daemon with real processes."""
from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import House


def test_up_starts_server_then_clients_and_down_leaves_nothing(house: House) -> None:
    house.cast(server="slow")
    answer = house.post("/v1/up")
    states = {process["name"]: process["state"] for process in answer["processes"]}
    assert states == {"server": "starting", "C1": "held", "C2": "held"}
    assert "waits for the server" in house.ps()["C1"]["reason"]
    (house.root / "go").touch()
    running = house.reach("running", "server", "C1", "C2")
    assert running["C1"]["status"] == "round 3 of 10"
    assert running["C1"]["started"] >= running["server"]["started"]
    assert running["C1"]["rss_mb"] > 1 and running["C1"]["pss_mb"] > 1 and running["C1"]["uptime_s"] >= 0
    pids = {process["pid"] for process in running.values()}
    assert house.alive() == pids

    again = house.post("/v1/up")  # idempotent
    assert {process["pid"] for process in again["processes"]} == pids
    assert any("runs already" in note for note in again["notes"])

    house.post("/v1/down")
    stopped = house.ps()
    assert {process["state"] for process in stopped.values()} == {"stopped"}
    assert {process["exit_code"] for process in stopped.values()} == {0}
    assert house.alive() == set()


def test_a_process_stands_on_its_own_feet(house: House) -> None:
    house.post("/v1/up")
    pid = house.reach("running", "C1")["C1"]["pid"]
    assert os.getsid(pid) == pid
    descriptors = {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    log = str(house.project.logs / "C1.log")
    assert descriptors == {"0": "/dev/null", "1": log, "2": log}
    assert (house.project.logs / "C1.log").stat().st_mode & 0o777 == 0o600


def test_whatever_resists_is_ended_within_the_grace_period_and_a_second(house: House) -> None:
    house.cast(C1="ignores_term", C2="has_grandchild")
    house.post("/v1/up")
    house.reach("ready", "C1", "C2")
    grandchild = int((house.root / "grandchild").read_text())
    assert os.getsid(grandchild) != house.ps()["C2"]["pid"]
    os.kill(house.ps()["server"]["pid"], signal.SIGSTOP)
    begin = time.monotonic()
    for name in ("C1", "C2", "server"):
        house.post(f"/v1/processes/{name}/stop")
    assert house.alive() == set()
    assert time.monotonic() - begin < 3 * 2 + 1
    ps = house.ps()
    assert {ps[name]["state"] for name in ("C1", "C2", "server")} == {"stopped"}
    assert "killed" in ps["C1"]["cause"] and ps["C1"]["exit_code"] == 128 + signal.SIGKILL
    assert ps["server"]["exit_code"] == 0  # it went on, and ended as it should


def test_what_cannot_be_ended_is_no_success(new_house: Callable[..., House]) -> None:
    """As when a disk does not answer; here the daemon has no right to signal another user's process."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root, and setpriv")
    house = new_house("client-host = false\n[tool.fedtui.clients.C1]\n")
    house.prefix = ["setpriv", "--bounding-set=-kill"]
    house.open()
    house.cast(C1="is_another_s")
    house.post("/v1/processes/C1/start")
    pid = house.reach("ready", "C1")["C1"]["pid"]
    house.until(lambda: os.stat(f"/proc/{pid}").st_uid, 10, "its other user")
    for path, body in (("/v1/processes/C1/stop", {}), ("/v1/shutdown", {"stop": True})):
        assert f"C1 has not ended: the kernel does not let pid {pid} end" in house.refused(path, 409, **body)
    assert house.daemons[0].poll() is None
    os.kill(pid, signal.SIGKILL)
    assert house.reach("stopped", "C1")["C1"]["cause"] == ""

    house.cast(C1="has_another_s_child")  # it ends itself, its child does not
    house.post("/v1/processes/C1/start")
    house.reach("running", "C1")
    child = int((house.root / "child").read_text())
    house.until(lambda: os.stat(f"/proc/{child}").st_uid, 10, "its other user")
    for path in ("/v1/processes/C1/stop", "/v1/down"):
        assert f"the kernel does not let pid {child} end" in house.refused(path, 409)
        assert f"pid {child}" in house.ps()["C1"]["cause"] and house.ps()["C1"]["state"] == "stopped"
    os.kill(child, signal.SIGKILL)
    house.until(lambda: "pid" not in house.ps()["C1"]["cause"], 10, "its end")
    house.post("/v1/down")


def test_what_a_dead_process_leaves_behind_is_ended(house: House) -> None:
    house.cast(C1="has_grandchild")
    house.post("/v1/processes/C1/start")
    pid = house.reach("ready", "C1")["C1"]["pid"]
    os.kill(pid, signal.SIGKILL)
    house.until(lambda: house.ps()["C1"]["state"] == "backoff", 20, "the restart")
    assert "SIGKILL" in house.ps()["C1"]["cause"]
    house.post("/v1/processes/C1/stop")
    assert house.alive() == set()


def test_a_client_that_fails_at_once_is_tried_again_ever_later_until_it_is_stopped(house: House) -> None:
    house.cast(C1="fails")
    house.post("/v1/up")
    house.until(lambda: house.ps()["C1"]["restarts"] >= 2, 20, "two restarts")
    process = house.ps()["C1"]
    house.until(lambda: house.ps()["C1"]["reason"] == "restart in 4 s", 20, "the third pause")
    process = house.ps()["C1"]
    assert process["state"] == "backoff" and process["exit_code"] == 1
    assert process["cause"] == "RuntimeError: the images are gone"
    card = house.get("/v1/processes/C1/failure")
    assert card["cause"] == process["cause"] and card["last_lines"][0] == "loading"
    house.post("/v1/processes/C1/stop")
    assert house.ps()["C1"]["state"] == "stopped"
    assert house.ask("GET", "/v1/processes/C1/failure").status_code == 404
    house.cast()
    house.post("/v1/up")
    running = house.reach("running", "C1", "C2")
    assert running["C1"]["restarts"] == 0

    file = house.root / "pyproject.toml"
    file.write_text(file.read_text().replace("[tool.fedtui.clients.C2]\n", ""))
    os.kill(running["C2"]["pid"], signal.SIGKILL)
    assert "C2 is no longer in the roster" in house.reach("failed", "C2")["C2"]["cause"]
    assert "fedtui client add C2" in house.refused("/v1/processes/C2/start", 409)
    house.post("/v1/up", clients=2)
    house.reach("running", "C2")  # on made-up images, which was said


def test_a_wrong_configuration_is_not_tried_again(house: House) -> None:
    house.cast(C1="misconfigured")
    house.post("/v1/up")
    process = house.reach("failed", "C1")["C1"]
    assert process["cause"] == 'wrong configuration: classes = "a" needs two or more different names'
    assert process["restarts"] == 0 and house.ps()["C1"]["state"] == "failed"


def test_a_program_that_cannot_be_started_is_a_failure_with_a_cause(new_house: Callable[..., House]) -> None:
    house = new_house("client-host = false\n[tool.fedtui.clients.C1]\n[tool.fedtui.clients.C2]\n")
    house.open()
    house.cast(C1="/no/such/program", C3="/bin/false")
    house.post("/v1/up", clients=3)
    process = house.reach("failed", "C1")["C1"]
    assert "could not be started: No such file or directory: /no/such/program" in process["cause"]
    assert house.reach("backoff", "C3")["C3"]["cause"] == "ended with exit code 1 and said nothing"
    house.reach("running", "C2")


def test_a_full_disk_is_said_once_and_stops_nothing(house: House) -> None:
    pid = house.daemons[0].pid
    (house.project.state / f".processes.json.{pid}").symlink_to("/dev/full")
    house.post("/v1/up")
    house.reach("running", "server", "C1", "C2")
    assert house.log().count("cannot be written (No space left on device)") == 1
    records = json.loads(house.project.processes_file.read_text())["processes"]  # saved as soon as there was room
    assert {record["name"]: record["pid"] for record in records} == {name: process["pid"] for name, process in house.ps().items()}


def test_a_server_that_ends_is_not_restarted_and_clients_go_on(house: House) -> None:
    house.cast(server="ends")
    house.post("/v1/up")
    house.reach("running", "C1", "C2")
    (house.root / "end").write_text("0")
    assert house.reach("exited", "server")["server"]["exit_code"] == 0
    assert house.ps()["C1"]["state"] == "running"


def test_clients_are_sent_home_when_the_server_does_not_become_ready(house: House) -> None:
    house.cast(server="fails")
    house.post("/v1/up")
    ps = house.reach("failed", "server")
    house.until(lambda: house.ps()["C1"]["state"] == "stopped", 20, "C1 sent home")
    assert ps["server"]["cause"] == "RuntimeError: the images are gone"
    assert "server did not become ready" in house.ps()["C1"]["cause"]
    assert house.get("/v1/info")["daemon_pid"] == house.daemons[-1].pid


def test_kill_and_restart(house: House) -> None:
    house.cast(C1="ignores_term")
    house.post("/v1/up")
    house.reach("ready", "C1")
    assert house.post("/v1/processes/C1/kill")["state"] == "stopped"
    assert house.ps()["C1"]["exit_code"] == 137
    before = house.reach("running", "C2")["C2"]["pid"]
    assert house.post("/v1/processes/C2/restart")["pid"] != before
    house.reach("running", "C2")
    assert house.ps()["C1"]["state"] == "stopped"  # a manual stop is not undone


def test_a_stop_that_comes_after_a_start_counts_also_while_both_wait(house: House) -> None:
    def send(action: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(house.project.socket))
        connection.sendall(f"POST /v1/processes/C1/{action} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        return connection

    house.cast(C1="ignores_term")
    house.post("/v1/processes/C1/start")
    house.reach("ready", "C1")
    with send("stop"):
        house.reach("stopping", "C1")
        with send("start"):
            assert house.answers()  # so the start has been read
            assert house.post("/v1/processes/C1/stop")["state"] == "stopped"
            assert house.alive() == set()


def test_up_with_more_clients_than_the_roster_has_invents_some_and_says_so(house: House) -> None:
    answer = house.post("/v1/up", clients=3)
    house.reach("running", "C1", "C2", "C3")
    assert any("C3" in note and "synthetic" in note for note in answer["notes"])


def test_an_empty_roster_means_two_synthetic_clients(new_house: Callable[..., House]) -> None:
    house = new_house()
    house.open()
    answer = house.post("/v1/up")
    assert [process["name"] for process in answer["processes"]] == ["server", "C1", "C2"]
    assert any("C1, C2" in note and "synthetic" in note for note in answer["notes"])


def test_against_a_remote_server_clients_start_at_once(new_house: Callable[..., House]) -> None:
    house = new_house("[tool.fedtui.clients.C1]\n")
    text = (house.root / "pyproject.toml").read_text().replace("127.0.0.1", "192.0.2.1")
    (house.root / "pyproject.toml").write_text(text)
    house.open()
    answer = house.post("/v1/up")
    assert [process["name"] for process in answer["processes"]] == ["C1"]
    assert any("another machine" in note for note in answer["notes"])
    house.reach("running", "C1")


def test_a_port_that_is_held_is_said_before_anything_starts(house: House, tmp_path: Path) -> None:
    import subprocess
    import sys

    folder = tmp_path / "poweranger" / "server"
    folder.mkdir(parents=True)
    (folder / "server_app.py").write_text(
        f"import socket\ns = socket.create_server(('127.0.0.1', {house.port}))\nprint('up', flush=True)\ninput()\n"
    )
    for command, words in (
        ([sys.executable, "-c", f"import socket; s = socket.create_server(('', {house.port})); print('up', flush=True); input()"], "set another server-address"),
        ([sys.executable, str(folder / "server_app.py")], "if nobody needs it, end it with `kill {pid}`"),
    ):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout and holder.stdout.readline()
            sentence = house.refused("/v1/up", 409)
            assert f"pid {holder.pid} (" in sentence and words.format(pid=holder.pid) in sentence
            assert house.alive() == set() and house.ps()["C1"]["state"] == "stopped"
            holder.kill()


def test_settings_reach_the_server_and_wrong_ones_start_nothing(house: House) -> None:
    house.post("/v1/up", rounds=7, set={"classes": "a b,c", "augment": "false", "learning-rate": 0.5})
    pid = house.reach("running", "server")["server"]["pid"]
    from poweranger.run_config import parse_overrides

    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    assert parse_overrides(words[-2]) == {"classes": "a b,c", "augment": False, "learning-rate": 0.5, "num-server-rounds": 7}
    house.post("/v1/down")
    assert "did you mean learning-rate" in house.refused("/v1/up", 400, set={"learnin-rate": 1})
    assert "num-server-rounds = 0" in house.refused("/v1/up", 400, rounds=0)
    assert "rounds" in house.refused("/v1/up", 400, rounds="3")
    assert house.alive() == set()


def test_only_a_process_of_the_tree_may_report(house: House) -> None:
    from poweranger.notify import notify

    house.post("/v1/up")
    house.reach("running", "C1")
    os.environ["NOTIFY_SOCKET"] = str(house.project.notify_socket)
    try:
        assert notify(STATUS="forged")
    finally:
        del os.environ["NOTIFY_SOCKET"]
    house.post("/v1/processes/C2/restart")
    house.reach("running", "C2")  # its message came after the forged one
    assert "forged" not in json.dumps(house.ps())


def test_simulation_is_one_supervised_process(house: House) -> None:
    assert "could not be started" in house.post("/v1/simulate", data_dir="no\0path")["cause"]
    assert house.post("/v1/simulate", supernodes=4)["name"] == "simulation"
    house.reach("running", "simulation")
    assert "runs already" in house.refused("/v1/simulate", 409)
    house.post("/v1/down")
    assert house.alive() == set()
