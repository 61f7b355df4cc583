"""Where a run was asked for: the caller's project folder and environment, also when Flower runs a copy of this package.

Under `flwr run`, ServerApp and ClientApp live in a copy of the project (`$FLWR_HOME/apps/<app>`) and in a process of
a local SuperLink that another project may have started long ago: neither its current folder nor its environment is
the caller's. `flwr_run.py` therefore notes both in `_origin.json` beside this file just before Flower packs the
project, and the copy carries the note. `poweranger/.gitignore` keeps it out of git: Flower leaves out what the root
`.gitignore` names, and only that one.
"""
from __future__ import annotations

import functools
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poweranger.files import replace_file
from poweranger.run_config import KEYS, SETTINGS

VARIABLES = tuple(key.environment for key in KEYS if key.environment) + tuple(SETTINGS)
NOTE = Path(__file__).with_name("_origin.json")


def project_root() -> Path:
    """The project folder: the caller's under `flwr run`, else the nearest one above the current folder, else that."""
    if note := _carried():
        return Path(note["root"])
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if _is_flower_app(folder / "pyproject.toml")), here)


def caller_environment() -> dict[str, str]:
    """The caller's environment: under `flwr run` only `VARIABLES`, without those its `--run-config` overrides."""
    if note := _carried():
        return dict(note["environment"])
    return dict(os.environ)


def write_note(root: Path, environment: Mapping[str, str]) -> None:
    """Note the caller's folder and its `VARIABLES` for the copy that Flower makes next; raises OSError."""
    kept = {name: environment[name] for name in VARIABLES if environment.get(name, "").strip()}
    if data_dir := kept.get("DATA_DIR"):  # relative to the caller's folder, which the copy does not know
        kept["DATA_DIR"] = os.path.abspath(os.path.expanduser(data_dir))
    content = json.dumps({"root": str(root), "environment": kept}, indent=1).encode()
    replace_file(NOTE, lambda file: file.write(content), durable=False)


def remove_note() -> None:
    """Take the note away, so that an app sent to another machine does not carry it."""
    NOTE.unlink(missing_ok=True)


@functools.cache
def _carried() -> dict[str, Any] | None:
    """The note, when this package is the copy of one that Flower installed; a note in the project itself is for others."""
    if NOTE.resolve().parents[2].name != "apps":
        return None
    try:
        return json.loads(NOTE.read_bytes())  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None


def _is_flower_app(path: Path) -> bool:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False
    return "app" in document.get("tool", {}).get("flwr", {})
