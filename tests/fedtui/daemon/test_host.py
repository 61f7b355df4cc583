"""Clients forked from the client host: they are processes like any other, and do without it when it fails."""
from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import poweranger
from fedtui.daemon import host as client_host
from fedtui.daemon import placement, proc
from fedtui.daemon.host import ClientHost, HostFailed
from fedtui.daemon.oom import CLIENT_SCORE
from fedtui.daemon.placement import Placement, cards, place
from fedtui.daemon.process import Process
from fedtui.daemon.state import new_record
from fedtui.roster import Client

from .conftest import REPOSITORY, House

ACTOR_HOST = Path(__file__).with_name("actor_host.py")


def parent(pid: int) -> int:
    stat = proc.read_stat(pid)
    assert stat
    return stat.parent


def children(pid: int) -> list[str]:
    """Also its zombies."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_fork_looks_like_a_process_of_its_own(new_house: Callable[..., House]) -> None:
    house = new_house('[tool.fedtui.clients.C1.env]\nWARD = "north"\n[tool.fedtui.clients.C2]\n')
    house.open()
    house.post("/v1/up")
    ps = house.reach("running", "C1", "C2")
    assert (ps["C1"]["via"], ps["C2"]["via"], ps["server"]["via"]) == ("host", "host", "")
    first, second = ps["C1"]["pid"], ps["C2"]["pid"]
    host = parent(first)
    assert host == parent(second) != house.daemons[0].pid
    assert [os.getsid(pid) for pid in (first, second)] == [first, second]
    words = [word for word in Path(f"/proc/{first}/cmdline").read_bytes().decode().split("\0") if word]
    assert words[0] == sys.executable and words[2:] == ["C1", "works", str(house.root)]
    seen = Path(f"/proc/{first}/environ").read_text().split("\0")
    assert "WARD=north" in seen and f"FEDTUI_PROCESS={house.project.state}/C1" in seen
    assert "WARD=north" not in Path(f"/proc/{second}/environ").read_text()
    umask = next(line for line in Path(f"/proc/{first}/status").read_text().splitlines() if line.startswith("Umask"))
    assert umask.split()[1] == "0077"
    exposed = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (house.daemons[0].pid, host, first)]
    assert exposed[1:] == [exposed[0], min(exposed[0] + CLIENT_SCORE, 1000)]  # the kernel frees something only by a fork's end
    assert house.get("/v1/info")["client_host_pid"] == host
    sizes = {process["name"]: process for process in house.get("/v1/memory")["processes"]}
    assert sizes.keys() == {"server", "C1", "C2", "client host"} and sizes["client host"]["pss_mb"] > 0
    assert host not in house.alive()  # it is none of the project's processes: nobody stops it with them


def test_the_host_keeps_no_zombies_and_tells_how_each_has_ended(house: House) -> None:
    house.cast(C1="ends")
    house.post("/v1/up")
    ps = house.reach("ready", "C1")
    ps = house.reach("running", "C2")
    host = parent(ps["C2"]["pid"])
    (house.root / "end").write_text("7")
    house.until(lambda: house.ps()["C1"]["exit_code"] == 7, 10, "its exit code")
    os.kill(ps["C2"]["pid"], signal.SIGSEGV)
    house.until(lambda: house.ps()["C2"]["restarts"] == 1 and house.ps()["C2"]["state"] == "running", 20, "its restart")
    house.post("/v1/processes/C1/stop")
    house.until(lambda: children(host) == [str(house.ps()["C2"]["pid"])], 10, "the others reaped")


def test_clients_outlive_their_host_and_the_next_start_makes_a_new_one(house: House) -> None:
    house.post("/v1/up")
    pid = house.reach("running", "C1", "C2")["C1"]["pid"]
    host = parent(pid)
    os.kill(host, signal.SIGKILL)
    house.until(lambda: proc.identify(host) is None, 10, "the host's end")
    assert house.ps()["C1"]["state"] == "running" and house.ps()["C1"]["pid"] == pid
    house.post("/v1/processes/C2/restart")
    ps = house.reach("running", "C2")
    assert ps["C2"]["via"] == "host" and parent(ps["C2"]["pid"]) not in (host, house.daemons[0].pid)
    house.post("/v1/down")
    assert house.alive() == set() and house.ps()["C1"]["state"] == "stopped"


def test_the_host_ends_with_its_daemon_and_its_clients_do_not(house: House) -> None:
    house.post("/v1/up")
    pid = house.reach("running", "C1", "C2")["C1"]["pid"]
    host = proc.identify(parent(pid))
    house.daemons[0].kill()
    house.daemons[0].wait()
    assert host
    house.until(lambda: proc.identify(host.pid) != host, 10, "the host's end")
    assert proc.identify(pid)
    house.open()
    house.post("/v1/processes/C2/restart")
    ps = house.reach("running", "C1", "C2")
    assert ps["C1"]["pid"] == pid and ps["C2"]["via"] == "host"


def test_without_a_host_clients_are_processes_of_their_own_and_ps_says_why(new_house: Callable[..., House], tmp_path: Path) -> None:
    house = new_house('[tool.fedtui.clients.C1]\n[tool.fedtui.clients.C2.env]\nOMP_NUM_THREADS = "2"\n')
    (tmp_path / "broken.py").write_text("import no_such_library\n")
    house.cast(host=str(tmp_path / "broken.py"))
    daemon = house.open()
    house.post("/v1/up")
    ps = house.reach("running", "C1", "C2")
    assert ps["C1"]["via_reason"] == "the client host failed: ModuleNotFoundError: No module named 'no_such_library'"
    assert ps["C2"]["via_reason"] == "its env sets OMP_NUM_THREADS"
    assert {ps[name]["via"] for name in ("C1", "C2")} == {"process"}
    assert {parent(ps[name]["pid"]) for name in ("C1", "C2")} == {daemon.pid}


def test_a_start_that_waits_for_the_host_can_be_stopped(house: House, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(3600)\n")
    house.cast(host=str(tmp_path / "slow.py"))
    waiting = threading.Thread(target=house.post, args=("/v1/processes/C1/start",))
    waiting.start()
    house.until(lambda: house.ps()["C1"]["state"] == "starting", 10, "its start")
    assert house.post("/v1/processes/C1/stop")["state"] == "stopped"
    waiting.join(10)
    assert not waiting.is_alive() and house.alive() == set()
    assert house.post("/v1/processes/C1/kill")["state"] == "stopped"


@pytest.fixture
def forks(tmp_path: Path) -> Iterator[Callable[[], ClientHost]]:
    """`forks()` is a client host as the daemon has it, whose forks are actors; to be called in a loop."""
    made: list[ClientHost] = []

    def make() -> ClientHost:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        made.append(ClientHost([sys.executable, str(ACTOR_HOST)], environment, tmp_path, tmp_path / "host.log"))
        return made[-1]

    yield make
    for host in made:
        assert host.pid is None, "the test leaves a host behind"


def command(folder: Path) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("actor.py")), "C1", "works", str(folder)]


def test_what_was_not_told_to_begin_never_does(forks: Callable[[], ClientHost], tmp_path: Path) -> None:
    """As when the daemon dies between the fork and its note of it."""

    async def give_up() -> int:
        host = forks()
        with (tmp_path / "C1.log").open("wb") as log, contextlib.suppress(RuntimeError):
            async with host.fork(command(tmp_path), dict(os.environ), tmp_path, log.fileno()) as pid:
                ident = proc.identify(pid)
                raise RuntimeError
        assert ident and await proc.gone([ident], 10)
        host.close()
        return pid

    asyncio.run(give_up())
    assert (tmp_path / "C1.log").read_text() == ""


def test_what_a_fork_lacks_is_said(forks: Callable[[], ClientHost], tmp_path: Path) -> None:
    async def ask() -> None:
        host = forks()
        try:
            with (tmp_path / "C1.log").open("wb") as log, pytest.raises(HostFailed, match="No such file or directory: .*nowhere"):
                async with host.fork(command(tmp_path), dict(os.environ), tmp_path / "nowhere", log.fileno()):
                    pass
        finally:
            host.close()

    asyncio.run(ask())


def test_while_it_waits_for_the_host_a_client_takes_nothing(forks: Callable[[], ClientHost], tmp_path: Path) -> None:
    """What its last life took would count for the memory guard: as if it had grown already."""

    async def wait() -> None:
        host = forks()
        process = Process(new_record("C1"), tmp_path / "C1.log", "mark", lambda: None, lambda _: None)
        process.usage.rss_mb = 600.0
        process.spawn(command(tmp_path), dict(os.environ), tmp_path, host)
        assert process.usage.use_mb == 0
        await process.abandon()
        host.close()

    asyncio.run(wait())


def test_after_each_failure_in_a_row_it_is_left_alone_for_longer(forks: Callable[[], ClientHost], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(client_host, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def fail() -> None:
        host = forks()
        works, host._command = host._command, [sys.executable, "-c", "raise SystemExit('no library')", ""]
        with (tmp_path / "C1.log").open("wb") as log:
            for pause in (60, 120, 240):
                with pytest.raises(HostFailed, match="no library"):
                    async with host.fork(command(tmp_path), dict(os.environ), tmp_path, log.fileno()):
                        pass
                now[0] += pause - 1
                assert host.failure
                now[0] += 2
                assert not host.failure
            host._command = works
            with contextlib.suppress(RuntimeError):
                async with host.fork(command(tmp_path), dict(os.environ), tmp_path, log.fileno()):
                    raise RuntimeError
        assert host.pid
        host.close()

    asyncio.run(fail())


def test_a_host_that_nobody_needs_ends(forks: Callable[[], ClientHost], monkeypatch: pytest.MonkeyPatch) -> None:
    async def rest() -> None:
        host = forks()
        host.prepare()
        while host.pid is None:
            await asyncio.sleep(0.01)
        pid = host.pid
        host.tend(needed=False)
        assert host.pid == pid
        monkeypatch.setattr(client_host, "IDLE_S", 0.0)
        host.tend(needed=True)
        assert host.pid == pid
        host.tend(needed=False)
        assert host.pid is None and proc.identify(pid) is None

    asyncio.run(rest())


def test_changed_code_is_loaded_anew(forks: Callable[[], ClientHost], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module.py").touch()
    monkeypatch.setattr(poweranger, "__path__", [str(tmp_path)])

    async def change() -> None:
        host = forks()

        async def forked() -> int | None:
            with (tmp_path / "C1.log").open("wb") as log, contextlib.suppress(RuntimeError):
                async with host.fork(command(tmp_path), dict(os.environ), tmp_path, log.fileno()):
                    raise RuntimeError
            return host.pid

        first = await forked()
        assert await forked() == first
        os.utime(tmp_path / "module.py", (2e9, 2e9))
        assert await forked() not in (None, first)
        host.close()

    asyncio.run(change())


def test_it_is_not_to_be_started_by_hand() -> None:
    answer = subprocess.run([sys.executable, "-m", "poweranger.client.host"], cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1 and "standalone_client" in answer.stderr


def test_threads_of_a_library_forbid_forks() -> None:
    program = (
        "import socket, threading\nfrom poweranger.client import host\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\nhost.serve(socket.socket(fileno=0))"
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        answer = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, stdin=theirs, capture_output=True, text=True, timeout=60)
        theirs.close()
        assert ours.recv(16) == b"" and "cannot be forked" in answer.stderr.splitlines()[-1]


def test_cards_go_round_and_a_client_s_own_wins() -> None:
    taken: list[str] = []
    for number in range(5):
        placed = place(Client(f"C{number}"), True, ["0", "1"], taken)
        assert (placed.via, placed.reason) == (placement.PROCESS, "it has a GPU")
        assert placed.environment == {"CUDA_VISIBLE_DEVICES": placed.gpu, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        taken.append(placed.gpu)
    assert taken == ["0", "1", "0", "1", "0"]
    assert place(Client("C6"), True, ["0", "1"], ["1", "0", "0"]).gpu == "1"  # where one has left
    assert place(Client("C7", env={"CUDA_VISIBLE_DEVICES": "3,1"}), True, ["0", "1"], []).gpu == "3,1"
    assert place(Client("C8", env={"CUDA_VISIBLE_DEVICES": ""}), True, ["0"], []) == Placement(placement.HOST)
    assert place(Client("C9"), True, [], []) == Placement(placement.HOST)
    assert place(Client("C9"), False, [], []) == Placement(placement.PROCESS, "client-host = false")


@pytest.mark.parametrize(
    ("environment", "devices", "found"),
    [
        ({}, (), []),
        ({}, ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"), ["0", "1"]),
        ({"CUDA_VISIBLE_DEVICES": "2, 3"}, ("nvidia0",), ["2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1f,-1,0"}, ("nvidia0",), ["GPU-1f"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, ("nvidia0",), []),
    ],
)
def test_cards_of_the_machine(tmp_path: Path, environment: dict[str, str], devices: tuple[str, ...], found: list[str]) -> None:
    for name in devices:
        (tmp_path / name).touch()
    assert cards(environment, str(tmp_path)) == found
