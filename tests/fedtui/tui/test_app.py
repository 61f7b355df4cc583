"""Keys and manners, against a real daemon."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.fedtui.daemon.conftest import REPOSITORY, House
from tests.fedtui.tui.conftest import Screen

Interface = Callable[..., object]


class TestActions:
    def test_keys_start_stop_restart_and_kill_the_selected_process(self, house: House, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run", "stopped")
            await screen.press("s")
            await screen.until(lambda: "running" in screen.row("server"), "a running server")
            await screen.press("j", "s")
            await screen.until(lambda: "round 3 of 10" in screen.row("C1"), "what C1 is doing")
            first = house.ps()["C1"]["pid"]
            await screen.press("r")
            await screen.until(lambda: house.ps()["C1"]["pid"] not in (None, first), "another C1")
            await screen.shows("C1 restarted")
            await screen.press("X")
            await screen.shows("Kill C1?", "SIGKILL")
            await screen.press("escape")
            assert house.ps()["C1"]["pid"]
            await screen.press("X", "y")
            await screen.until(lambda: house.ps()["C1"]["state"] == "stopped", "the end of C1")
            await screen.press("k", "x")
            await screen.until(lambda: house.ps()["server"]["state"] == "stopped", "the end of the server")

        interface(house.project, script)

    def test_an_action_is_seen_at_once_while_it_takes_long(self, house: House, interface: Interface) -> None:
        house.cast(C1="ignores_term")
        house.post("/v1/processes/C1/start", force=True)

        async def script(screen: Screen) -> None:
            await screen.until(lambda: "ready" in screen.row("C1"), "C1")
            await screen.press("j", "x")
            assert "stopping" in screen.row("C1")  # before the daemon has answered
            await screen.until(lambda: "stopped" in screen.row("C1"), "the end of C1")

        interface(house.project, script)

    def test_marked_processes_are_acted_on_together(self, house: House, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run")
            await screen.press("u")
            await screen.shows("3 of 3 run")
            await screen.press("j", "space", "space", "x")
            house.reach("stopped", "C1", "C2")
            assert house.ps()["server"]["state"] == "running"
            await screen.press("escape")
            assert "■" not in screen.text

        interface(house.project, script)

    def test_all_up_and_all_down_which_asks(self, house: House, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run")
            await screen.press("u")
            await screen.shows("3 of 3 run", "the run begins when all 2 clients are there")
            await screen.press("D")
            await screen.shows("Stop everything?", "server, C1, C2")
            await screen.press("enter")  # the answer that has the focus is no
            await screen.hides("Stop everything?")
            assert house.ps()["C1"]["state"] == "running"
            await screen.press("D", "y")
            house.reach("stopped", "server", "C1", "C2")
            await screen.shows("everything has been stopped")

        interface(house.project, script)

    def test_the_palette_has_every_action(self, house: House, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run")
            await screen.press("colon")
            await screen.type("start C2")
            await screen.shows("Start C2", "fedtui start C2")
            await screen.press("enter")
            await screen.until(lambda: house.ps()["C2"]["state"] == "running", "C2")

        interface(house.project, script)

    def test_read_only_refuses_and_says_so(self, house: House, interface: Interface) -> None:
        house.post("/v1/up")
        house.reach("running", "server", "C1", "C2")
        before = {name: process["pid"] for name, process in house.ps().items()}

        async def script(screen: Screen) -> None:
            await screen.shows("3 of 3 run", "read-only")
            for key in ("x", "r", "X", "D", "u"):
                await screen.press(key)
                await screen.shows("--read-only")
            await screen.press("q")
            await screen.shows("leave them running")
            assert "stop all" not in screen.text

        interface(house.project, script, read_only=True)
        assert {name: process["pid"] for name, process in house.ps().items()} == before


class TestMessages:
    def test_a_failure_is_said_with_its_cause_and_remedy_and_stays_readable(self, house: House, interface: Interface) -> None:
        house.cast(C1="misconfigured")

        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run")
            await screen.press("j", "s")
            await screen.shows("C1 has failed", "needs two or more different names", "l shows its log")
            await screen.until(lambda: "failed" in screen.row("C1"), "the state in the table")
            screen.app.clear_notifications()
            await screen.hides("l shows its log")
            await screen.press("m")
            await screen.shows("Messages", "C1 has failed", "l shows its log")
            await screen.press("escape")
            await screen.hides("Messages")

        interface(house.project, script)

    def test_what_the_daemon_refuses_is_said(self, house: House, interface: Interface) -> None:
        house.project.pyproject.write_text("[tool.flwr.app]\n[tool.fedtui]\nidle-exit = 'never'\n")

        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run")
            await screen.press("u")
            await screen.shows("idle-exit = 'never' is not allowed")

        interface(house.project, script)


class TestPlaces:
    def test_keys_and_the_mouse_lead_to_every_place(self, house: House, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run")
            for number, place in enumerate(("overview", "metrics", "rounds", "logs", "memory", "config", "runs"), 1):
                await screen.press(str(number))
                await screen.until(lambda place=place: screen.app.place == place, place)
            await screen.pilot.click("TopBar", offset=(2, 0))
            await screen.until(lambda: screen.app.place == "overview", "the overview")
            await screen.press("l")
            await screen.until(lambda: screen.app.place == "logs", "logs")

        interface(house.project, script)


class TestHelp:
    def test_it_names_the_keys_of_the_place_and_those_of_everywhere(self, house: House, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run")
            await screen.press("question_mark")
            await screen.shows("Help: Overview")
            for line in ("down j", "space            mark", "/                filter", "u                all up", "ctrl+c           copy or quit"):
                assert line in screen.text.replace("│", ""), line
            await screen.press("escape")
            assert "Help: Overview" not in screen.text

        interface(house.project, script)

    def test_the_bottom_line_offers_only_keys_that_work(self, house: House, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run", "s start")
            assert "x stop" not in screen.lines[-1] and "D all down" not in screen.lines[-1]
            await screen.press("s")
            await screen.until(lambda: "x stop" in screen.lines[-1] and "s start" not in screen.lines[-1], "the key that stops")
            assert "? help" in screen.lines[-1] and "q quit" in screen.lines[-1]

        interface(house.project, script)


class TestLeaving:
    def test_with_nothing_running_it_just_closes(self, house: House, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run")
            await screen.press("escape")
            assert screen.app.is_running
            await screen.press("q")

        assert interface(house.project, script).return_code == 0  # type: ignore[attr-defined]

    def test_what_runs_goes_on_by_default(self, house: House, interface: Interface) -> None:
        house.post("/v1/up")
        house.reach("running", "server", "C1", "C2")

        async def script(screen: Screen) -> None:
            await screen.shows("3 of 3 run")
            await screen.press("ctrl+c")
            await screen.shows("Quit?", "server, C1, C2 go on")
            await screen.press("escape")
            await screen.hides("Quit?")
            await screen.press("q", "enter")

        app = interface(house.project, script)
        assert app.return_code == 0 and app.goes_on == ["server", "C1", "C2"]  # type: ignore[attr-defined]
        assert {process["state"] for process in house.ps().values()} == {"running"}

    def test_or_is_stopped_first(self, house: House, interface: Interface) -> None:
        house.post("/v1/up")
        house.reach("running", "server", "C1", "C2")

        async def script(screen: Screen) -> None:
            await screen.shows("3 of 3 run")
            await screen.press("q", "D")
            await screen.until(lambda: screen.app.return_code == 0, "the end")

        assert not interface(house.project, script).goes_on  # type: ignore[attr-defined]
        assert {process["state"] for process in house.ps().values()} == {"stopped"}

    def test_one_finds_things_as_one_left_them(self, house: House, interface: Interface) -> None:
        async def leave(screen: Screen) -> None:
            await screen.shows("0 of 3 run")
            await screen.press("G", "slash")
            await screen.type("C")
            await screen.press("enter", "q")

        async def come_back(screen: Screen) -> None:
            await screen.shows("0 of 3 run", "filter: C")
            assert "▸ C2" in screen.text and "server " not in "".join(screen.lines[6:10])

        interface(house.project, leave)
        interface(house.project, come_back)

    def test_a_damaged_memory_is_as_good_as_none(self, house: House, interface: Interface) -> None:
        path = house.project.state / "tui.json"

        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run")

        for content in (b"\xff{", b"[]", b'{"panes": 3}', json.dumps({"place": ["x"], "theme": 5, "panes": {"overview": {"filter": None, "lower": 7}}}).encode()):
            path.write_bytes(content)
            interface(house.project, script)


class TestDaemon:
    def test_a_killed_daemon_is_said_and_its_processes_are_found_again(
        self, house: House, interface: Interface, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # the next daemon is started by the interface
        house.post("/v1/up")
        before = {name: process["pid"] for name, process in house.reach("running", "server", "C1", "C2").items()}

        async def script(screen: Screen) -> None:
            await screen.shows("3 of 3 run")
            house.daemons[0].kill()
            house.daemons[0].wait()
            await screen.shows("another one has taken over")
            await screen.until(lambda: "daemon lost" not in screen.text and "3 of 3 run" in screen.text, "recovery")

        interface(house.project, script)
        assert {name: process["pid"] for name, process in house.ps().items()} == before
        house.post("/v1/shutdown", stop=True)

    def test_a_frozen_daemon_holds_up_no_key(self, house: House, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run")
            os.kill(house.daemons[0].pid, signal.SIGSTOP)
            try:
                await screen.press("j", "question_mark")
                assert "Help: Overview" in screen.text
            finally:
                os.kill(house.daemons[0].pid, signal.SIGCONT)

        interface(house.project, script)

    def test_one_that_was_ended_stays_ended_until_something_is_started(self, house: House, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("0 of 3 run")
            house.post("/v1/shutdown")
            house.daemons[0].wait()
            await screen.shows("the daemon has been ended", "u starts everything again", "daemon lost")
            assert not house.project.socket.exists()

        interface(house.project, script)


def test_neither_flower_nor_tensorflow_is_imported(house: House) -> None:
    code = """
import asyncio, sys
from fedtui.project import Project
from fedtui.tui.app import FedApp
from fedtui.tui.store import Looker

async def main():
    project = Project.find()
    app = FedApp(project, look=Looker(project).look)
    async with app.run_test() as pilot:
        for place in app.places:
            await app.action_go(place)
            await pilot.pause()
        while not app.store.loaded:
            await pilot.pause(0.05)

asyncio.run(main())
print(sorted({name.split(".")[0] for name in sys.modules} & {"flwr", "tensorflow", "keras", "grpc", "ray"}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=house.root, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
