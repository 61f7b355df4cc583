"""Privacy with real processes: what is not declared, a client killed under secure aggregation, a private run resumed."""
from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np

from poweranger.results import load_weights
from tests.e2e.conftest import Federation

Rows = Callable[[Path], list[dict[str, str]]]
ALL = "fraction-fit=1 fraction-evaluate=1 "
SECURE = ALL + "secure-aggregation=true min-available-clients=3 min-fit-clients=3 min-evaluate-clients=3 "


def test_what_is_not_declared_is_refused_on_both_sides(federation: Federation, rows: Rows) -> None:
    federation.server(ALL + "num-server-rounds=1 min-available-clients=3")
    federation.toy("C1")
    federation.toy("C2", "undeclared")
    federation.toy("C3", "patient")
    assert federation.finish() == 0, federation.log("server")
    fit = {row["client_id"]: row for row in rows(federation.run / "metrics" / "participation.csv") if row["phase"] == "fit"}
    assert [fit[name]["outcome"] for name in ("C1", "C2", "C3")] == ["ok", "excluded", "failed"]
    assert "'patient-age' is not declared" in fit["C2"]["reason"] and "kept back" in fit["C3"]["reason"]
    assert "'patient-age' is not declared" in federation.log("C3") and "patient" not in fit["C3"]["reason"]


def expected(names: list[int], weights: np.ndarray, rate: float) -> np.ndarray:
    """The weighted mean of what these toys make of the weights."""
    return sum(10 * n * (weights * np.float32(0.9) + n * rate) for n in names) / sum(10 * n for n in names)


def test_a_client_killed_in_a_secure_round_leaves_the_right_sum(federation: Federation, rows: Rows) -> None:
    federation.server(SECURE + "num-server-rounds=2 lr-schedule=constant warmup-rounds=0")
    for name in ("C1", "C3", "C4"):
        federation.toy(name)
    victim = federation.toy("C2", "sleep")
    federation.see("C2", "round 2 begins")  # its keys and shares are out, its answer is not
    victim.kill()
    assert federation.finish() == 0, federation.log("server")
    fit = {row["client_id"]: row["outcome"] for row in rows(federation.run / "metrics" / "participation.csv") if row["phase"] == "fit" and row["round"] == "2"}
    assert fit.pop("C2") in ("failed", "late") and set(fit.values()) == {"ok"}
    before, after = (np.concatenate([w.ravel() for w in load_weights(federation.run / "models" / f"round_00{k}.npz")]) for k in (1, 2))
    present = [int(name[1:]) for name in fit]
    assert np.allclose(after, expected(present, before, 0.05), atol=1e-6)
    assert rows(federation.run / "metrics" / "fit_client_metrics.csv") == []
    assert "Not possible in this run: figures of single clients" in federation.log("server")


def test_a_private_run_goes_on_with_what_it_has_spent(federation: Federation, rows: Rows) -> None:
    config = ALL + "min-available-clients=2 dp=central dp-noise-multiplier=4 num-server-rounds=400"
    server = federation.server(config)
    federation.toy("C1")
    federation.toy("C2")
    federation.see("server", "round 3/400")
    server.send_signal(signal.SIGKILL)
    federation.finish(5)
    run, spent = federation.run.name, federation.info["privacy"]["epsilon"]
    assert spent > 0

    before = (federation.run / "run.toml").read_bytes()
    for refused, words in (("dp=off", 'cannot go on with dp = "off"'), ("dp-target-epsilon=0.1", "above dp-target-epsilon = 0.1")):
        federation.server(refused, "--resume", run, port=federation.port)
        assert federation.finish() == 2 and words in federation.log("server")
        assert (federation.run / "run.toml").read_bytes() == before, "what ran was private, and its record still says so"
    again = federation.info["rounds_done"] + 2
    federation.server(f"dp=central dp-noise-multiplier=8 num-server-rounds={again}", "--resume", run, port=federation.port)
    assert federation.finish() == 0, federation.log("server")
    epsilons = [float(row["epsilon"]) for row in rows(federation.run / "metrics" / "fit_metrics.csv")]
    assert epsilons == sorted(epsilons) and epsilons[-2] > spent and len(epsilons) == again
    old, new = federation.info["privacy"]["spent"]
    assert (old["noise_multiplier"], new["noise_multiplier"], new["rounds"]) == (4.0, 8.0, {"C1": 2, "C2": 2})
