"""The project as a Flower App Bundle, which stock SuperNodes fetch."""
from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from flwr.cli.build import build_fab_from_files
from flwr.supercore.fab import Fab

from poweranger.errors import UserError


def build_fab(project_root: Path) -> Fab:
    """Bundle the packages that hold a project's ServerApp and ClientApp, and the files beside them.

    Flower's own filters leave out what is no code. Other folders (data, results, `.venv`) are not even looked at.

    Raises
    ------
    UserError
        When the project is no Flower app.
    """
    pyproject = project_root / "pyproject.toml"
    try:
        components = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["components"]
        packages = {str(reference).partition(":")[0].partition(".")[0] for reference in components.values()}
        paths = [path for package in sorted(packages) for path in (project_root / package).rglob("*.py")]
        paths += [path for path in project_root.iterdir() if path.is_file()]
        files: dict[str, bytes | Path] = {path.relative_to(project_root).as_posix(): path for path in paths}
        content, _ = build_fab_from_files(files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{pyproject} does not describe a Flower app that can be bundled: {error}") from None
    return Fab(hashlib.sha256(content).hexdigest(), content, {})
