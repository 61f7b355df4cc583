"""What a server of real processes does with clients that misbehave, die or do not fit."""
from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from poweranger.results import Run
from poweranger.run_config import resolve
from tests.e2e.conftest import Federation

Rows = Callable[[Path], list[dict[str, str]]]
ALL = "fraction-fit=1 fraction-evaluate=1 "


BAD = {  # behaviour of a client -> what is said of its training
    "nan": ("excluded", "NaN or infinite"),
    "shape": ("excluded", "the model has 10"),
    "zero": ("excluded", "0 examples"),
    "kind": ("excluded", "not declared for a reply to train"),
    "raise": ("failed", "RuntimeError: see the client's log"),
}


def test_a_bad_answer_costs_that_client_the_round_and_nobody_else(federation: Federation, rows: Rows) -> None:
    federation.server(ALL + f"num-server-rounds=2 min-available-clients={1 + len(BAD)}")
    federation.toy("C1")
    names = {f"C{number}": behaviour for number, behaviour in enumerate(BAD, 2)}
    for name, behaviour in names.items():
        federation.toy(name, behaviour)
    assert federation.finish() == 0, federation.log("server")
    part = [row for row in rows(federation.run / "metrics" / "participation.csv") if row["phase"] == "fit"]
    assert [row["client_id"] for row in part] == ["C1", *names] * 2
    for row in part:
        outcome, reason = BAD[names[row["client_id"]]] if row["client_id"] in names else ("ok", "")
        assert row["outcome"] == outcome and reason in row["reason"], row
    with np.load(federation.run / "models" / "round_002.npz") as archive:
        assert np.isfinite(archive["arr_0"]).all() and archive["arr_1"].shape == (4,)


def test_a_missing_or_nan_metric_is_left_out_of_the_mean(federation: Federation, rows: Rows) -> None:
    federation.server(ALL + "num-server-rounds=1 min-available-clients=3")
    federation.toy("C1")
    federation.toy("C2", "missing")
    federation.toy("C3", "loss")
    assert federation.finish() == 0, federation.log("server")
    (fit,) = rows(federation.run / "metrics" / "fit_metrics.csv")
    assert float(fit["loss"]) == 1.0 and float(fit["accuracy"]) == 0.5
    clients = rows(federation.run / "metrics" / "fit_client_metrics.csv")
    assert [(row["client_id"], row["num_examples"], row["loss"]) for row in clients] == [("C1", "10", "1.0"), ("C2", "20", ""), ("C3", "30", "")]


def test_figures_are_weighted_and_confusion_is_summed(federation: Federation, rows: Rows) -> None:
    federation.server(ALL + "num-server-rounds=2 min-available-clients=2")
    federation.toy("C1")
    federation.toy("C2")
    assert federation.finish() == 0, federation.log("server")
    metrics = federation.run / "metrics"
    assert float(rows(metrics / "fit_metrics.csv")[0]["loss"]) == pytest.approx((10 * 1 + 20 * 0.5) / 30)
    first = rows(metrics / "eval_metrics.csv")[0]
    assert list(first)[:2] == ["round", "loss"] and float(first["loss"]) == pytest.approx(0.375)
    assert float(first["accuracy"]) == pytest.approx(5 / 6) and float(first["sensitivity_a"]) == 0.75 and float(first["specificity_a"]) == 1.0
    assert rows(metrics / "confusion.csv")[0] == {"round": "1", "true_class": "a", "predicted_a": "6", "predicted_b": "2"}
    first_lines = federation.log("server")
    assert re.search(r"round 1/2  loss 0\.375  accuracy 0\.833  (best so far  )?clients 2/2  .*left", first_lines), first_lines


def test_a_client_killed_in_mid_round_costs_the_round_that_client_only(federation: Federation, rows: Rows) -> None:
    federation.server(ALL + "num-server-rounds=3 min-available-clients=3")
    federation.toy("C1")
    federation.toy("C3")
    victim = federation.toy("C2", "sleep")
    federation.see("C2", "round 2 begins")
    victim.kill()
    federation.toy("C2")
    assert federation.finish() == 0, federation.log("server")
    part = rows(federation.run / "metrics" / "participation.csv")
    (lost,) = [row for row in part if row["client_id"] == "C2" and row["round"] == "2" and row["phase"] == "fit"]
    assert lost["outcome"] in ("failed", "late") and lost["reason"]
    assert [row["outcome"] for row in part if row["client_id"] == "C1" and row["phase"] == "fit"] == ["ok"] * 3
    assert federation.info["outcome"] == "finished"


def test_the_first_round_waits_for_start_clients_and_later_ones_do_not(federation: Federation, rows: Rows) -> None:
    federation.server(ALL + "num-server-rounds=4 start-clients=2")
    federation.toy("C1")
    federation.see("server", "waiting for clients: 1 of 2 here")
    victim = federation.toy("C2", "sleep")
    federation.see("C2", "round 2 begins")
    victim.kill()
    assert federation.finish() == 0, federation.log("server")
    part = [row for row in rows(federation.run / "metrics" / "participation.csv") if row["phase"] == "fit" and row["outcome"] == "ok"]
    assert [(row["round"], row["client_id"]) for row in part] == [("1", "C1"), ("1", "C2"), ("2", "C1"), ("3", "C1"), ("4", "C1")]


def test_a_straggler_is_late_and_its_answer_is_not_mixed_in(federation: Federation, rows: Rows) -> None:
    federation.server(ALL + "num-server-rounds=3 min-available-clients=2 start-clients=3 round-deadline=1.5")
    for name in ("C1", "C3"):
        federation.toy(name)
    federation.toy("C2", "sleep")
    assert federation.finish() == 0, federation.log("server")
    part = [row for row in rows(federation.run / "metrics" / "participation.csv") if row["client_id"] == "C2"]
    assert ("2", "fit", "late") in [(row["round"], row["phase"], row["outcome"]) for row in part]
    assert not [row for row in part if row["round"] == "3"]  # still busy: it is not asked


