"""`config`, `client` and `doctor`."""
from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fedtui.cli import doctor
from fedtui.cli.clients import stored_path
from fedtui.project import Project
from poweranger.errors import UserError
from tests.fedtui.conftest import Fedtui


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
        assert "no KEY=VALUE pair" in alone("client", "add", "A", "--env", "THREADS", "--env", "2").err
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


class TestDoctor:
    def test_every_finding_is_graded_and_every_bad_one_has_a_remedy(self, alone: Fedtui) -> None:
        done = alone("doctor", "--json", seconds=150)
        assert {row["name"] for row in done.json} >= {"Python", "packages", "TensorFlow", "GPU", "port", "disk", "memory", "log-out", "terminal"}
        assert all(row["state"] == "ok" or row["remedy"] for row in done.json)
        assert done.code == (1 if any(row["state"] == "fail" for row in done.json) else 0)

    def test_a_held_port_is_named(self, alone: Fedtui) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            (alone.folder / "pyproject.toml").write_text(f'[tool.flwr.app]\n[tool.fedtui]\nserver-address = "127.0.0.1:{port}"\n')
            (finding,) = doctor.check_port(Project.find(alone.folder))
        assert finding.state == "fail"
        assert str(os.getpid()) in finding.detail

    def test_a_reserve_beyond_all_memory_is_wrong(self, alone: Fedtui) -> None:
        (alone.folder / "pyproject.toml").write_text("[tool.flwr.app]\n[tool.fedtui.memory]\nreserve-mb = 100000000\n")
        (finding,) = doctor.check_memory(Project.find(alone.folder))
        assert finding.state == "fail" and "reserve-mb = 100000000 lets no client run" in finding.detail and "set 0" in finding.remedy

    @pytest.mark.parametrize(("main", "drop_in", "kills"), [("", "", False), ("KillUserProcesses=yes\n", "", True), ("KillUserProcesses=yes", "[Login]\nKillUserProcesses=no", False), ("#KillUserProcesses=yes", "", False)])
    def test_whether_log_out_ends_processes(self, tmp_path: Path, main: str, drop_in: str, kills: bool) -> None:
        folder = tmp_path / "etc" / "systemd" / "logind.conf.d"
        folder.mkdir(parents=True)
        (tmp_path / "etc" / "systemd" / "logind.conf").write_text(f"[Login]\n{main}")
        (folder / "a.conf").write_text(drop_in)
        assert doctor.kills_user_processes(tmp_path) == kills
