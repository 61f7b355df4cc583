"""Server and clients as a user starts them, with TensorFlow, on real images."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from poweranger.results import load_weights
from tests.e2e.conftest import PROJECT, Federation

Rows = Callable[[Path], list[dict[str, str]]]
ALL = "fraction-fit=1 fraction-evaluate=1 min-available-clients=2 image-size=32 "


@pytest.fixture
def sites(shared_data: Path, tmp_path: Path) -> Path:
    """Blood cells dealt out to two sites by the command of the README."""
    done = subprocess.run(
        [sys.executable, "-m", "poweranger.client.partition", "--data", shared_data / "bccd_cells", "--clients", "2", "--out", tmp_path / "sites"],
        cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tmp_path / "sites"


def start_clients(federation: Federation, sites: Path) -> None:
    for name, folder in zip(("C1", "C2"), sorted(sites.iterdir()), strict=True):
        federation.client(name, "--data-dir", folder)


def test_a_run_learns_is_saved_and_survives_sigkill_bit_for_bit(federation: Federation, sites: Path, rows: Rows) -> None:
    config = ALL + "num-server-rounds=4 learning-rate=0.02"
    federation.server(config)
    start_clients(federation, sites)
    assert federation.finish() == 0, federation.log("server") + federation.log("C1")
    whole = federation.run
    table = rows(whole / "metrics" / "eval_metrics.csv")
    assert [row["round"] for row in table] == ["1", "2", "3", "4"] and float(table[-1]["accuracy"]) > 0.8
    assert federation.info["federation"]["classes"] == ["Platelets", "RBC", "WBC"] and federation.info["federation"]["channels"] == 3

    server = federation.server(config, port=federation.port)
    federation.see("server", "round 2/4")
    server.kill()
    server.wait()
    broken = federation.run
    federation.server("", "--resume", broken.name, port=federation.port)
    assert federation.finish() == 0, federation.log("server")
    for number in range(5):
        pair = [load_weights(run / "models" / f"round_{number:03d}.npz") for run in (whole, broken)]
        assert all(np.array_equal(a, b) for a, b in zip(*pair, strict=True)), f"round {number} differs"

    script = ("import sys, numpy as np; from poweranger.server.model import load_snapshot; from poweranger.client.data_loader import load_site\n"
              "model = load_snapshot(sys.argv[1])\n"
              "site = load_site(sys.argv[2], client_id='C1', image_size=32, channels=3, validation_fraction=0.2, seed=0, strict=True, cache_mb=64, synthetic_examples=10)\n"
              "print(np.mean(model.predict(site.validation.x, verbose=0).argmax(1) == site.validation.y))")
    done = subprocess.run([sys.executable, "-c", script, broken / "models" / "round_004.npz", sorted(sites.iterdir())[0]],
                          cwd=PROJECT, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True, check=False)
    (own,) = [row for row in rows(broken / "metrics" / "eval_client_metrics.csv") if row["round"] == "4" and row["client_id"] == "C1"]
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(float(own["accuracy"]))


def test_clients_killed_and_stopped_in_the_middle_of_training(federation: Federation, sites: Path, rows: Rows) -> None:
    federation.server(ALL + "num-server-rounds=3 local-epochs=500 round-deadline=600 start-clients=3")
    start_clients(federation, sites)
    federation.client("C3", "--data-dir", sorted(sites.iterdir())[0])
    federation.see("C3", "connected")
    for name in ("C1", "C2", "C3"):
        federation.see("server", f"{name} is here")
    federation.see("server", r"\d classes: ")
    federation.see("C1", "answered query.describe")
    federation.processes["C1"].kill()
    stopped = federation.processes["C2"]
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(30) == 0
    server = federation.processes["server"]
    server.send_signal(signal.SIGTERM)
    assert federation.finish(10) == 143
    assert federation.info["outcome"] == "stopped"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: (folder / "a").mkdir(parents=True), "holds no usable image"),
        (lambda folder: ((folder / "a").mkdir(parents=True), (folder / "a" / "x.png").write_bytes(b"no image")), "holds no usable image"),
    ],
)
def test_a_folder_without_a_usable_image_ends_the_client_with_exit_code_2(federation: Federation, tmp_path: Path, make: Callable[[Path], object], sentence: str) -> None:
    make(tmp_path / "data")
    federation.server("num-server-rounds=1")
    client = federation.client("C1", "--data-dir", tmp_path / "data")
    assert client.wait(90) == 2, federation.log("C1")
    assert sentence in federation.log("C1") and "Traceback" not in federation.log("C1")