def test_when_every_client_fails_the_run_fails(federation: Federation, rows: Rows) -> None:
    federation.server(ALL + "num-server-rounds=9 min-available-clients=2 max-failed-rounds=2")
    federation.toy("C1", "nan")
    federation.toy("C2", "raise")
    assert federation.finish() == 1
    info = federation.info
    assert info["outcome"] == "failed" and "2 round(s) in a row" in info["reason"] and info["rounds_done"] == 2
    assert sorted(path.name for path in (federation.run / "models").iterdir()) == ["round_000.npz"]
    assert {row["round"] for row in rows(federation.run / "metrics" / "participation.csv")} == {"1", "2"}
    assert "server: " in federation.log("server") and "Traceback" not in federation.log("server")


def test_another_class_set_joins_the_union_at_first_and_is_refused_later(federation: Federation) -> None:
    federation.server(ALL + "num-server-rounds=2 min-available-clients=2")
    federation.toy("C1")
    federation.toy("C2", "class")
    assert federation.finish() == 0, federation.log("server")
    assert federation.info["federation"]["classes"] == ["a", "b", "zebra"]


def test_a_site_that_does_not_fit_the_classes_is_refused_on_both_sides(federation: Federation) -> None:
    federation.server(ALL + "num-server-rounds=1 min-available-clients=2 classes=a,b")
    federation.toy("C2", "class")
    federation.see("server", "C2 is not taken: .*'zebra'")
    federation.see("C2", "REFUSED: C2 has the class 'zebra'")
    federation.toy("C1")
    federation.toy("C3")
    assert federation.finish() == 0
    assert "zebra" in federation.info["refused"]["C2"] and federation.info["clients"] == ["C1", "C3"]


def test_a_garbled_description_is_refused(federation: Federation) -> None:
    federation.server(ALL + "num-server-rounds=1 min-available-clients=1")
    federation.toy("C2", "garbled")
    federation.see("server", "is not taken: its description cannot be read: .*train_counts")
    federation.toy("C1")
    assert federation.finish() == 0, federation.log("server")


def test_real_and_synthetic_sites_are_not_mixed(federation: Federation) -> None:
    federation.server(ALL + "num-server-rounds=1 min-available-clients=2")
    federation.toy("C1")
    federation.toy("C2", "synthetic")
    assert federation.finish() == 2
    assert re.search(r"server: synthetic images at C2 .*real ones at C1.*allow-mixed-data", federation.log("server"))
    assert federation.info["outcome"] == "failed"


def test_synthetic_sites_are_on_record(federation: Federation) -> None:
    federation.server(ALL + "num-server-rounds=1 min-available-clients=2 allow-mixed-data=true")
    federation.toy("C1")
    federation.toy("C2", "synthetic")
    assert federation.finish() == 0, federation.log("server")
    assert federation.info["synthetic"] == ["C2"] and federation.info["sites"]["C2"]["synthetic_reason"] == "DATA_DIR is not set"


def test_too_few_clients_is_exit_code_3(federation: Federation) -> None:
    federation.server("min-available-clients=2 client-wait=2")
    federation.toy("C1")
    assert federation.finish() == 3
    assert re.search(r"only [01] of 2 here", federation.log("server"))


def test_a_late_joiner_enters_at_a_later_round(federation: Federation, rows: Rows) -> None:
    federation.server(ALL + "num-server-rounds=400 min-available-clients=1")
    federation.toy("C1")
    federation.see("server", "round 3/400")
    federation.toy("C2")
    federation.see("server", r"round \d+/400 .*clients 2/2")
    federation.processes["server"].send_signal(signal.SIGTERM)
    assert federation.finish(5) == 143
    first = min(int(row["round"]) for row in rows(federation.run / "metrics" / "participation.csv") if row["client_id"] == "C2")
    assert first > 3 and "C2" in federation.info["sites"]


def test_a_wrong_configuration_is_exit_code_2_before_anything_starts(federation: Federation) -> None:
    federation.server("image-size=4")
    assert federation.finish() == 2
    assert "server: image-size = 4 is not allowed" in federation.log("server") and not (federation.root / "results").exists()


def test_a_port_in_use_is_exit_code_4_and_names_the_holder(federation: Federation) -> None:
    done = Run.create(federation.root / "results", "done", resolve())
    done.update(federation={})
    done.save_snapshot(0, [np.zeros(2)])
    done.close("finished")
    before = (done.path / "run.toml").read_bytes()
    first = federation.server("num-server-rounds=1")
    federation.address()
    second = federation.spawn("second", "-m", "poweranger.server.server_app", "--port", federation.port, "--resume", done.name)
    assert second.wait(60) == 4
    assert f"port {federation.port} is in use by process {first.pid}" in federation.log("second")
    assert (done.path / "run.toml").read_bytes() == before, "the run that was to go on is as it was"


def test_keys_without_tls_are_refused(federation: Federation) -> None:
    federation.server("num-server-rounds=1", "--client-keys", federation.root)
    assert federation.finish() == 2
    assert "--certfile" in federation.log("server")


def test_clients_of_another_project_at_the_same_port_are_kept_out(federation: Federation) -> None:
    federation.server(ALL + "num-server-rounds=1 min-available-clients=1", FEDERATION_ID="ours")
    federation.toy("C1", FEDERATION_ID="theirs")
    federation.see("C1", "REFUSED: it waits for another project's server")
    federation.toy("C2", FEDERATION_ID="ours")
    assert federation.finish() == 0, federation.log("server")
    assert federation.info["clients"] == ["C2"]
