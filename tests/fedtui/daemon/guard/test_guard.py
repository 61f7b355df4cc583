"""The guard in the real daemon, with real processes that take memory."""
from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fedtui.daemon.conftest import House
from tests.fedtui.daemon.guard.conftest import SmallMachine

Small = Callable[..., tuple[House, SmallMachine]]
RESERVE = "[tool.fedtui.memory]\nreserve-mb = 200\n"
CREW = "".join(f"[tool.fedtui.clients.C{number}]\n" for number in (1, 2, 3))


def learn(house: House, forked: bool, **needs: float) -> None:
    """As if these had run before, and had needed that much."""
    known = {name: {"last_mb": need, "forked": forked and name != "server"} for name, need in needs.items()}
    (house.project.state / "memory.json").write_text(json.dumps(known))


def history(house: House) -> list[dict[str, Any]]:
    path = house.project.state / "memory-guard.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def acts(house: House) -> list[tuple[str, str]]:
    return [(entry["action"], entry["process"]) for entry in history(house) if entry["action"] != "warn"]


def in_group(new_house: Callable[..., House], folder: Path, rules: str, **parts: str) -> House:
    """A house whose daemon lives in a cgroup, with C1 to C3, which need 60 MB."""
    house = new_house(rules + CREW)
    learn(house, True, C1=60, C2=60, C3=60, server=30)
    house.cast(**parts)
    house.prefix = ["/bin/sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh"]
    house.open()
    house.post("/v1/up")
    house.reach("running", "server", "C1", "C2", "C3")
    return house


def kills(folder: Path) -> int:
    from fedtui.daemon.cgroups import Group

    return Group(folder, 1 if (folder / "memory.oom_control").exists() else 2).oom_kills or 0


@pytest.mark.parametrize(("limit", "leaking"), [(700, ["C1"]), (1400, ["C1", "C2", "C3"])])
def test_in_a_cgroup_a_leak_costs_clients_and_neither_server_nor_daemon(
    cgroup: Callable[[int], Path], new_house: Callable[..., House], limit: int, leaking: list[str]
) -> None:
    """One client that takes 50 MB a second, and three that all do."""
    folder = cgroup(limit)
    house = in_group(new_house, folder, RESERVE + "auto-return = false\n", **dict.fromkeys(("C1", "C2", "C3"), "trains") | dict.fromkeys(leaking, "leaks"))
    pids = {name: process["pid"] for name, process in house.ps().items()}
    (house.root / "finish").touch()
    (house.root / "go").touch()
    house.until(lambda: len([name for name in leaking if house.ps()[name]["state"] == "stopped"]) >= min(len(leaking), 2), 60, "the leaking clients' stop")
    ps = house.ps()
    assert kills(folder) == 0, house.log()
    assert ps["server"]["pid"] == pids["server"] and ps["server"]["state"] == "running"
    assert house.daemons[0].poll() is None
    entry = next(entry for entry in history(house) if entry["action"] in ("finish", "stop", "kill"))
    assert entry["machine"]["cgroup"] == str(folder) and entry["machine"]["limit_mb"] == limit
    assert entry["processes"][entry["process"]]["use_mb"] > 60 == entry["processes"][entry["process"]]["expected_mb"]
    if len(leaking) == 1:
        assert all(ps[name]["pid"] == pids[name] for name in ("C2", "C3"))


def test_the_kernel_s_kill_is_told_apart_and_takes_a_client(cgroup: Callable[[int], Path], new_house: Callable[..., House]) -> None:
    """Without the guard: the same leak ends in the kernel's hands, and the client's higher score keeps the server out of them."""
    folder = cgroup(300)
    house = in_group(new_house, folder, "[tool.fedtui.memory]\nguard = false\n", C1="leaks", C2="trains", C3="trains")
    server = house.ps()["server"]["pid"]
    assert int(Path(f"/proc/{house.ps()['C1']['pid']}/oom_score_adj").read_text()) == int(Path(f"/proc/{server}/oom_score_adj").read_text()) + 500
    assert Path(f"/proc/{server}/oom_score_adj").read_text() == Path("/proc/self/oom_score_adj").read_text()
    (house.root / "go").touch()
    house.until(lambda: house.ps()["C1"]["restarts"] or house.ps()["C1"]["state"] == "backoff", 60, "the kernel's kill")
    assert kills(folder) > 0
    said = "killed by the kernel: the machine or its memory limit ran out of memory"
    assert house.ps()["C1"]["cause"].startswith(said) and f"C1 has failed: {said}" in house.log()
    assert house.ps()["server"]["pid"] == server
    assert history(house) == [] and house.get("/v1/memory")["guard"]["state"] == "off"


