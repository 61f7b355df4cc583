from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from fedtui.project import Client, Project, Roster
from poweranger.errors import UserError

APP = '[tool.flwr.app]\npublisher = "x"\n'


@pytest.fixture(autouse=True)
def homes(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="h") as home:  # short: sockets lie below it
        monkeypatch.setenv("HOME", home)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        yield


def make(folder: Path, text: str = "") -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(APP + text, encoding="utf-8")
    return Project.find(folder)


def test_found_from_a_folder_below(tmp_path, monkeypatch):
    project = make(tmp_path / "p")
    below = tmp_path / "p" / "a" / "b"
    below.mkdir(parents=True)
    (below / "pyproject.toml").write_text("[project]\nname = 'another'\n")
    monkeypatch.chdir(below)
    assert Project.find() == project


def test_both_ways_to_a_folder_lead_to_the_same_project(tmp_path):
    project = make(tmp_path / "p")
    (tmp_path / "link").symlink_to(tmp_path / "p")
    assert Project.find(tmp_path / "link") == project


def test_a_current_folder_that_was_removed_is_said(tmp_path, monkeypatch):
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for start in (None, Path("sub")):
        with pytest.raises(UserError, match="current folder is not there"):
            Project.find(start)


def test_none_found_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no project here.*--project"):
        Project.find()
    with pytest.raises(UserError, match="is no project folder"):
        Project.find(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["tool = 3\n", "[tool]\nflwr = 1\n", "[[tool]]\n", "[project]\n"])
def test_other_projects_are_passed_by(tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UserError):
        Project.find(tmp_path)


def test_a_project_is_found_while_its_file_is_being_written(tmp_path):
    project = make(tmp_path / "p", "[tool.fedtui\n")
    with pytest.raises(UserError, match=r"pyproject.toml is no valid TOML.*line 3"):
        project.roster()


@pytest.mark.parametrize("name", ["plain", "with space", "проект 研究", "--", "x" * 200])
def test_own_private_state(tmp_path, name):
    project = make(tmp_path / "projects" / name)
    assert project.state.stat().st_mode & 0o777 == 0o700
    assert project.state == Project.find(project.root).state
    assert project.state != make(tmp_path / "others" / name).state
    assert project.lock.parent == project.processes_file.parent == project.state
    assert len(os.fsencode(project.socket)) <= 107
    assert project.socket != project.notify_socket


def test_state_open_to_others_is_closed(tmp_path):
    project = make(tmp_path / "p")
    project.state.chmod(0o755)
    assert project.state.stat().st_mode & 0o777 == 0o700


def test_state_of_another_user_is_refused(tmp_path, monkeypatch):
    project = make(tmp_path / "p")
    assert project.state.is_dir()
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(UserError, match="belongs to another user"):
        _ = project.state


def test_state_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "state").write_text("a file where the folder belongs")
    with pytest.raises(UserError, match="XDG_STATE_HOME"):
        _ = make(tmp_path / "p").state


def test_a_user_without_a_home_needs_a_state_home_and_no_more(tmp_path, monkeypatch):
    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.setenv("XDG_STATE_HOME", os.environ["HOME"])  # a short path
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    project = make(tmp_path / "p")
    assert project.socket.name == "daemon.sock"
    monkeypatch.delenv("XDG_STATE_HOME")
    with pytest.raises(UserError, match="HOME is not set.*XDG_STATE_HOME"):
        _ = project.state


def test_a_relative_state_home_is_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert make(tmp_path / "p").state.is_relative_to(Path.home() / ".local" / "state")


def test_a_state_path_too_long_for_a_socket_gives_a_short_private_one(tmp_path, monkeypatch):
    home = Path(f"/tmp/fedtui-test-{os.getpid()}")
    home.mkdir(mode=0o700)
    try:
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("long" * 30)))
        project = make(tmp_path / "p")
        assert project.socket.is_relative_to(home)
        assert project.socket == Project.find(project.root).socket
        assert project.socket.parent == project.notify_socket.parent
        assert project.socket.parent.stat().st_mode & 0o777 == 0o700
        assert len(os.fsencode(project.socket)) <= 107
        project.socket.parent.rmdir()
        (home / ".fedtui").rmdir()
    finally:
        home.rmdir()


