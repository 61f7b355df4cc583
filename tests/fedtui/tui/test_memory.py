"""Memory: what each process uses over time, against the limit, and what stopping it would free."""
from __future__ import annotations

import sys
import time
import types
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.style import Style

from fedtui.gpu import Gpu, Gpus
from fedtui.project import Project
from fedtui.tui.app import FedApp
from fedtui.tui.widgets.stack_chart import EMPTY, CellOf, Layer, StackChart, _stack
from tests.fedtui.tui.conftest import House, Screen
from tests.fedtui.tui.test_overview import news, process

Interface = Callable[..., FedApp]
MACHINE = {"total_mb": 16384.0, "available_mb": 9000.0, "limit_mb": None, "swap_total_mb": 0.0, "swap_used_mb": 0.0, "pressure": None}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "pyproject.toml").write_text('[tool.flwr.app]\npublisher = "test"\n')
    return Project.find(tmp_path)


def sizes(name: str, pss: float, uss: float, swap: float = 0.0) -> dict[str, Any]:
    return {"name": name, "rss_mb": pss * 2, "pss_mb": pss, "use_mb": pss, "uss_mb": uss, "swap_mb": swap}


def two(**machine: Any) -> dict[str, Any]:
    memory = {"machine": {**MACHINE, **machine}, "processes": [sizes("server", 90.0, 70.0), sizes("C1", 430.0, 331.0, swap=12.0)]}
    return news(process("server", pss_mb=90.0), process("C1", pss_mb=430.0), process("C2", "stopped", pss_mb=None, rss_mb=None)) | {"memory": memory}


def guarded(step: str, **guard: Any) -> dict[str, Any]:
    """As `two`, with what the daemon says of its guard."""
    bounds = {"warn": 1024.0, "hold": 819.2, "stop": 614.4, "stop_now": 409.6, "kill": 204.8}
    found = two()
    found["memory"]["guard"] = {"state": "on", "step": step, "auto_return": True, "thresholds_mb": bounds, "reserve_mb": 819.2, "promised_mb": 0.0, "forecasts": [], "last": [], **guard}
    return found


def at_memory(interface: Interface, project: Project, script: Callable[[Screen], Any], size: tuple[int, int] = (120, 40), **options: Any) -> None:
    async def go(screen: Screen) -> None:
        await screen.app.action_go("memory")
        await script(screen)

    interface(project, go, size, live=False, **options)


def row(screen: Screen, name: str) -> list[str]:
    return next((line.replace("│", " ").split() for line in screen.lines if f"■  {name} " in line), [])


