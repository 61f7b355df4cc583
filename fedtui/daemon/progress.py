"""Where the newest run stands, from the files that its server writes."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from poweranger.errors import UserError


def newest(results: Path) -> dict[str, Any]:
    """The newest run's `run.toml`; empty when there is no run."""
    from poweranger.results import list_runs, read_info  # imports NumPy: only a daemon that is asked pays for it

    try:
        return next((read_info(run) for run in list_runs(results)[:1]), {})
    except (UserError, OSError):
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
    """The newest run's; `results/metrics` points into that run."""
    return (results / "metrics").resolve().parent / "progress.json"
