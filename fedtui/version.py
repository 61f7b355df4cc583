"""Versions of this program and of what it stands on."""
from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

PACKAGE = "federated-health"


def version(package: str = PACKAGE) -> str:
    """The installed version of a package; this one's own also in a clone that is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        pass
    try:
        project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(project["version"]) if project["name"] == package else "not installed"
    except (OSError, ValueError, KeyError):
        return "not installed"
