"""How a run ends that cannot go on: in one sentence, whatever went wrong."""
from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from poweranger.errors import RunFailed, UserError
from poweranger.messages import ARRAYS, CONFIG, Site, pack
from poweranger.results import Run
from poweranger.run_config import parse_overrides, resolve
from poweranger.server import server_app
from poweranger.server.conduct import conduct
from poweranger.server.federation import Federation
from poweranger.server.superlink import Link


def test_a_mistyped_project_is_refused_and_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["server_app", "--port", "0", "--run-config", "client-wait=0.1", "--project", str(tmp_path / "typo")])
    with pytest.raises(UserError, match=r"--project .*typo is no folder"):
        server_app.main()
    assert not (tmp_path / "typo").exists()


def test_a_run_without_its_configuration_does_not_go_on_with_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.create(tmp_path / "results", "toy", {})
    run.info.pop("config")
    run.close("finished")
    monkeypatch.setattr("sys.argv", ["server_app", "--port", "0", "--project", str(tmp_path), "--resume", run.name])
    with pytest.raises(UserError, match=r"run.toml has no \[config\]"):
        server_app.main()


def test_a_port_of_the_environment_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_PORT", "http")
    monkeypatch.setattr("sys.argv", ["server_app"])
    with pytest.raises(UserError, match="port 'http' is none: .*FLOWER_PORT"):
        server_app.main()


def test_an_empty_name_of_a_run_to_go_on_with_starts_no_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["server_app", "--port", "0", "--project", str(tmp_path), "--resume", ""])
    with pytest.raises(UserError, match="there is no run ''"):
        server_app.main()


@pytest.mark.parametrize("last", ["a model", "no model"])
def test_a_run_without_a_round_left_needs_no_clients_and_a_failed_one_stays_failed(tmp_path: Path, last: str) -> None:
    run, weights = Run.create(tmp_path, "toy", resolve(parse_overrides("num-server-rounds=1"))), [np.zeros(2)]
    run.update(federation=asdict(Federation(["a", "b"], [5, 5], 1, 32, [0.0], [1.0], False)))
    run.save_snapshot(0, weights)
    run.commit_round(1, {}, weights if last == "a model" else None)
    run.close("failed")
    run = Run.resume(tmp_path, run.name)
    with Link("127.0.0.1", 0) as link, link.run() as (grid, _):
        ends = contextlib.nullcontext() if last == "a model" else pytest.raises(RunFailed, match="those after round 0 gave no model: set num-server-rounds higher")
        with ends:
            conduct(grid, run, run.info["config"], threading.Event())
    assert run.info["outcome"] == ("finished" if last == "a model" else "failed")


def test_a_disk_that_is_gone_at_the_end_is_told_in_a_sentence(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "toy", resolve())

    class GoneWithTheDisk(threading.Event):
        def is_set(self) -> bool:
            shutil.rmtree(run.path, ignore_errors=True)
            return True

    with Link("127.0.0.1", 0) as link, link.run() as (grid, _), pytest.raises(RunFailed, match=f"the results could not be written: .*{run.name}"):
        grid.interrupt()
        conduct(grid, run, run.info["config"], GoneWithTheDisk())


def test_a_log_that_cannot_be_written_ends_no_run() -> None:
    with Path("/dev/full").open("w") as full:
        code = "from poweranger.server.conduct import log; log('round 1'); log('round 2')"
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def described_app(opened: threading.Event | None = None) -> ClientApp:
    """The beginning of an app: site C1 describes itself, C2 once its folder is `opened`."""
    app = ClientApp()

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        if opened:
            opened.wait(60)
        site = Site(f"C{2 if opened else 1}", ["a", "b"], [5, 5], [2, 2], 1, 100, [50.0], [30.0])
        return Message(RecordDict({CONFIG: site.to_record()}), reply_to=message)

    return app


def test_a_site_whose_images_cannot_be_reached_does_not_hold_up_the_others(tmp_path: Path, start_node: Callable[..., object]) -> None:
    run, opened = Run.create(tmp_path, "toy", resolve(parse_overrides("start-clients=1 round-deadline=1"))), threading.Event()
    with Link("127.0.0.1", 0) as link, link.run() as (grid, _):
        start_node(link.port, "C2", app=described_app(opened))
        start_node(link.port, "C1", app=described_app())
        try:
            with pytest.raises(RunFailed, match="no client could make the first model: C1: ValueError"):  # so far it came
                conduct(grid, run, run.info["config"], threading.Event())
        finally:
            opened.set()
    assert run.info["clients"] == ["C1"]


def test_virtual_clients_that_cannot_take_part_are_not_waited_for(tmp_path: Path, start_node: Callable[..., object]) -> None:
    app = ClientApp()

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        raise ValueError("the node lives on")

    run = Run.create(tmp_path, "toy", resolve())
    with Link("127.0.0.1", 0) as link, link.run() as (grid, _):
        start_node(link.port, "C1", app=app)
        with pytest.raises(UserError, match="0 of the 1 virtual clients that are needed can take part: ValueError"):
            conduct(grid, run, run.info["config"], threading.Event(), virtual=True)
    assert run.info["outcome"] == "failed"


def test_a_first_model_that_is_none_is_not_taken(tmp_path: Path, start_node: Callable[..., object]) -> None:
    opened = threading.Event()
    opened.set()
    apps = {"C1": described_app(), "C2": described_app(opened)}

    @apps["C1"].query("initial")
    def not_finite(message: Message, context: Context) -> Message:
        first = {ARRAYS: pack([np.array([1.0, np.nan])]), CONFIG: ConfigRecord({"shapes": ["2"]})}
        return Message(RecordDict(first), reply_to=message)

    @apps["C2"].query("initial")
    def says_too_much(message: Message, context: Context) -> Message:
        first = {ARRAYS: pack([np.ones(2)]), CONFIG: ConfigRecord({"shapes": ["2"], "patient": "Jane"})}
        return Message(RecordDict(first), reply_to=message)

    run = Run.create(tmp_path, "toy", resolve(parse_overrides("start-clients=2")))
    with Link("127.0.0.1", 0) as link, link.run() as (grid, _):
        for client_id, app in apps.items():
            start_node(link.port, client_id, app=app)
        reasons = "C1: its model cannot be read: some of its weights are NaN or infinite; C2: its model cannot be read: .*'patient' is not declared"
        with pytest.raises(RunFailed, match=f"no client could make the first model: {reasons}"):
            conduct(grid, run, run.info["config"], threading.Event())
    assert run.info["outcome"] == "failed"
