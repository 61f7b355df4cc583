"""Commands, as processes, with the real daemon and actors in place of server and clients."""
from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedtui.cli import doctor
from fedtui.cli.clients import stored_path
from fedtui.daemon.api import build
from poweranger.errors import UserError
from tests.fedtui.conftest import REPOSITORY, Fedtui
from tests.fedtui.daemon.conftest import House, house, new_house  # noqa: F401

FIELDS = {"name", "role", "state", "pid", "status", "uptime_s", "restarts", "exit_code", "cause", "cpu_percent", "rss_mb", "pss_mb"}
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
EVIL = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\u202eevil\u2066\u200b\x00"

Command = Callable[[Path], Fedtui]


@pytest.fixture
def cli(house: House, fedtui_in: Command) -> Fedtui:  # noqa: F811
    """The command in a project with C1 and C2 and a running daemon."""
    return fedtui_in(house.root)


@pytest.fixture
def alone(tmp_path: Path, fedtui_in: Command) -> Iterator[Fedtui]:
    """The command in a project without a daemon; one that a command starts is ended."""
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "pyproject.toml").write_text('[tool.flwr.app]\npublisher = "test"\n')
    cli = fedtui_in(tmp_path / "alone")
    yield cli
    cli("down")


class TestWithoutDaemon:
    def test_version_and_help_need_no_project(self, fedtui_in: Command, tmp_path: Path) -> None:
        cli = fedtui_in(tmp_path)
        assert re.fullmatch(r"fedtui \d+\.\d+.*\n", cli("--version").out)
        assert cli().code == 0
        assert "Commands:" in cli().out

    @pytest.mark.parametrize("words", [["nonsense"], ["up", "--clients", "0"], ["start"], ["ps", "--nonsense"], ["config", "get", "sede"]])
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


class TestProcesses:
    def test_up_returns_when_all_are_ready_and_down_leaves_nothing(self, cli: Fedtui, house: House) -> None:  # noqa: F811
        done = cli("up")
        assert done.code == 0, done.err
        assert done.out == ""
        rows = cli("ps", "--json").json
        assert [row["name"] for row in rows] == ["server", "C1", "C2"]
        assert all(row.keys() >= FIELDS for row in rows)
        assert {row["state"] for row in rows} <= {"ready", "running"}
        table = cli("ps").out
        assert re.search(r"^C1 +\w+ +\d+ .*round 3 of 10$", table, re.MULTILINE)
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

    def test_up_waits_for_all_that_it_starts_unless_told_otherwise(self, cli: Fedtui, house: House) -> None:  # noqa: F811
        def run_config() -> str:
            pid = house.ps()["server"]["pid"]
            return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[-2]

        assert "all 4 clients" in cli("up", "--clients", "4", "--rounds", "7", "--set", "batch-size=8").err
        assert set(run_config().split()) == {"num-server-rounds=7", "batch-size=8", "min-available-clients=4"}
        assert {"C1", "C2", "C3", "C4"} <= house.ps().keys()
        cli("stop", "server")
        cli("up", "--clients", "4", "--set", "min-available-clients=1", FRACTION_FIT="0.5")
        assert set(run_config().split()) == {"min-available-clients=1", "fraction-fit=0.5"}

    def test_up_refuses_a_wrong_value_before_anything_starts(self, cli: Fedtui, house: House) -> None:  # noqa: F811
        for word in ("batch-size=0", "batchsize=8", "learning-rate=nan", "threads=2", "nothing"):
            assert cli("up", "--set", word).code == 2
        assert house.alive() == set()

    def test_a_failure_ends_up_with_1_and_shows_the_cause(self, cli: Fedtui, house: House) -> None:  # noqa: F811
        house.cast(C1="misconfigured")
        done = cli("up")
        assert done.code == 1
        assert "two or more different names" in done.err

    def test_not_ready_in_time_is_3_and_says_who(self, cli: Fedtui, house: House) -> None:  # noqa: F811
        house.cast(C1="slow")
        done = cli("up", "--timeout", "1")
        assert done.code == 3
        assert re.search(r"not ready within .*C1 \(starting", done.err)
        (house.root / "go").touch()
        assert cli("up").code == 0

    @pytest.mark.parametrize(("written", "code"), [("0", 0), ("1", 1)])
    def test_wait_ends_with_the_outcome(self, cli: Fedtui, house: House, until: Callable[..., None], written: str, code: int) -> None:  # noqa: F811
        house.cast(server="ends")
        waiting = cli.start("up", "--wait", "--json")
        until(lambda: house.ps()["C2"]["state"] == "running", 20, "C2")
        (house.root / "end").write_text(written)
        done = cli.end(waiting)
        assert done.code == code, done.err
        assert done.json["exit_code"] == code

    def test_wait_outlives_the_daemon(self, cli: Fedtui, house: House, until: Callable[..., None]) -> None:  # noqa: F811
        house.cast(server="ends")
        waiting = cli.start("up", "--wait")
        until(lambda: house.ps()["C2"]["state"] == "running", 20, "C2")
        until(lambda: house.project.processes_file.read_text().count('"running"') == 2, 20, "a record of both")
        house.daemons[0].kill()
        until(lambda: cli("info", "--json").json["daemon_pid"] not in (None, house.daemons[0].pid), 20, "another daemon")
        (house.root / "end").write_text("0")
        assert cli.end(waiting).code == 0
        cli("down")

    def test_ctrl_c_detaches_and_stops_nothing(self, cli: Fedtui, house: House, until: Callable[..., None]) -> None:  # noqa: F811
        waiting = cli.start("up", "--wait")
        until(lambda: house.ps()["C2"]["state"] == "running", 20, "C2")
        waiting.send_signal(signal.SIGINT)
        done = cli.end(waiting)
        assert done.code == 130
        assert "fedtui logs -f" in done.err
        assert "fedtui down" in done.err
        assert all(row["pid"] for row in house.ps().values())

    def test_wait_ends_when_another_shell_stops_everything(self, cli: Fedtui, house: House, until: Callable[..., None]) -> None:  # noqa: F811
        waiting = cli.start("up", "--wait")
        until(lambda: house.ps()["C2"]["state"] == "running", 20, "C2")
        cli("down")
        assert cli.end(waiting).code == 1
        assert cli("info", "--json").json["daemon_pid"] is None


