"""A whole federation on real images by commands only: set up, run, the daemon killed under it, watched to its end."""
from __future__ import annotations

import contextlib
import csv
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fedtui.conftest import REPOSITORY, Fedtui

ROUNDS = 30


class Site:
    """A project folder with real images, and what runs in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.fedtui = root, Fedtui(root)

    def ps(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.fedtui("ps", "--json").json}

    def newest(self) -> dict[str, Any]:
        return self.fedtui("runs", "--json").json[0]

    def alive(self) -> set[int]:
        """Every process of this project: the daemon gives each a mark in its environment."""
        found = set()
        mark = f"FEDTUI_PROCESS={self.fedtui('info', '--json').json['state_dir']}/".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if any(word.startswith(mark) for word in (folder / "environ").read_bytes().split(b"\0")):
                    found.add(int(folder.name))
        return found


def private_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) * 1024 / 1e6


@pytest.fixture
def site(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A project like this repository, with two clients that have a share each of real blood-cell images."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    root = tmp_path / "project"
    root.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    text = (REPOSITORY / "pyproject.toml").read_text()
    (root / "pyproject.toml").write_text(f'{text}\n[tool.fedtui]\nserver-address = "127.0.0.1:{port}"\n')
    partition = [sys.executable, "-m", "poweranger.client.partition", "--data", shared_data / "bccd_cells", "--clients", "2", "--out", root / "sites"]
    subprocess.run(list(map(str, partition)), cwd=REPOSITORY, check=True, capture_output=True)
    site = Site(root)
    yield site
    site.fedtui("down")
    for pid in site.alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_run_by_commands_survives_the_daemon_and_is_told_truly(site: Site, until: Callable[..., None]) -> None:
    fedtui = site.fedtui
    assert fedtui("client", "add", "north", "--data-dir", "sites/site_1").code == 0
    assert fedtui("client", "add", "south", "--data-dir", "sites/site_2").code == 0
    assert fedtui("config", "set", "image-size=32", "fraction-fit=1", "fraction-evaluate=1", f"num-server-rounds={ROUNDS}").code == 0

    ups = [fedtui.start("up") for _ in range(20)]
    done = [fedtui.end(up, 180) for up in ups]
    assert {one.code for one in done} == {0}, [one.err for one in done]
    before = site.ps()
    assert list(before) == ["server", "north", "south"]
    assert len(site.alive()) == 3
    assert [row["via"] for row in before.values()] == ["", "host", "host"]

    until(lambda: site.newest()["rounds_done"] >= 2, 120, "round 2")
    daemon = fedtui("info", "--json").json["daemon_pid"]
    os.kill(daemon, signal.SIGKILL)
    after = site.ps()  # starts another daemon, which adopts them
    assert {name: row["pid"] for name, row in after.items()} == {name: row["pid"] for name, row in before.items()}
    assert fedtui("info", "--json").json["daemon_pid"] not in (None, daemon)

    until(lambda: site.ps()["server"]["state"] == "exited", 240, "the run's end")
    run = site.newest()
    assert (run["outcome"], run["rounds_done"], run["rounds"]) == ("finished", ROUNDS, ROUNDS)
    with (site.root / "results" / "metrics" / "eval_metrics.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    for name in ("north", "south"):
        assert private_mb(site.ps()[name]["pid"]) < 150  # the rest it shares with the client host; alone it has 290
    shown = fedtui("metrics", "--json").json
    assert [row["accuracy"] for row in shown] == [float(row["accuracy"]) for row in written]
    assert run["best_accuracy"] == max(row["accuracy"] for row in shown)
    assert run["best_accuracy"] > 0.9  # the images are real, and so is the learning
    assert f"round {ROUNDS}/{ROUNDS}" in fedtui("logs", "server", "--grep", "round").out

    again = fedtui("up", "--wait", "--rounds", "2", "--name", "again", seconds=180)  # the clients have waited for it
    assert again.code == 0, again.err
    assert "round 2/2  loss" in again.err
    assert [(row["outcome"], row["rounds"]) for row in fedtui("runs", "--json").json] == [("finished", 2), ("finished", ROUNDS)]

    waiting = fedtui.start("up", "--wait", "--rounds", "500", "--name", "long")
    until(lambda: site.newest()["name"].endswith("-long") and site.newest()["rounds_done"] >= 1, 120, "a round of the long run")
    assert fedtui("stop", "server").code == 0
    assert fedtui.end(waiting).code == 1
    assert site.newest()["outcome"] == "stopped"
    resumed = fedtui("up", "--wait", "--resume", site.newest()["name"], "--set", f"num-server-rounds={site.newest()['rounds_done'] + 1}", seconds=180)
    assert resumed.code == 0, resumed.err
    assert site.newest()["outcome"] == "finished"

    assert fedtui("down").code == 0
    assert site.alive() == set()
