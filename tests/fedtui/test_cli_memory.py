"""`fedtui memory`, and what `up` says when not all clients fit."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.fedtui.conftest import Fedtui
from tests.fedtui.daemon.conftest import House
from tests.fedtui.daemon.guard.conftest import SmallMachine, small_machine

__all__ = ["small_machine"]

CREW = "".join(f'[tool.fedtui.clients.C{number}]\nenv = {{ OMP_NUM_THREADS = "1" }}\n' for number in (1, 2, 3))  # so each is a process of its own


def test_up_starts_what_fits_says_so_and_memory_shows_it(
    small_machine: Callable[..., tuple[House, SmallMachine]], fedtui_in: Callable[[Path], Fedtui]
) -> None:
    house, _ = small_machine(CREW, limit_mb=1300)  # bare clients need 450 MB each, their server 150, the reserve is 200
    cli = fedtui_in(house.root)
    assert cli("memory").err.strip() == "nothing runs; `fedtui up` starts the federation"
    assert "not decided anything yet" in cli("memory", "--history").err

    done = cli("up")
    assert done.code == 0, done.err
    assert "ready, but for C3." in done.err
    assert "2 of 3 clients fit into memory now; C3 starts when there is room (--force starts all)" in done.err
    assert "C3: held: starting C3 needs about 450 MB of memory" in done.err

    shown = cli("memory")
    lines = shown.out.splitlines()
    assert lines[0].endswith("no swap") and " of the machine's 1.3 GB are left" in lines[0] and "of which what runs will still take" in lines[0]
    assert lines[1] == "memory guard: there is room; starts leave 200 MB, it warns below 250, stops clients below 150, at once below 100, kills below 50 MB"
    row = next(line for line in lines if line.startswith("C1 "))
    assert "450 MB" in row and row.count(" MB") >= 4
    assert next(line for line in lines if line.startswith("C3 ")).split()[1:4] == ["held:", "starting", "C3"]

    found = cli("memory", "--json").json
    assert found["held"][0]["waits_for"] == "memory" and found["guard"]["state"] == "on"
    (decision,) = cli("memory", "--history", "--json").json
    assert (decision["action"], decision["process"]) == ("hold", "C3") and decision["machine"]["total_mb"] == 1300
    assert "hold" in cli("memory", "--history").out

    assert cli("start", "C3", "--force").code == 0
    assert house.reach("running", "C3")