def test_a_start_that_would_not_fit_is_held_and_comes_when_there_is_room(small_machine: Small) -> None:
    house, machine = small_machine(CREW.replace("]\n", ']\nenv = { OMP_NUM_THREADS = "1" }\n'))  # so each is a process of its own
    machine.others_mb = 400
    machine.write()
    learn(house, False, C1=150, C2=150, C3=150, server=30)
    house.daemons[-1].kill()
    house.daemons[-1].wait()
    house.open()
    answer = house.post("/v1/up", set={"start-clients": 3})
    assert any("2 of 3 clients fit into memory now; C3 starts when there is room" in note for note in answer["notes"])
    assert any("so the run begins with 2" in note for note in answer["notes"])
    house.reach("running", "server", "C1", "C2")
    assert b"start-clients=2" in Path(f"/proc/{house.ps()['server']['pid']}/cmdline").read_bytes()
    held = house.ps()["C3"]
    assert (held["state"], held["waits_for"]) == ("held", "memory")
    assert held["reason"].startswith("starting C3 needs about 150 MB of memory, ") and "under the reserve of 200 MB" in held["reason"]
    assert acts(house) == [("hold", "C3")]

    assert house.post("/v1/processes/C3/start")["state"] == "held"  # asking again does not help
    assert house.post("/v1/processes/C3/start", force=True)["state"] == "starting"
    house.reach("running", "C3")
    house.post("/v1/processes/C3/stop")
    assert house.post("/v1/processes/C3/start")["state"] == "held"
    house.daemons[-1].kill()  # the next daemon remembers
    house.daemons[-1].wait()
    house.open()
    assert house.ps()["C3"]["waits_for"] == "memory"
    machine.others_mb = 100
    house.reach("running", "C3")
    assert acts(house)[-1] == ("start", "C3")


@pytest.mark.parametrize(("address", "server"), [("127.0.0.1", 150), ("192.0.2.1", 0)])
def test_the_client_host_counts_once_until_it_is_there_and_the_server_only_where_it_runs(small_machine: Small, address: str, server: int) -> None:
    house, machine = small_machine(CREW)
    file = house.root / "pyproject.toml"
    file.write_text(file.read_text().replace("127.0.0.1", address))
    room = 300 + 2 * 150 + 10  # for the host and two clients forked from it, as long as nothing better is known
    house.cast(C1="trains")
    machine.others_mb = 0
    machine.write()
    free = house.get("/v1/memory")["machine"]["available_mb"]
    machine.others_mb = free - room - 200 - server  # 200 are the reserve
    machine.write()
    answer = house.post("/v1/up", set={"start-clients": 3})
    assert any("2 of 3 clients fit into memory now" in note for note in answer["notes"])


def test_where_the_client_host_fails_only_as_many_clients_start_as_fit_as_processes(small_machine: Small, tmp_path: Path) -> None:
    house, machine = small_machine(CREW, limit_mb=1500)
    (tmp_path / "broken.py").write_text("import no_such_library\n")
    house.cast(host=str(tmp_path / "broken.py"))
    house.daemons[-1].kill()
    house.daemons[-1].wait()
    house.open()
    machine.others_mb = house.get("/v1/memory")["machine"]["available_mb"] - (200 + 150 + 300 + 3 * 150 + 10)  # the reserve, the server, the host, three forks
    machine.write()
    assert not any("fit into memory" in note for note in house.post("/v1/up")["notes"])
    house.until(lambda: {house.ps()[name]["waits_for"] for name in ("C2", "C3")} == {"memory"}, 20, "the two that do not fit")
    ps = house.ps()
    assert ps["C1"]["via_reason"].startswith("the client host failed") and ps["C1"]["state"] in ("starting", "running")
    assert ps["C3"]["reason"].startswith("starting C3 needs about 450 MB of memory, ")
    assert house.post("/v1/processes/C3/start", force=True)["state"] != "held"


def test_a_passing_shortage_stops_one_gently_and_brings_it_back_also_over_a_daemon_s_death(small_machine: Small) -> None:
    house, machine = small_machine(CREW)
    house.cast(C1="trains", C2="trains", C3="trains")
    house.post("/v1/up", force=True)
    house.reach("running", "server", "C1", "C2", "C3")
    machine.leave(130, "C1", "C2", "C3")
    house.until(lambda: ("finish", "C3") in acts(house), 20, "the decision to stop the newest")
    assert house.ps()["C3"]["state"] == "stopping"
    house.daemons[-1].kill()  # in the middle of that
    house.daemons[-1].wait()
    house.open()
    assert house.ps()["C3"]["state"] == "stopping"
    (house.root / "finish").touch()
    ps = house.reach("held", "C3")
    assert ps["C3"]["waits_for"] == "return" and ps["C3"]["exit_code"] in (0, None)
    assert "stopped at its round's end by the memory guard: 1" in ps["C3"]["reason"] and "comes back when there is room" in ps["C3"]["reason"]
    assert "C3 has finished" in house.get("/v1/logs/C3")["text"]
    assert {name: process["state"] for name, process in ps.items() if name != "C3"} == {"server": "running", "C1": "running", "C2": "running"}
    machine.others_mb = 0
    house.reach("running", "C3")
    assert ("start", "C3") in acts(house)
    assert house.get("/v1/memory/history?limit=1")[0]["action"] in ("start", "clear")


