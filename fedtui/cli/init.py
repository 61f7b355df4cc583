"""A new project folder: `init`."""
from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from fedtui.cli.output import say
from poweranger.errors import UserError
from poweranger.files import make_private_folder, write_new


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; it is made when it does not exist. Without it the current one.")] = Path("."),
) -> None:
    """Make a project folder: write a pyproject.toml with all that can be set, each with what it means."""
    from fedtui.new_project import new_pyproject

    path = Path(os.path.expanduser(folder)).absolute() / "pyproject.toml"
    text = new_pyproject(path.parent.resolve().name)
    try:
        make_private_folder(path.parent)
        write_new(path, text.encode())
    except FileExistsError:
        raise UserError(f"{path} exists already and is left as it is: give another folder, or move it away") from None
    except OSError as error:
        raise UserError(f"{path} cannot be made ({error.strerror}): give another folder") from None
    say(f"made {path}")
    there = "" if path.parent == Path.cwd() else f"cd {shlex.quote(str(folder))}, then "
    say(f"next: {there}fedtui client add NAME --data-dir DIR, fedtui up --wait")
