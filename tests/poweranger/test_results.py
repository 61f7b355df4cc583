"""The results folder: what a run leaves on disk, and what resume makes of it."""
from __future__ import annotations

import csv
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from poweranger.errors import UserError
from poweranger.results import Run, Table, find_snapshot, list_runs, load_weights, read_info, snapshots


def weights(value: float) -> list[np.ndarray]:
    return [np.full((2, 3), value, np.float32), np.full(4, -value, np.float32)]


def rounds(run: Run, count: int) -> None:
    for number in range(1, count + 1):
        rows = {"fit_metrics": [{"round": number, "accuracy": number / 10}], "participation": [
            {"round": number, "phase": "fit", "client_id": "C1", "outcome": "ok", "seconds": 0.5, "reason": ""}]}
        run.commit_round(number, rows, weights(number))


def test_layout_and_rights(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "demo", {"seed": 1})
    run.save_snapshot(0, weights(0))
    rounds(run, 2)
    run.progress({"phase": "fit", "round": 2})
    run.close("finished")
    assert run.name.endswith("-demo") and (tmp_path / "metrics").resolve() == run.path / "metrics"
    assert (tmp_path / "models" / "round_002.npz").is_file()
    with np.load(tmp_path / "models" / "round_002.npz", allow_pickle=False) as archive:
        assert archive["arr_0"].shape == (2, 3) and archive["arr_0"].dtype == np.float32
    assert json.loads((run.path / "progress.json").read_text())["round"] == 2
    for path in run.path.rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    info = read_info(run.path)
    assert info["outcome"] == "finished" and info["rounds_done"] == 2 and info["config"] == {"seed": 1}


def test_two_runs_in_one_second_keep_apart(tmp_path: Path) -> None:
    first, second = Run.create(tmp_path, "x", {}), Run.create(tmp_path, "x", {})
    assert first.path != second.path and list_runs(tmp_path)[0] == second.path
    assert (tmp_path / "models").resolve() == second.path / "models"