def test_what_its_user_stops_stays_stopped(small_machine: Small) -> None:
    house, machine = small_machine(CREW)
    house.cast(C1="trains", C2="trains", C3="trains")
    (house.root / "finish").touch()
    house.post("/v1/up", force=True)
    house.reach("running", "server", "C1", "C2", "C3")
    machine.leave(130, "C1", "C2", "C3")
    house.reach("held", "C3")
    assert house.post("/v1/processes/C3/stop")["state"] == "stopped"
    machine.others_mb = 0
    house.until(lambda: ("clear", "") in acts(house), 20, "the end of the shortage")
    assert house.ps()["C3"]["state"] == "stopped" and ("start", "C3") not in acts(house)


def test_a_client_that_ignores_the_stop_is_ended_all_the_same(small_machine: Small) -> None:
    house, machine = small_machine("stop-at = 1\nstop-now-at = 1\nkill-at = 1\n" + CREW)
    house.cast(C3="leaks_and_stays")
    (house.project.results / "runs/r/metrics").mkdir(parents=True)
    (house.project.results / "metrics").symlink_to("runs/r/metrics")
    (house.project.results / "runs/r/run.toml").write_text('outcome = "running"\n[config]\nmin-available-clients = 3\n')
    house.post("/v1/up", force=True)
    house.reach("running", "server", "C1", "C2", "C3")
    machine.leave(400, "C3")
    (house.root / "go").touch()
    ps = house.reach("held", "C3", seconds=60)
    assert ps["C3"]["exit_code"] == 128 + signal.SIGKILL
    assert {name for _, name in acts(house)} - {""} == {"C3"}
    first, *_ = (entry for entry in history(house) if entry["process"])
    assert first["action"] == "warn" and "the run will wait, it needs 3 of the clients here" in first["reason"]
    assert first["machine"]["available_mb"] > first["reserve_mb"], "in a quick fall, too, which is answered early"
    assert {ps[name]["state"] for name in ("server", "C1", "C2")} == {"running"}


def test_a_dry_run_decides_and_does_nothing(small_machine: Small) -> None:
    house, machine = small_machine("dry-run = true\n" + CREW)
    machine.others_mb = 900
    house.post("/v1/up")
    house.reach("running", "server", "C1", "C2", "C3")
    house.until(lambda: any(action in ("finish", "stop", "kill") for action, _ in acts(house)), 20, "a decision")
    assert all(entry["dry_run"] for entry in history(house))
    assert {process["state"] for process in house.ps().values()} == {"running"}
    assert house.get("/v1/memory")["guard"]["state"] == "dry-run"
    file = house.root / "pyproject.toml"
    file.write_text(file.read_text().replace("dry-run = true", ""))
    house.until(lambda: not history(house)[-1]["dry_run"], 20, "the end of the dry run, for which nobody asks anything")


def test_what_each_client_needs_is_told(small_machine: Small) -> None:
    house, _ = small_machine(CREW)
    house.cast(C1="trains")
    house.post("/v1/up", force=True)
    house.reach("running", "server", "C1", "C2")

    def of(name: str) -> dict[str, Any]:
        return next(process for process in house.get("/v1/memory")["processes"] if process["name"] == name)

    house.until(lambda: of("C1")["peaks_mb"].get("training", 0) > 30, 20, "C1's peak")
    assert of("C1")["need_mb"] == pytest.approx(max(of("C1")["peaks_mb"].values()), rel=0.2)
    guard = house.get("/v1/memory")["guard"]
    assert (guard["state"], guard["step"], guard["reserve_mb"]) == ("on", "calm", 200)
    assert guard["thresholds_mb"] == {"warn": 250, "hold": 200, "stop": 150, "stop_now": 100, "kill": 50}


def test_a_wrong_rule_is_one_sentence(new_house: Callable[..., House]) -> None:
    house = new_house("[tool.fedtui.memory]\nreserve = 5\n")
    house.open()
    assert "[tool.fedtui.memory] has no key reserve: did you mean reserve-mb?" in house.refused("/v1/up", 400)
    text = (house.root / "pyproject.toml").read_text()
    for line, words in (("stop-at = 2", "must not grow"), ('guard = "no"', "guard = 'no' is not allowed: it takes true or false")):
        (house.root / "pyproject.toml").write_text(text.replace("reserve = 5", line))
        assert words in house.refused("/v1/up", 400)
    assert os.listdir(house.project.logs) == [] if house.project.logs.exists() else True