class TestLogs:
    @pytest.fixture
    def logs(self, alone: Fedtui) -> Path:
        folder = alone.folder / "results" / "logs"
        folder.mkdir(parents=True)
        (folder / "server.log").write_text("2026-01-01 10:00:00 round 1\n2026-01-01 10:00:04 ERROR round 2\n")
        (folder / "C1.log").write_text("2026-01-01 10:00:02 trains\n  with care\n2026-01-01 10:00:09 done\n")
        return folder

    def test_several_are_merged_in_time_order(self, alone: Fedtui, logs: Path) -> None:
        lines = alone("logs").out.splitlines()
        assert [line.split("|")[0].strip() for line in lines] == ["server", "C1", "C1", "server", "C1"]
        assert [row["name"] for row in alone("logs", "--json").json] == ["server", "C1", "C1", "server", "C1"]

    def test_selections(self, alone: Fedtui, logs: Path) -> None:
        assert alone("logs", "server").out.splitlines()[0] == "2026-01-01 10:00:00 round 1"
        assert alone("logs", "C1", "-n", "1").out == "2026-01-01 10:00:09 done\n"
        assert len(alone("logs", "--grep", "round|done").out.splitlines()) == 3
        assert len(alone("logs", "--since", "2026-01-01 10:00:04").out.splitlines()) == 2
        assert alone("logs", "-n", "2", "--grep", "round").out.count("round") == 2

    @pytest.mark.parametrize("words", [["--grep", "("], ["--since", "yesterday"], ["C7"], ["../server"]])
    def test_wrong_selections_are_one_sentence(self, alone: Fedtui, logs: Path, words: list[str]) -> None:
        done = alone("logs", *words)
        assert (done.code, done.out) == (2, "")
        assert done.err.count("\n") == 1

    def test_follow_shows_what_comes_also_from_a_new_log(self, alone: Fedtui, logs: Path) -> None:
        process = alone.start("logs", "-f", "-n", "1", "--json")
        assert process.stdout
        assert json.loads(process.stdout.readline())["line"].endswith("done")
        with (logs / "C1.log").open("a") as file:
            file.write("later\n")
        assert json.loads(process.stdout.readline()) == {"name": "C1", "line": "later"}
        (logs / "C2.log").write_text("born\n")
        assert json.loads(process.stdout.readline()) == {"name": "C2", "line": "born"}
        process.send_signal(signal.SIGINT)
        assert alone.end(process).code == 130


