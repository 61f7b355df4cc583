"""The project as a Flower App Bundle, which stock SuperNodes fetch."""
from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import tomli_w
from flwr.cli.build import build_fab_from_files
from flwr.supercore.fab import Fab

from poweranger.errors import UserError
from poweranger.origin import NOTE

INSTALLED = Path(__file__).resolve().parents[2]  # the package `poweranger`, for projects that have no copy of it


def build_fab(project_root: Path) -> Fab:
    """Bundle the packages that hold a project's ServerApp and ClientApp, and the files beside them.

    Flower's own filters leave out what is no code. Other folders (data, results, `.venv`) are not even looked at. A project
    that uses the installed `poweranger` has that in its bundle, and of its own files no more than `fab-include` names.

    Raises
    ------
    UserError
        When the project is no Flower app.
    """
    pyproject = project_root / "pyproject.toml"
    try:
        document = tomllib.loads(pyproject.read_text(encoding="utf-8"))
        app = document["tool"]["flwr"]["app"]
        files: dict[str, bytes | Path] = {path.name: path for path in project_root.iterdir() if path.is_file() and path.name != NOTE}
        for package in sorted({str(reference).partition(":")[0].partition(".")[0] for reference in app["components"].values()}):
            folder = project_root / package
            if package == INSTALLED.name and not folder.is_dir():
                folder = INSTALLED
                app["fab-include"] = [*app.get("fab-include", ["/pyproject.toml"]), f"{package}/**"]
            files |= {path.relative_to(folder.parent).as_posix(): path for path in folder.rglob("*.py")}
        files["pyproject.toml"] = tomli_w.dumps(document).encode()
        content, _ = build_fab_from_files(files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{pyproject} does not describe a Flower app that can be bundled: {error}") from None
    return Fab(hashlib.sha256(content).hexdigest(), content, {})
