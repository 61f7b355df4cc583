"""The results folder: one folder a run, with its tables, snapshots, `run.toml` and `progress.json`.

    results/runs/<run>/metrics/*.csv  models/round_001.npz  models/best.npz  run.toml  progress.json
    results/metrics, results/models   links to the newest run's folders

One process writes a run; any number read it. Rows and snapshots of a round are written together when the round is
complete, and `rounds_done` in `run.toml` last: after a kill at any moment, what goes beyond it is cut off on resume.
"""
from __future__ import annotations

import datetime
import fcntl
import io
import json
import os
import re
import shutil
import tomllib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import psutil
import tomli_w

from poweranger.errors import UserError
from poweranger.files import make_private_folder, remove_unfinished, replace_file, replace_files, replace_link
from poweranger.table import Row, Table

if TYPE_CHECKING:
    import numpy as np  # else inside functions: the control centre reads runs without it

FIT, EVAL = "fit", "eval"
TABLES: dict[str, tuple[str, ...]] = {  # file name -> its fixed first columns
    "fit_metrics": ("round",),
    "eval_metrics": ("round", "loss"),
    "fit_client_metrics": ("round", "client_id", "num_examples"),
    "eval_client_metrics": ("round", "client_id", "num_examples", "loss"),
    "participation": ("round", "phase", "client_id", "outcome", "seconds", "reason"),
    "confusion": ("round", "true_class"),
    "class_metrics": ("round", "class", "images"),
}
STATE = "strategy"  # models/strategy_NNN.npz: what the strategy keeps between rounds
MORE_IS_BETTER = {"accuracy", "balanced", "sensitivity", "specificity", "auc", "average"}
LESS_IS_BETTER = {"loss", "ece", "error", "seconds", "time", "mae", "mse", "perplexity", "divergence", "epsilon"}


