"""A new project folder: `init`."""
from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from fedtui.cli.output import say
from poweranger.errors import UserError
from poweranger.files import make_private_folder


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; it is made when it does not exist. Without it the current one.")] = Path("."),
) -> None:
    """Make a project folder: write a pyproject.toml with all that can be set, each with what it means."""
    from fedtui.new_project import new_pyproject

    path = Path(os.path.expanduser(folder)).absolute() / "pyproject.toml"
    text = new_pyproject(path.parent.resolve().name)
    try:
        make_private_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UserError(f"{path} exists already and is left as it is: give another folder, or move it away") from None
    except OSError as error:
        raise UserError(f"{path} cannot be made ({error.strerror}): give a folder of yours") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    say(f"made {path}")
    there = "" if path.parent == Path.cwd() else f"cd {shlex.quote(str(folder))}, then "
    say(f"next: {there}fedtui client add NAME --data-dir DIR, fedtui up --wait")
