"""Event files, read back by TensorBoard itself."""
from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from poweranger.results import Run
from poweranger.server.tensorboard import EventFiles

Federate = Callable[..., Run]
Series = list[tuple[int, float]]


@pytest.fixture(autouse=True)
def without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard's own switch; with TensorFlow, reading takes seconds."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", sys)


def read(folder: Path) -> dict[str, Series]:
    """Steps and values of each tag, every record that is there, duplicates too."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), purge_orphaned_data=False).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def curve(run: Run, table: str, column: str, client: str = "") -> list[tuple[int, object]]:
    rows = [row for row in run.tables[table].read() if row.get("client_id", "") == client]
    return [(int(row["round"]), pytest.approx(float(row[column]), rel=1e-6)) for row in rows]


def test_tensorboard_reads_what_the_tables_say_also_after_resume(federate: Federate) -> None:
    sites = {number: lambda weights, config: weights + np.float32(1) for number in (1, 2)}
    evaluate = lambda number: {"loss": 1 / number, "confusion": [2, 0, 1, 1]}  # noqa: E731
    run = federate("num-server-rounds=2", sites, evaluate)
    assert not (run.path / "tensorboard").exists()
    run = federate("num-server-rounds=2 tensorboard=true", {}, evaluate, resume=run.name)  # no round left: what was before is there
    assert len(read(run.path / "tensorboard" / "all")["fit/loss"]) == 2
    run = federate("num-server-rounds=3", sites, evaluate, resume=run.name)
    (folder,) = (path for path in (run.path / "tensorboard").iterdir() if path.name == "client_C2")
    EventFiles.add(EventFiles(run), 4, {"fit_metrics": [{"round": 4, "loss": 9.0}]})  # a round that a kill left incomplete
    run = federate("num-server-rounds=5", sites, evaluate, resume=run.name)
    everyone, second = read(run.path / "tensorboard" / "all"), read(folder)
    for tag in ("loss", "accuracy"):
        assert everyone[f"fit/{tag}"] == curve(run, "fit_metrics", tag) and len(everyone[f"fit/{tag}"]) == 5
        assert everyone[f"eval/{tag}"] == curve(run, "eval_metrics", tag)
        assert second[f"eval/{tag}"] == curve(run, "eval_client_metrics", tag, "C2")
    assert "eval/balanced_accuracy" in everyone
    for path in (run.path / "tensorboard").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_names_and_numbers_that_clients_make_up(tmp_path: Path) -> None:
    events = EventFiles(Run.create(tmp_path, "x", {}))
    for client in ("../../out", "..", "all", "ü" * 300):
        events.add(1, {"eval_client_metrics": [{"round": 1, "client_id": client, "loss": 0.5, "big": 1e300, "nan": float("nan"), "\udc80": 300}]})
    events.add(70_000, {"fit_metrics": [{"round": 70_000, "loss": 2.5, "x" * 200: 1}]})
    folders = sorted(path.name for path in tmp_path.glob("runs/*/tensorboard/*"))
    assert len(folders) == 5 and not (tmp_path / "out").exists() and "client_.." in folders and "client_..%2F..%2Fout" in folders
    assert read(next(tmp_path.glob("runs/*/tensorboard/client_all"))) == {"eval/loss": [(1, 0.5)], "eval/?": [(1, 300.0)]}
    assert read(next(tmp_path.glob("runs/*/tensorboard/all"))) == {"fit/loss": [(70_000, 2.5)], "fit/" + "x" * 200: [(70_000, 1.0)]}


def test_the_server_imports_neither_tensorflow_nor_tensorboard() -> None:
    script = "import poweranger.server.server_app, sys; print([name for name in ('tensorflow', 'tensorboard', 'keras') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"