class Run:
    """One run's folder, as its writer sees it. `info` is the content of `run.toml`."""

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path, self.info = path, info
        self.tables = {name: Table(path / "metrics" / f"{name}.csv", columns) for name, columns in TABLES.items()}
        self._lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise UserError(f"run {path.name} is being written by another server: stop that one first") from None

    @property
    def name(self) -> str:
        """The run's name, which is its folder's."""
        return self.path.name

    @classmethod
    def create(cls, results: Path, word: str, config: Mapping[str, Any]) -> Run:
        """Make a new run's folder, named by the UTC start time and `word`, and point the links at it."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", word):
            raise UserError(f"run name {word!r} is not allowed: letters, digits, '.', '_' and '-', 64 at most")
        start = now()
        stem = name = f"{start:%Y%m%d-%H%M%S}-{word}"
        try:
            runs = make_private_folder(results / "runs")
            for attempt in range(2, 100):  # two runs within one second
                try:
                    (runs / name).mkdir(mode=0o700)
                    break
                except FileExistsError:
                    name = f"{stem}-{attempt}"
            for folder in ("metrics", "models"):
                (runs / name / folder).mkdir(mode=0o700)
                _point(results / folder, runs / name / folder)
            run = cls(runs / name, {"run": name, "start": start, "rounds_done": 0, "config": dict(config)})
            for table in run.tables.values():
                table.append([])
            run.update(outcome="running", **_writer())
        except OSError as error:
            raise UserError(f"{results} cannot be written ({error.strerror or error}): give this user the right to, or make room") from None
        return run

    @classmethod
    def resume(cls, results: Path, name: str) -> Run:
        """Open a run to go on after its last complete round; what goes beyond that is cut off.

        A run that had stopped early gets its patience anew: `patience_since` is the round it counts from.

        Raises
        ------
        UserError
            When there is no such run, its files are damaged, or it is still being written.
        """
        path = results / "runs" / Path(name).name
        if not (path / "run.toml").is_file():
            newest = ", ".join(run.name for run in list_runs(results)[:3]) or "none yet"
            raise UserError(f"there is no run {name!r} in {results / 'runs'} (newest: {newest})")
        info = read_info(path)
        if "federation" not in info or not (path / "models" / "round_000.npz").is_file():
            raise UserError(f"run {path.name} ended before its first model was made: start a new run instead")
        done = info.get("rounds_done")
        if type(done) is not int:
            raise UserError(f"{path / 'run.toml'} is damaged, it has no number of rounds_done: start a new run instead")
        try:
            run = cls(path, info)
            remove_unfinished(path)
            for table in run.tables.values():
                table.cut_after(done)
            for number, file in [*snapshots(path).items(), *_numbered(path, STATE).items()]:
                if number > done:
                    file.unlink()
            for folder in ("metrics", "models"):
                _point(results / folder, path / folder)
            info.pop("end", None)
            info.pop("reason", None)
            if info.pop("stopped_early", False):
                info["patience_since"] = done
            run.update(outcome="running", resumed=[*info.get("resumed", []), now()], **_writer())
        except OSError as error:
            raise UserError(f"{path} cannot be written ({error.strerror or error}): give this user the right to, or make room") from None
        return run

    def update(self, **values: Any) -> None:
        """Set values in `run.toml` and write it."""
        self.info.update(values)
        replace_file(self.path / "run.toml", _writing(self.info))

    def progress(self, values: Mapping[str, Any]) -> None:
        """Replace `progress.json`. Not durable: it is of interest only while the run goes."""
        content = json.dumps({"run": self.name, "updated": now().isoformat(timespec="milliseconds"), **values}).encode()
        replace_file(self.path / "progress.json", lambda file: file.write(content), durable=False)

    def save_snapshot(self, number: int, weights: Sequence[np.ndarray]) -> None:
        """Write `models/round_NNN.npz`, loadable by `numpy.load` without pickle; `weights` in the model's order."""
        import numpy as np

        path = self.path / "models" / f"round_{number:03d}.npz"
        replace_file(path, lambda file: np.savez(file, *weights))

    def commit_round(
        self,
        number: int,
        rows: Mapping[str, Sequence[Row]],
        weights: Sequence[np.ndarray] | None,
        state: Mapping[str, np.ndarray] | None = None,
        best: Mapping[str, Any] | None = None,
    ) -> None:
        """Write everything of a complete round.

        Parameters
        ----------
        weights : the new model; None for a failed round, which has no snapshot.
        state : what the strategy keeps between rounds, by name; only the last round's stays on disk.
        best : `[best]` of `run.toml`, when this round's model is the best so far.
        """
        import numpy as np

        for name, table in self.tables.items():
            table.append(rows.get(name, ()))
        files: list[tuple[Path, Callable[[BinaryIO], object]]] = []
        if weights is not None:
            snapshot = io.BytesIO()
            np.savez(snapshot, *weights)
            names = [f"round_{number:03d}.npz", *(["best.npz"] if best else [])]
            files += [(self.path / "models" / name, lambda file: file.write(snapshot.getbuffer())) for name in names]
            if state:
                files.append((self.path / "models" / f"{STATE}_{number:03d}.npz", lambda file: np.savez(file, **state)))  # type: ignore[arg-type]
        info = {**self.info, "rounds_done": number} | ({"best": dict(best)} if best else {})
        replace_files([*files, (self.path / "run.toml", _writing(info))])  # run.toml is the last: it says that the round is complete
        self.info = info
        if weights is not None:
            for old, kept in _numbered(self.path, STATE).items():
                if old < number:
                    kept.unlink()

    def keep_best(self, best: Mapping[str, Any]) -> None:
        """Make `models/best.npz` a copy of the best round's snapshot and set `[best]`; empty: there is none."""
        path = self.path / "models" / "best.npz"
        if not best:
            path.unlink(missing_ok=True)
            self.info.pop("best", None)
        elif snapshot := snapshots(self.path).get(best["round"]):  # else somebody made room: what there is stays
            with snapshot.open("rb") as source:
                replace_file(path, lambda file: shutil.copyfileobj(source, file))
        self.update(**({"best": dict(best)} if best else {}))

    def last_state(self) -> dict[str, np.ndarray]:
        """What the strategy kept when it made the newest snapshot; empty when it keeps nothing."""
        path = _numbered(self.path, STATE).get(max(snapshots(self.path)))
        return _load(path) if path else {}

    def last_weights(self) -> tuple[int, list[np.ndarray]]:
        """Number and arrays of the newest snapshot."""
        number, path = max(snapshots(self.path).items())
        return number, load_weights(path)

    def close(self, outcome: str, reason: str = "") -> None:
        """Record how the run ended: `finished`, `failed` or `stopped`."""
        self.update(outcome=outcome, end=now(), **({"reason": reason} if reason else {}))
        os.close(self._lock)