class TestPane:
    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
    def test_each_process_is_told_with_what_stopping_it_frees(self, project: Project, interface: Interface, size: tuple[int, int]) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(two())
            await screen.shows("free 8.8 GB", "federation 520 MB", "16.0 GB in this machine", "USES (PSS)", "STOPPING FREES")
            assert row(screen, "server")[2:] == ["server", "90", "MB", "70", "MB", "180", "MB"]
            assert row(screen, "C1")[1:8] == ["C1", "430", "MB", "331", "MB", "860", "MB"]
            assert "Processes  520 MB together" in screen.text
            assert not row(screen, "C2")
            assert max(map(len, screen.lines)) == size[0] and len(screen.lines) == size[1]

        at_memory(interface, project, script, size)

    def test_a_limit_is_told_and_drawn_once_it_is_near(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(two(limit_mb=8192.0))
            await screen.shows("limit 8.0 GB (of the cgroup)")
            assert "╌" not in screen.text
            screen.app.show_news(two(limit_mb=600.0, pressure={"avg10": 12.4, "avg60": 1.0, "avg300": 0.0}))
            await screen.shows("free 80 MB", "limit ", "╌╌╌", "stalled 12 % of the time")

        at_memory(interface, project, script)

    def test_the_guard_is_told_with_its_thresholds_decisions_and_forecasts(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(guarded("calm"))
            await screen.shows("guard: there is room", "starts leave 819 MB free", "clients stop below 614 MB", "┆")
            assert "memory is short" not in screen.text and "Memory guard" not in screen.text
            decision = {"time": 1_800_000_000.0, "action": "finish", "process": "C2", "reason": "it is the newest", "dry_run": False}
            forecast = {"process": "C1", "mb_a_round": 40.0, "round": 17, "text": "C1 grows 40 MB a round: reaches the limit about round 17"}
            news = guarded("stop", last=[decision], forecasts=[forecast])
            news["processes"][2] |= {"state": "held", "waits_for": "return", "reason": "stopped at its round's end by the memory guard"}
            screen.app.show_news(news)
            await screen.shows("guard: a client is stopped at its round's end", "finish C2: it is the newest", "memory is short", "grows 40 MB a round: reaches the limit")
            await screen.shows("held: stopped at its round's end by the memory guard")
            await screen.app.action_go("overview")
            await screen.shows("C2 held back for want of memory")

        at_memory(interface, project, script, (200, 50))

    @pytest.mark.parametrize("size", [(80, 24), (120, 40)])
    def test_what_the_guard_does_has_room_in_a_small_terminal(self, project: Project, interface: Interface, size: tuple[int, int]) -> None:
        async def script(screen: Screen) -> None:
            decision = {"time": 1_800_000_000.0, "action": "finish", "process": "C2", "reason": "it uses 900 MB, 300 more than expected", "dry_run": True}
            screen.app.show_news(guarded("kill", state="dry-run", last=[decision] * 5))
            await screen.shows("guard (dry run): a client is killed", "finish C2 (dry run): it", "USES (PSS)", "C1")
            assert max(map(len, screen.lines)) == size[0] and len(screen.lines) == size[1]

        at_memory(interface, project, script, size)

    def test_a_guard_that_is_off_and_a_kernel_that_tells_little_are_said(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            news = guarded("calm", state="off")
            news["memory"]["processes"][1] |= {"pss_mb": None, "use_mb": 860.0, "uss_mb": None, "swap_mb": None, "pss_refused": True}
            screen.app.show_news(news)
            await screen.shows("guard off", "does not tell what it shares")
            assert row(screen, "C1")[2:4] == ["860", "MB"]

        at_memory(interface, project, script)

    def test_what_clients_are_forked_from_has_a_row_and_no_keys(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            seen = two()
            seen["memory"]["processes"].append(sizes("client host", 290.0, 20.0))
            screen.app.show_news(seen)
            await screen.shows("810 MB together", "clients are forked from it")
            await screen.press("G", "enter")
            assert row(screen, "client host")[4:6] == ["290", "MB"] and (screen.app.place, screen.app.targets()) == ("memory", [])
            await screen.press("k")
            assert screen.app.targets() == ["C1"]

        at_memory(interface, project, script)

    def test_growth_and_swap_are_told(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            now = time.time()
            screen.app.store.history["C1"] = deque([(now - 400, 10.0), (now - 290, 400.0), (now - 1, 420.0)])
            screen.app.show_news(two())
            await screen.shows("+30 MB", "12 MB", "SWAP")

        at_memory(interface, project, script)

    def test_nothing_running_teaches_how_to_start(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("not measured yet")
            screen.app.show_news(news())
            await screen.shows("nothing runs", "u starts the federation")

        at_memory(interface, project, script, (80, 24))

    def test_keys_are_about_the_process_under_the_cursor(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(two())
            await screen.press("down")
            assert screen.app.store.selected == "C1"
            await screen.press("down")  # there is no other
            assert screen.app.store.selected == "C1"
            await screen.press("X")
            await screen.shows("Kill C1?")
            await screen.press("n", "g", "enter")
            assert (screen.app.place, screen.app.store.selected) == ("logs", "server")

        at_memory(interface, project, script)

    def test_real_processes_are_measured(self, house: House, interface: Interface) -> None:
        house.post("/v1/up")
        house.reach("running", "server", "C1", "C2")

        async def script(screen: Screen) -> None:
            await screen.app.action_go("memory")
            await screen.shows("■  server", "■  C1", "■  C2", "together")
            await screen.until(lambda: "█" in screen.text, "the chart")
            await screen.press("x")
            await screen.until(lambda: not row(screen, "server"), "the end of the server")

        interface(house.project, script)


class TestStack:
    def test_layers_lie_on_each_other_to_an_eighth_of_a_cell(self) -> None:
        assert _stack([8, 4, 8], 4) == [CellOf(0), CellOf(1, 2, 4), CellOf(2, EMPTY, 4), CellOf(EMPTY)]

    def test_of_three_layers_in_a_cell_the_two_largest_are_drawn(self) -> None:
        assert _stack([3, 1, 4], 1) == [CellOf(0, 2, 4)]

    def test_without_anything_all_is_empty(self) -> None:
        assert _stack([], 2) == [CellOf(EMPTY), CellOf(EMPTY)]

    def test_a_second_repaints_one_column_only(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(two())
            await screen.pilot.pause()
            chart = screen.app.query_one(StackChart)
            now = 1_800_000_000.0
            points = [(now - 300 + second, 100.0) for second in range(300)]
            chart.show([Layer("server", Style(color="blue"), points)], now, None)
            before = [list(column) for column in chart._cells]
            for second in range(10):
                points.append((now + second, 100.0))
                chart.show([Layer("server", Style(color="blue"), points)], now + second, None)
            changed = [x for x, (old, new) in enumerate(zip(before, chart._cells, strict=True)) if old != new]
            assert 1 <= len(changed) <= 3, changed

        at_memory(interface, project, script)


class FakeNvml(types.ModuleType):
    """NVML as far as it is asked: an H100 with one process, and a card that does not tell how busy it is."""

    class NVMLError(Exception):
        pass

    def __init__(self, driver: bool = True) -> None:
        super().__init__("pynvml")
        self.driver = driver

    def nvmlInit(self) -> None:
        if not self.driver:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return [b"NVIDIA H100", "NVIDIA A2"][handle]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return types.SimpleNamespace(used=4 << 30, total=80 << 30)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        if handle:
            raise self.NVMLError("Not Supported")
        return types.SimpleNamespace(gpu=45)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> Any:
        return [] if handle else [types.SimpleNamespace(pid=1, usedGpuMemory=3 << 30), types.SimpleNamespace(pid=2, usedGpuMemory=None)]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    yield fake


class TestGpu:
    def test_memory_is_read_with_what_each_process_uses(self, nvml: FakeNvml) -> None:
        assert Gpus().read() == [Gpu("NVIDIA H100", 4096.0, 81920.0, 45, {1: 3072.0, 2: 0.0}), Gpu("NVIDIA A2", 4096.0, 81920.0, None, {})]

    def test_absence_is_silent(self, monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml) -> None:
        nvml.driver = False
        assert Gpus().read() == []
        monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
        gpus = Gpus()
        assert gpus.read() == gpus.read() == []

    def test_it_is_shown_where_there_is_one(self, project: Project, interface: Interface, nvml: FakeNvml) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(two())
            await screen.shows("GPU memory", "NVIDIA H100", "4.0 GB of 80.0 GB  45 % busy", "NVIDIA A2")
            screen.app.show_news(two(available_mb=8000.0))
            await screen.until(lambda: "3.0 GB" in " ".join(row(screen, "C1")), "the client's part of it")

        at_memory(interface, project, script)

    def test_without_one_there_is_no_word_of_it(self, project: Project, interface: Interface, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", None)

        async def script(screen: Screen) -> None:
            screen.app.show_news(two())
            await screen.shows("federation 520 MB")
            await screen.pilot.pause(0.1)
            assert "GPU" not in screen.text

        at_memory(interface, project, script)
