"""Commands about processes, with the real daemon and actors in place of server and clients."""
from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedtui.daemon.api import build
from tests.fedtui.conftest import REPOSITORY, Fedtui
from tests.fedtui.daemon.conftest import House

FIELDS = {"name", "role", "state", "pid", "status", "uptime_s", "restarts", "exit_code", "cause", "cpu_percent", "rss_mb", "pss_mb"}

Command = Callable[[Path], Fedtui]


class TestWithoutDaemon:
    def test_version_and_help_need_no_project(self, fedtui_in: Command, tmp_path: Path) -> None:
        cli = fedtui_in(tmp_path)
        assert re.fullmatch(r"fedtui \d+\.\d+.*\n", cli("--version").out)
        assert cli("--help").code == 0
        assert "Commands:" in cli("--help").out
        text = cli("up", "--help").out
        assert "[default:" in text and "\\[" not in text

    @pytest.mark.parametrize("words", [["nonsense"], ["up", "--clients", "0"], ["start"], ["ps", "--nonsense"], ["config", "get", "sede"], ["--project"], ["--project", "~nobody.here", "ps"]])
    def test_wrong_use_ends_with_2(self, alone: Fedtui, words: list[str]) -> None:
        done = alone(*words)
        assert (done.code, done.out) == (2, "")
        assert "Traceback" not in done.err

    def test_no_project_is_one_sentence(self, fedtui_in: Command, tmp_path: Path) -> None:
        done = fedtui_in(tmp_path)("ps")
        assert done.code == 2
        assert done.err.count("\n") == 1
        assert "--project DIR" in done.err

    def test_project_may_stand_before_or_behind_the_command(self, alone: Fedtui, fedtui_in: Command, tmp_path: Path) -> None:
        elsewhere = fedtui_in(tmp_path)
        for words in (["--project", alone.folder, "info", "--json"], ["info", "--json", f"--project={alone.folder}"]):
            assert elsewhere(*words).json["project"] == str(alone.folder)

    def test_info_starts_no_daemon_and_names_it_when_there_is_one(self, alone: Fedtui) -> None:
        before = alone("info", "--json").json
        assert before["daemon_pid"] is None
        assert not Path(before["socket"]).exists()
        assert alone("ps").code == 0
        pid = alone("info", "--json").json["daemon_pid"]
        assert Path(f"/proc/{pid}").exists()

    def test_twenty_commands_at_once_start_one_daemon(self, alone: Fedtui) -> None:
        commands = [alone.start("ps", "--json") for _ in range(20)]
        done = [alone.end(command) for command in commands]
        assert {(one.code, one.err) for one in done} == {(0, "")}
        log = Path(alone("info", "--json").json["daemon_log"]).read_text()
        assert log.count(" for ") == 1

    def test_the_daemon_has_a_session_of_its_own_and_down_ends_it(self, alone: Fedtui, until: Callable[..., None]) -> None:
        alone("ps")
        pid = alone("info", "--json").json["daemon_pid"]
        assert os.getsid(pid) == pid
        assert alone("down", "--json").json == {"stopped": []}
        until(lambda: not Path(f"/proc/{pid}/exe").exists(), 10, "the daemon's end")
        assert alone("info", "--json").json["daemon_pid"] is None

    def test_a_daemon_that_cannot_start_is_explained(self, alone: Fedtui) -> None:
        state = Path(alone("info", "--json").json["state_dir"])
        (state / "lock").mkdir()
        done = alone("ps")
        assert done.code == 1
        assert "the daemon did not start" in done.err
        assert "daemon.log" in done.err

    def test_ps_imports_nothing_heavy(self, alone: Fedtui) -> None:
        heavy = ("textual", "plotext", "numpy", "httpx", "tensorflow", "flwr", "rich", "tomlkit", "psutil", "pydantic", "starlette")
        code = f"""
import sys
sys.argv = ["fedtui", "ps"]
from fedtui.__main__ import main
try:
    main()
finally:
    print([name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=alone.folder, env=alone.environment, capture_output=True, text=True)
        assert done.stderr == "[]\n"

    def test_completion_offers_commands(self, alone: Fedtui) -> None:
        done = alone(_FEDTUI_COMPLETE="complete_bash", COMP_WORDS="fedtui do", COMP_CWORD="1")
        assert done.out.split() == ["down", "doctor"]
        names = {"_FEDTUI_COMPLETE": "complete_bash", "COMP_WORDS": "fedtui start ", "COMP_CWORD": "2"}
        assert alone(**names).out.split() == ["server", "C1", "C2"]
        alone.folder = alone.folder.parent  # no project
        done = alone(**names)
        assert (done.code, done.out.split(), done.err) == (0, [], "")
        alone.folder /= "alone"


class TestProcesses:
    def test_up_returns_when_all_are_ready_and_down_leaves_nothing(self, cli: Fedtui, house: House) -> None:
        done = cli("up")
        assert done.code == 0, done.err
        assert done.out == ""
        rows = cli("ps", "--json").json
        assert [row["name"] for row in rows] == ["server", "C1", "C2"]
        assert all(row.keys() >= FIELDS for row in rows)
        assert {row["state"] for row in rows} <= {"ready", "running"}
        table = cli("ps").out
        assert re.search(r"^C1 +\w+ +\d+ .* host +round 3 of 10$", table, re.MULTILINE)
        assert cli("down").code == 0
        assert house.alive() == set()

    def test_up_again_changes_nothing(self, cli: Fedtui) -> None:
        cli("up")
        before = {row["name"]: row["pid"] for row in cli("ps", "--json").json}
        assert cli("up").code == 0
        assert {row["name"]: row["pid"] for row in cli("ps", "--json").json} == before

    def test_one_process_after_the_other(self, cli: Fedtui) -> None:
        def row(name: str) -> dict[str, object]:
            return next(row for row in cli("ps", "--json").json if row["name"] == name)

        assert cli("start", "C1").code == 0
        first = row("C1")["pid"]
        assert first
        assert cli("restart", "C1", "--json").json[0]["name"] == "C1"
        assert row("C1")["pid"] not in (None, first)
        assert cli("stop", "C1", "C2").code == 0
        assert row("C1")["state"] == "stopped"
        cli("start", "C2")
        assert cli("kill", "C2").code == 0
        assert row("C2")["state"] == "stopped"

    def test_an_unknown_name_is_wrong_use_and_keeps_no_other_from_it(self, cli: Fedtui) -> None:
        done = cli("start", "C9", "C1")
        assert done.code == 2
        assert "C9" in done.err
        assert next(row for row in cli("ps", "--json").json if row["name"] == "C1")["pid"]

    def test_up_waits_for_all_that_it_starts_unless_told_otherwise(self, cli: Fedtui, house: House) -> None:
        def run_config() -> str:
            pid = house.ps()["server"]["pid"]
            return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[-2]

        assert "all 4 clients" in cli("up", "--clients", "4", "--rounds", "7", "--set", "batch-size=8").err
        assert set(run_config().split()) == {"num-server-rounds=7", "batch-size=8", "start-clients=4"}
        assert {"C1", "C2", "C3", "C4"} <= house.ps().keys()
        cli("stop", "server")
        cli("up", "--clients", "4", "--set", "min-available-clients=1", FRACTION_FIT="0.5")
        assert set(run_config().split()) == {"min-available-clients=1", "fraction-fit=0.5"}

    def test_up_refuses_a_wrong_value_before_anything_starts(self, cli: Fedtui, house: House) -> None:
        for word in ("batch-size=0", "batchsize=8", "learning-rate=nan", "threads=2", "nothing"):
            assert cli("up", "--set", word).code == 2
        assert house.alive() == set()

    def test_a_failure_ends_up_with_1_and_shows_the_cause(self, cli: Fedtui, house: House) -> None:
        house.cast(C1="misconfigured")
        done = cli("up")
        assert done.code == 1
        assert "two or more different names" in done.err

    def test_not_ready_in_time_is_3_and_says_who(self, cli: Fedtui, house: House) -> None:
        house.cast(C1="slow")
        done = cli("up", "--timeout", "1")
        assert done.code == 3
        assert re.search(r"not ready within .*C1 \(starting", done.err)
        (house.root / "go").touch()
        assert cli("up").code == 0

    @pytest.mark.parametrize(("written", "code"), [("0", 0), ("1", 1)])
    def test_wait_ends_with_the_outcome(self, cli: Fedtui, house: House, until: Callable[..., None], written: str, code: int) -> None:
        house.cast(server="ends")
        waiting = cli.start("up", "--wait", "--json")
        until(lambda: house.ps()["C2"]["state"] == "running", 20, "C2")
        (house.root / "end").write_text(written)
        done = cli.end(waiting)
        assert done.code == code, done.err
        assert done.json["exit_code"] == code

    def test_wait_outlives_the_daemon(self, cli: Fedtui, house: House, until: Callable[..., None]) -> None:
        house.cast(server="ends")
        waiting = cli.start("up", "--wait")
        until(lambda: house.ps()["C2"]["state"] == "running", 20, "C2")
        until(lambda: house.project.processes_file.read_text().count('"running"') == 2, 20, "a record of both")
        try:
            house.daemons[0].kill()
            until(lambda: cli("info", "--json").json["daemon_pid"] not in (None, house.daemons[0].pid), 20, "another daemon")
            (house.root / "end").write_text("0")
            assert cli.end(waiting).code == 0
        finally:
            cli("down")

    def test_ctrl_c_detaches_and_stops_nothing(self, cli: Fedtui, house: House, until: Callable[..., None]) -> None:
        waiting = cli.start("up", "--wait")
        until(lambda: house.ps()["C2"]["state"] == "running", 20, "C2")
        waiting.send_signal(signal.SIGINT)
        done = cli.end(waiting)
        assert done.code == 130
        assert "fedtui logs -f" in done.err
        assert "fedtui down" in done.err
        assert all(row["pid"] for row in house.ps().values())

    def test_wait_ends_when_another_shell_stops_everything(self, cli: Fedtui, house: House, until: Callable[..., None]) -> None:
        waiting = cli.start("up", "--wait")
        until(lambda: house.ps()["C2"]["state"] == "running", 20, "C2")
        cli("down")
        assert cli.end(waiting).code == 1
        assert cli("info", "--json").json["daemon_pid"] is None


def test_the_page_about_the_api_names_every_route() -> None:
    routes = {
        f"{method} {route.path}"  # type: ignore[attr-defined]
        for route in build(None, None, dict, lambda: None).routes  # type: ignore[arg-type]
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    written = set(re.findall(r"^\| `((?:GET|POST) \S+)` \|", (REPOSITORY / "docs" / "api.md").read_text(), re.MULTILINE))
    assert written == routes
