"""Where the present or last run stands, from the files that its server writes."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from poweranger.errors import UserError


def newest(results: Path) -> dict[str, Any]:
    """`run.toml` of the run that was last started or resumed; empty when there is no run."""
    from poweranger.results import read_info  # imports NumPy: only a daemon that is asked pays for it

    try:
        return read_info(progress_file(results).parent)
    except UserError:
        return {}


def read(results: Path) -> dict[str, Any]:
    """`progress.json` of the newest run, with the run's name and outcome; `{"run": None}` when there is no run."""
    info = newest(results)
    if not info:
        return {"run": None}
    try:
        content = json.loads(progress_file(results).read_bytes())
    except (OSError, ValueError):
        content = {}
    return {**content, "run": info.get("run"), "outcome": info.get("outcome")}


def progress_file(results: Path) -> Path:
    """In the run that `results/metrics` points into: the one last started or resumed."""
    return (results / "metrics").resolve().parent / "progress.json"