class TestConfig:
    def test_set_get_unset_and_diff(self, alone: Fedtui) -> None:
        assert alone("config", "set", "batch-size=8", "augment=false").code == 0
        assert alone("config", "set", "num-server-rounds", "5").code == 0
        assert alone("config", "get", "batch-size", "augment").out == "8\nfalse\n"
        assert alone("config", "get", "batch-size", "--json").json == {"batch-size": 8}
        assert {row["key"] for row in alone("config", "diff", "--json").json} == {"batch-size", "augment", "num-server-rounds"}
        assert alone("config", "unset", "batch-size").code == 0
        assert alone("config", "get", "batch-size").out == "16\n"
        assert len(alone("config", "list", "--json").json) > 30

    def test_all_or_nothing(self, alone: Fedtui) -> None:
        before = (alone.folder / "pyproject.toml").read_bytes()
        for words in (["batch-size=8", "seed=-1"], ["bach-size=8"], ["seed"], ["seed=1", "seed=2"], ["learning-rate=nan"]):
            done = alone("config", "set", *words)
            assert done.code == 2
            assert done.err.count("\n") == 1
        assert "batch-size" in alone("config", "set", "bach-size=8").err
        assert (alone.folder / "pyproject.toml").read_bytes() == before

    def test_says_what_must_be_restarted(self, cli: Fedtui) -> None:
        cli("up")
        assert cli("config", "set", "batch-size=8", "--json").json == {"changed": ["batch-size"], "need_restart": ["server"]}
        assert "fedtui restart C1 C2" in cli("config", "set", "threads=2").err

    def test_roster(self, alone: Fedtui) -> None:
        assert [row["name"] for row in alone("client", "list", "--json").json] == ["C1", "C2"]
        (alone.folder / "site a").mkdir()
        assert alone("client", "add", "A", "--data-dir", "site a", "--env", "THREADS=2").code == 0
        assert alone("client", "list", "--json").json == [
            {"name": "A", "data_dir": str(alone.folder / "site a"), "env": {"THREADS": "2"}, "exists": True}
        ]
        assert alone("client", "add", "A").code == 2
        assert alone("client", "add", "B", "--data-dir", "nowhere").code == 2
        assert alone("client", "rm", "A").code == 0
        assert alone("client", "rm", "A").code == 2

    def test_a_running_client_is_not_removed(self, cli: Fedtui) -> None:
        cli("start", "C1")
        done = cli("client", "rm", "C1")
        assert done.code == 2
        assert "fedtui stop C1" in done.err

    def test_a_path_typed_elsewhere_means_the_same_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "project" / "data").mkdir(parents=True)
        (tmp_path / "other").mkdir()
        monkeypatch.chdir(tmp_path / "other")
        assert stored_path("../project/data", tmp_path / "project") == "data"
        assert stored_path(".", tmp_path / "project") == str(tmp_path / "other")
        with pytest.raises(UserError, match="does not exist"):
            stored_path("nothing", tmp_path)


