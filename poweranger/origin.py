"""Where a run was asked for: the caller's project folder and environment, also when Flower runs a copy of the project.

Under `flwr run`, ServerApp and ClientApp are told by a copy of the project (`$FLWR_HOME/apps/<app>`) and live in a
process of a local SuperLink that another project may have started long ago: neither its current folder nor its
environment is the caller's. `flwr_run.py` therefore notes both in `pyproject.origin.toml` just before Flower packs the
project, and the copy carries the note. Its name is such that one pattern in `fab-include`, `/pyproject*.toml`, takes it
along when it is there: Flower refuses a pattern that fits no file.
"""
from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from poweranger.files import replace_file
from poweranger.run_config import KEYS, SETTINGS

VARIABLES = tuple(key.environment for key in KEYS if key.environment) + tuple(SETTINGS)
VIRTUAL_CLIENT_WAIT = 600.0  # seconds, in place of "for ever", in a simulation: nobody else will come
NOTE = "pyproject.origin.toml"


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


def submitted_locally() -> bool:
    """Whether this is the copy that `flwr run` handed to a SuperLink of this machine, with virtual clients."""
    return _carried() is not None


def write_note(root: Path, environment: Mapping[str, str]) -> None:
    """Note the caller's folder and its `VARIABLES` for the copy that Flower makes next; it goes when this process ends."""
    kept = {name: environment[name] for name in VARIABLES if environment.get(name, "").strip()}
    if data_dir := kept.get("DATA_DIR"):  # relative to the caller's folder, which the copy does not know
        kept["DATA_DIR"] = os.path.abspath(os.path.expanduser(data_dir))
    content = tomli_w.dumps({"root": str(root), "environment": kept}).encode()
    replace_file(root / NOTE, lambda file: file.write(content), durable=False)
    atexit.register(_remove_note, root / NOTE, (root / NOTE).stat().st_ino)


def adopt_caller() -> None:
    """In the process of a copy: take the caller's `VARIABLES`, and let Ray's workers import the copy.

    They look into the current folder first, and that of a SuperLink started elsewhere may hold another `poweranger`.
    """
    if note := _carried():
        for name in VARIABLES:
            os.environ.pop(name, None)
        os.environ.update(note["environment"])
        os.chdir(note["copy"])


def _remove_note(path: Path, inode: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == inode:  # else a run submitted at the same time has put its own there
            path.unlink()


@functools.cache
def _carried() -> dict[str, Any] | None:
    """The note, and the folder of the `copy` that carries it: Flower puts that on the path of the process it runs in."""
    for folder in map(Path, sys.path):
        if folder.parent.name == "apps" and (folder / NOTE).is_file():
            return {**tomllib.loads((folder / NOTE).read_text(encoding="utf-8")), "copy": folder}
    return None


def _is_flower_app(path: Path) -> bool:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False
    return "app" in document.get("tool", {}).get("flwr", {})