def test_no_path_short_enough_for_a_socket_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / ("long" * 30)))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("long" * 30)))
    with pytest.raises(UserError, match="too long for a socket"):
        _ = make(tmp_path / "p").socket


def test_roster(tmp_path):
    project = make(
        tmp_path / "p",
        """
[tool.fedtui]
server-address = "gpu-box.example:9000"
idle-exit = 60
log-mb = 5
log-keep = 2
stop-grace = 1.5

[tool.fedtui.clients.C1]
data-dir = "data/one"
env = { THREADS = "2" }

[tool.fedtui.clients."Klinik-Nord.2"]
""",
    )
    clients = (Client("C1", str(tmp_path / "p" / "data" / "one"), {"THREADS": "2"}), Client("Klinik-Nord.2"))
    assert project.roster() == Roster("gpu-box.example:9000", clients, 60.0, 5, 2, 1.5)


def test_data_dir_may_begin_at_home_or_root(tmp_path):
    project = make(tmp_path / "p", '[tool.fedtui.clients]\nA = {data-dir = "~/x"}\nB = {data-dir = "/y/../z"}\n')
    assert [client.data_dir for client in project.roster().clients] == [str(Path.home() / "x"), "/z"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.fedtui]\nserver_address = 'a:1'", "did you mean server-address"),
        ("[tool.fedtui]\nserver-address = 'nohost'", "host:port"),
        ("[tool.fedtui]\nserver-address = 'a:99999'", "host:port"),
        ("[tool.fedtui]\nserver-address = 8081", "host:port"),
        ("[tool.fedtui]\nidle-exit = nan", "idle-exit = nan is not allowed"),
        ("[tool.fedtui]\nidle-exit = true", "idle-exit = True is not allowed"),
        ("[tool.fedtui]\nlog-mb = 1.5", "log-mb = 1.5 is not allowed: it takes an integer"),
        ("[tool.fedtui]\nclients = 3", "clients. in pyproject.toml is no table"),
        ("[[tool.fedtui.clients]]\n", "is no table"),
        ("[tool.fedtui.clients.server]\n", "client name 'server'"),
        ("[tool.fedtui.clients.'../x']\n", "client name '../x'"),
        ("[tool.fedtui.clients]\nC1 = 3", "clients.C1. is no table"),
        ("[tool.fedtui.clients.C1]\ndatadir = 'x'", "did you mean data-dir"),
        ("[tool.fedtui.clients.C1]\ndata-dir = ''", "data-dir takes the path"),
        ("[tool.fedtui.clients.C1]\nenv = {THREADS = 2}", "THREADS takes text"),
        ("[tool.fedtui.clients.C1]\nenv = {'A=B' = 'x'}", "no name of an environment variable"),
        ("[tool.fedtui.clients.C1]\nenv = 'A=1'", "env is no table"),
    ],
)
def test_a_wrong_roster_is_refused_by_key(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        make(tmp_path / "p", text).roster()


def test_clients_to_start():
    roster = Roster(clients=(Client("C2", "/d"), Client("B")))
    assert [client.name for client in roster.effective()] == ["C2", "B"]
    assert roster.effective(1) == (Client("C2", "/d"),)
    assert roster.effective(4) == (Client("C2", "/d"), Client("B"), Client("C1"), Client("C3"))
    assert Roster().effective() == (Client("C1"), Client("C2"))


@pytest.mark.parametrize(
    ("address", "local", "reached"),
    [
        ("127.0.0.1:8081", True, "127.0.0.1:8081"),
        ("0.0.0.0:8081", True, "127.0.0.1:8081"),
        ("localhost:1", True, "localhost:1"),
        ("192.0.2.7:8081", False, "192.0.2.7:8081"),  # TEST-NET-1: no machine's own
        ("gpu-box.example:8081", False, "gpu-box.example:8081"),
    ],
)
def test_where_the_server_runs(address, local, reached):
    roster = Roster(address)
    assert (roster.server_local, roster.client_address) == (local, reached)


def test_ipv6_address():
    roster = Roster("[::]:8081")
    assert (roster.host, roster.port, roster.client_address) == ("::", 8081, "[::1]:8081")