def now() -> datetime.datetime:
    """The current time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def list_runs(results: Path) -> list[Path]:
    """The folders of all runs, newest first."""
    runs = results / "runs"
    return sorted((path for path in runs.iterdir() if (path / "run.toml").is_file()), reverse=True) if runs.is_dir() else []


def read_info(run: Path) -> dict[str, Any]:
    """The content of a run's `run.toml`; a run whose server is gone without a word has the outcome `interrupted`."""
    path = run / "run.toml"
    try:
        info = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if info.get("outcome") == "running" and not _alive(info):
        info["outcome"] = "interrupted"
    return info


def snapshots(run: Path) -> dict[int, Path]:
    """The snapshots of a run by round number."""
    return _numbered(run, "round")


def find_snapshot(results: Path, run: str, which: str | None = None) -> tuple[int, Path]:
    """The snapshot that a user names: its round and its file, `<run's folder>/models/*.npz`.

    Parameters
    ----------
    run : the run's name, or its folder.
    which : number of a round, or `best` for the run's `best.npz`; None takes the best one, or the last of a run
        that has no best.

    Raises
    ------
    UserError
        When there is no such run, or it has no such snapshot.
    """
    named = results / "runs" / Path(run).name
    folder = Path(run).resolve() if (Path(run) / "run.toml").is_file() else named
    if not (folder / "run.toml").is_file():
        newest = ", ".join(path.name for path in list_runs(results)[:3]) or "none yet"
        raise UserError(f"there is no run {run!r} in {results / 'runs'} (newest: {newest})")
    found, best = snapshots(folder), folder / "models" / "best.npz"
    if which in (None, "best") and best.is_file():
        return int(read_info(folder).get("best", {}).get("round", 0)), best
    if which is None and found:
        return max(found.items())
    number = int(which) if which and which.isdecimal() else -1
    if number in found:
        return number, found[number]
    known = f"rounds {min(found)} to {max(found)}" if found else "none"
    raise UserError(f"run {folder.name} has no snapshot {which or ''} (it has {known}{', and best' if best.is_file() else ''})")


def load_weights(path: Path) -> list[np.ndarray]:
    """The arrays of a snapshot, in the order of `model.get_weights()`."""
    arrays = _load(path)
    try:
        return [arrays[f"arr_{i}"] for i in range(len(arrays))]
    except KeyError as error:
        raise UserError(f"{path} is no readable snapshot: it has no {error}") from None


def less_is_better(metric: str) -> bool:
    """Whether a small value of the metric is a good one, by its name; a class called `loss` makes no loss."""
    first, *others = metric.lower().split("_")
    if others[-1:] == ["spread"]:
        return True
    return first not in MORE_IS_BETTER and not LESS_IS_BETTER.isdisjoint((first, *others))


def _load(path: Path) -> dict[str, np.ndarray]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no readable snapshot: {error}") from None


def _numbered(run: Path, stem: str) -> dict[int, Path]:
    """The run's files `models/<stem>_NNN.npz` by number."""
    found = ((re.fullmatch(rf"{stem}_(\d+)\.npz", path.name), path) for path in (run / "models").iterdir())
    return {int(match[1]): path for match, path in found if match}


def _writer() -> dict[str, Any]:
    """Who writes: by pid and start time, so that a recycled pid is not taken for it."""
    return {"pid": os.getpid(), "pid_start": psutil.Process().create_time()}


def _alive(info: Mapping[str, Any]) -> bool:
    try:
        return abs(psutil.Process(info["pid"]).create_time() - info["pid_start"]) < 1
    except (psutil.NoSuchProcess, KeyError, TypeError, ValueError):  # gone, or a damaged file
        return False


def _point(link: Path, folder: Path) -> None:
    if link.is_dir() and not link.is_symlink():
        raise UserError(f"{link} is a folder where a link to the newest run belongs: move it away")
    replace_link(link, folder)


def _writing(info: Mapping[str, Any]) -> Callable[[BinaryIO], object]:
    """What writes `run.toml`."""
    content = tomli_w.dumps(_ordered(info)).encode()
    return lambda file: file.write(content)


def _ordered(info: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values first, then the tables: TOML would put a value behind a table into that table."""
    return dict(sorted(info.items(), key=lambda item: isinstance(item[1], (dict, list)) and _is_table(item[1])))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or bool(value and isinstance(value[0], dict))
