"""A run that is killed or stopped goes on as if nothing had happened."""
from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from poweranger.results import load_weights, read_info, snapshots
from tests.e2e.conftest import Federation

Rows = Callable[[Path], list[dict[str, str]]]
ALL = "fraction-fit=1 fraction-evaluate=1 min-available-clients=2 "
TABLES = ("fit_metrics", "eval_metrics", "fit_client_metrics", "eval_client_metrics", "participation", "confusion")


def same_weights(one: Path, other: Path) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(load_weights(one), load_weights(other), strict=True))


def check_whole(run: Path, rows: Rows, last: int) -> None:
    """Every table and snapshot ends at round `last`: no half file, no row too many."""
    assert sorted(snapshots(run)) == list(range(last + 1))
    best = read_info(run)["best"]["round"]
    assert (run / "models" / "best.npz").read_bytes() == snapshots(run)[best].read_bytes()
    for table in TABLES:
        found = [int(row["round"]) for row in rows(run / "metrics" / f"{table}.csv")]
        assert sorted(set(found)) == list(range(1, last + 1)), (table, found)
    assert not [path for path in run.rglob(".*") if path.name != ".lock"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_and_resumed_gives_the_weights_of_the_unbroken_run(federation: Federation, rows: Rows, number: signal.Signals) -> None:
    config = ALL + "num-server-rounds=40"
    federation.server(config)
    federation.toy("C1")
    federation.toy("C2")
    assert federation.finish() == 0, federation.log("server")
    unbroken = federation.run
    server = federation.server(config, port=federation.port)  # the clients are still there and rejoin
    federation.see("server", "round 7/40")
    server.send_signal(number)
    code = federation.finish(5)
    broken = federation.run
    assert broken != unbroken and code == (143 if number == signal.SIGTERM else -9)
    if number == signal.SIGTERM:
        check_whole(broken, rows, federation.info["rounds_done"])
    assert federation.info["outcome"] == {signal.SIGKILL: "interrupted", signal.SIGTERM: "stopped"}[number]
    federation.server("", "--resume", broken.name, port=federation.port)
    assert federation.finish() == 0, federation.log("server")
    check_whole(broken, rows, 40)
    assert same_weights(unbroken / "models" / "round_040.npz", broken / "models" / "round_040.npz")
    for table in ("fit_metrics", "eval_metrics", "confusion"):
        assert (unbroken / "metrics" / f"{table}.csv").read_bytes() == (broken / "metrics" / f"{table}.csv").read_bytes()
    assert (federation.root / "results" / "models").resolve() == broken / "models"


def test_a_finished_run_can_be_lengthened(federation: Federation, rows: Rows) -> None:
    federation.server(ALL + "num-server-rounds=2")
    federation.toy("C1")
    federation.toy("C2")
    assert federation.finish() == 0
    federation.server("num-server-rounds=4", "--resume", federation.run.name, port=federation.port)
    assert federation.finish() == 0, federation.log("server")
    check_whole(federation.run, rows, 4)
    assert federation.info["config"]["num-server-rounds"] == 4


def test_sigterm_while_waiting_for_clients(federation: Federation) -> None:
    server = federation.server("min-available-clients=5")
    federation.see("server", "waiting for clients")
    server.send_signal(signal.SIGTERM)
    assert federation.finish(5) == 143
    assert federation.info["outcome"] == "stopped" and federation.info["rounds_done"] == 0
    assert "stopped before its first model was made" in federation.log("server"), "such a run cannot be resumed"


def test_sigterm_in_the_middle_of_training_leaves_none_of_the_round(federation: Federation, rows: Rows) -> None:
    server = federation.server(ALL + "num-server-rounds=3")
    federation.toy("C1")
    federation.toy("C2", "sleep")
    federation.see("C2", "round 2 begins")
    server.send_signal(signal.SIGTERM)
    assert federation.finish(5) == 143
    check_whole(federation.run, rows, 1)


def test_an_unknown_run_is_named(federation: Federation) -> None:
    federation.server("", "--resume", "20200101-000000-nope")
    assert federation.finish() == 2
    assert "no run '20200101-000000-nope'" in federation.log("server")
