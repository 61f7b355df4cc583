"""What of a run may leave the machine: a closed list, by name, so that nothing else ever does."""
from __future__ import annotations

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from poweranger.errors import UserError
from poweranger.results import TABLES, snapshots

METRICS, MODELS = "metrics", "models"


@dataclass(frozen=True)
class Chosen:
    """A file to upload: its name within the run's folder (`metrics/fit_metrics.csv`), its path, and its size in bytes."""

    name: str
    path: Path
    size: int


def parse_what(words: str) -> set[str]:
    """The parts that `metrics,models` names.

    Raises
    ------
    UserError
        For none, or one that is unknown.
    """
    what = {word.strip() for word in words.split(",")}
    if not what <= {METRICS, MODELS}:
        raise UserError(f"--what {words}: it takes {METRICS}, {MODELS}, or both with a comma between")
    return what


def choose(run: Path, what: Collection[str]) -> list[Chosen]:
    """The run's `run.toml`, its tables for `metrics`, its snapshots and `best.npz` for `models`; as far as they are there.

    A symbolic link is left out: it may point to anything.
    """
    paths = [run / "run.toml"]
    if METRICS in what:
        paths += [run / "metrics" / f"{table}.csv" for table in TABLES]
    if MODELS in what and (run / "models").is_dir():
        paths += [path for _, path in sorted(snapshots(run).items())] + [run / "models" / "best.npz"]
    found = []
    for path in paths:
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode):
            found.append(Chosen(path.relative_to(run).as_posix(), path, status.st_size))
    return found