def test_a_new_metric_widens_the_header(tmp_path: Path) -> None:
    table = Table(tmp_path / "fit.csv", ("round",))
    table.append([{"round": 1, "loss": 0.5}])
    table.append([{"round": 2, "loss": float("nan"), 'odd, "name"\n': 7}])
    with (tmp_path / "fit.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["round", "loss", 'odd, "name"\n'], ["1", "0.5", ""], ["2", "", "7"]]


def test_a_row_that_a_power_cut_broke_off_is_none(tmp_path: Path) -> None:
    path = tmp_path / "fit.csv"
    for torn in ("2,0.4", "2,ä"):
        path.write_bytes(f"round,loss\r\n1,0.5\r\n{torn}".encode()[: None if torn.isascii() else -1])
        assert Table(path, ()).read() == [{"round": "1", "loss": "0.5"}]


def test_a_full_disk_leaves_no_half_row(tmp_path: Path) -> None:
    table = Table(tmp_path / "fit.csv", ("round",))
    table.append([{"round": 1}])
    before = table.path.read_bytes()
    script = ("import resource, sys; from pathlib import Path; from poweranger.results import Table\n"
              f"path = Path({str(table.path)!r}); import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
              "resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 4, resource.RLIM_INFINITY))\n"
              "try: Table(path, ('round',)).append([{'round': 123456}])\n"
              "except OSError as error: print(error); sys.exit(7)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 7 and "disk is full" in done.stdout, done.stderr
    assert table.path.read_bytes() == before


def test_resume_cuts_what_goes_beyond_the_last_complete_round(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "demo", {"seed": 1})
    run.update(federation={"classes": ["a", "b"]})
    run.save_snapshot(0, weights(0))
    rounds(run, 2)
    # killed inside the commit of round 3: snapshot and one table are there, run.toml is not
    run.save_snapshot(3, weights(3))
    run.tables["fit_metrics"].append([{"round": 3, "accuracy": 0.9}])
    unfinished = run.path / "models" / ".round_004.npz.123"
    unfinished.write_bytes(b"half")
    run.close("stopped")
    again = Run.resume(tmp_path, run.name)
    assert not unfinished.exists()
    assert sorted(snapshots(again.path)) == [0, 1, 2]
    assert [row["round"] for row in again.tables["fit_metrics"].read()] == ["1", "2"]
    number, arrays = again.last_weights()
    assert number == 2 and np.array_equal(arrays[0], weights(2)[0])
    assert "end" not in read_info(again.path) and read_info(again.path)["outcome"] == "running"


def test_a_round_that_the_disk_does_not_take_is_not_on_record(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "demo", {})
    rounds(run, 1)
    (run.path / "models").rename(run.path / "gone")
    with pytest.raises(OSError, match="round_002"):
        run.commit_round(2, {}, weights(2), best={"round": 2})
    run.close("failed", "the disk is full")
    assert read_info(run.path)["rounds_done"] == 1 and "best" not in read_info(run.path)


def test_a_running_run_is_not_resumed_twice(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "demo", {})
    run.update(federation={})
    run.save_snapshot(0, weights(0))
    with pytest.raises(UserError, match=r"another server"):
        Run.resume(tmp_path, run.name)


def test_unknown_and_unripe_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run 'nope'"):
        Run.resume(tmp_path, "nope")
    run = Run.create(tmp_path, "demo", {})
    run.close("failed", "no client")
    with pytest.raises(UserError, match="start a new run"):
        Run.resume(tmp_path, run.name)
    (run.path / "run.toml").write_text('rounds_done = "two"\n[federation]\n')
    run.save_snapshot(0, weights(0))
    with pytest.raises(UserError, match=r"run\.toml is damaged"):
        Run.resume(tmp_path, run.name)


def test_a_run_whose_server_is_gone_is_interrupted(tmp_path: Path) -> None:
    script = f"from pathlib import Path; from poweranger.results import Run; print(Run.create(Path({str(tmp_path)!r}), 'x', {{}}).path)"
    path = Path(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip())
    assert read_info(path)["outcome"] == "interrupted"


def test_a_damaged_snapshot_is_named(tmp_path: Path) -> None:
    path = tmp_path / "round_001.npz"
    path.write_bytes(b"PK\x03\x04 no")
    with pytest.raises(UserError, match=r"round_001\.npz"):
        load_weights(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_results_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        Run.create(tmp_path / "results", "x", {})


def test_a_folder_in_the_place_of_the_link_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="move it away"):
        Run.create(tmp_path, "x", {})
    assert (tmp_path / "models" / "mine.txt").read_text() == "precious"


def test_a_snapshot_is_found_by_what_a_user_names(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "x", {})
    with pytest.raises(UserError, match="no snapshot"):
        find_snapshot(tmp_path, run.name)
    run.save_snapshot(0, weights(0))
    rounds(run, 2)
    last, first = run.path / "models" / "round_002.npz", run.path / "models" / "round_001.npz"
    assert find_snapshot(tmp_path, run.name) == find_snapshot(tmp_path, str(run.path)) == (2, last)
    assert find_snapshot(tmp_path, run.name, "1") == (1, first)
    for wrong in ("best", "7", "x", "²"):
        with pytest.raises(UserError, match=f"{run.name} has no snapshot {wrong} .it has rounds 0 to 2"):
            find_snapshot(tmp_path, run.name, wrong)
    best = run.path / "models" / "best.npz"
    best.write_bytes(first.read_bytes())
    run.update(best={"round": 1})
    assert find_snapshot(tmp_path, run.name) == find_snapshot(tmp_path, run.name, "best") == (1, best)
    assert find_snapshot(tmp_path, run.name, "2") == (2, last)
    with pytest.raises(UserError, match=f"no run 'zzz'.*{run.name}"):
        find_snapshot(tmp_path, "zzz")