class TestTerminal:
    def test_hostile_output_reaches_no_terminal(self, cli: Fedtui, house: House) -> None:  # noqa: F811
        house.cast(C1="prints_rubbish", server="prints_rubbish")
        seen = [cli("up", "--timeout", "5"), cli("ps"), cli("logs"), cli("logs", "C1", "--grep", "last"), cli("logs", "--json"), cli("stop", "C1")]
        assert "last words" in seen[0].err + seen[2].out
        for done in seen:
            assert not FORBIDDEN.search(done.out + done.err)
            assert max(map(len, (done.out + done.err).split("\n"))) < 5000

    def test_hostile_files_reach_no_terminal(self, alone: Fedtui) -> None:
        path = alone.folder / "pyproject.toml"
        path.write_text(f"[tool.flwr.app]\n[tool.fedtui.clients.C1]\nenv = {{ A = {json.dumps(EVIL[:-1])} }}\n")
        (alone.folder / "results" / "logs").mkdir(parents=True)
        (alone.folder / "results" / "logs" / f"{EVIL[1:-1]}.log".replace("/", "")).write_text(EVIL)
        for words in (["client", "list"], ["logs"], ["logs", "C1"]):
            done = alone(*words)
            assert "evil" in done.out + done.err
            assert not FORBIDDEN.search(done.out + done.err)

    @pytest.mark.parametrize(("environment", "coloured"), [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
    def test_colour_only_on_a_terminal_that_wants_it(self, alone: Fedtui, environment: dict[str, str], coloured: bool) -> None:
        assert "\x1b" not in alone("ps", **environment).out
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "fedtui", "ps"]
        subprocess.run(command, cwd=alone.folder, env=alone.environment | environment, stdin=slave, stdout=slave, stderr=slave, check=True)
        assert (b"\x1b[" in os.read(master, 65536)) == coloured
        os.close(master)
        os.close(slave)

    def test_a_closed_pipe_is_no_traceback(self, alone: Fedtui) -> None:
        process = alone.start("config", "list")
        assert process.stdout and process.stderr
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        process.stderr.close()
        process.wait()

    def test_a_terminal_without_unicode_is_served(self, alone: Fedtui) -> None:
        (alone.folder / "pyproject.toml").write_text('[tool.flwr.app.config]\nclasses = "Thrombozyt,Lymphozyt,Öd"\n')
        assert alone("config", "get", "classes", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii").out == "Thrombozyt,Lymphozyt,?d\n"


class TestDoctor:
    def test_every_finding_is_graded_and_every_bad_one_has_a_remedy(self, alone: Fedtui) -> None:
        done = alone("doctor", "--json", seconds=150)
        assert {row["name"] for row in done.json} >= {"Python", "packages", "TensorFlow", "GPU", "port", "disk", "memory", "log-out", "terminal"}
        assert all(row["state"] == "ok" or row["remedy"] for row in done.json)
        assert done.code == (1 if any(row["state"] == "fail" for row in done.json) else 0)

    def test_a_held_port_is_named(self, alone: Fedtui) -> None:
        import socket

        from fedtui.project import Project

        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            (alone.folder / "pyproject.toml").write_text(f'[tool.flwr.app]\n[tool.fedtui]\nserver-address = "127.0.0.1:{port}"\n')
            (finding,) = doctor.check_port(Project.find(alone.folder))
        assert finding.state == "fail"
        assert str(os.getpid()) in finding.detail

    @pytest.mark.parametrize(("main", "drop_in", "kills"), [("", "", False), ("KillUserProcesses=yes\n", "", True), ("KillUserProcesses=yes", "[Login]\nKillUserProcesses=no", False), ("#KillUserProcesses=yes", "", False)])
    def test_whether_log_out_ends_processes(self, tmp_path: Path, main: str, drop_in: str, kills: bool) -> None:
        folder = tmp_path / "etc" / "systemd" / "logind.conf.d"
        folder.mkdir(parents=True)
        (tmp_path / "etc" / "systemd" / "logind.conf").write_text(f"[Login]\n{main}")
        (folder / "a.conf").write_text(drop_in)
        assert doctor.kills_user_processes(tmp_path) == kills


def test_the_page_about_the_api_names_every_route() -> None:
    routes = {
        f"{method} {route.path}"  # type: ignore[attr-defined]
        for route in build(None, None, dict, lambda: None).routes  # type: ignore[arg-type]
        for method in route.methods - {"HEAD"}  # type: ignore[attr-defined]
    }
    written = set(re.findall(r"^\| `((?:GET|POST) \S+)` \|", (REPOSITORY / "docs" / "api.md").read_text(), re.MULTILINE))
    assert written == routes
