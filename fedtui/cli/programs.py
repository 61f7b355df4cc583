"""Commands that run one of the project's programs in the foreground. It prints for itself, and prints names escaped."""
from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from fedtui.cli.context import Json, project


def run_program(module: str, *arguments: str) -> None:
    """Run `python -m module` in the project folder and exit with its code; paths among the arguments have to be absolute."""
    here = project()
    done = subprocess.run([here.python(), "-m", module, *arguments], cwd=here.root, stdin=subprocess.DEVNULL)
    raise typer.Exit(done.returncode if done.returncode >= 0 else 128 - done.returncode)


def absolute(path: Path) -> str:
    """A path that the user wrote, as it is understood from any folder."""
    return os.path.abspath(path.expanduser())


def data(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of class folders, or an .npz file.")],
    out: Annotated[Path, typer.Option(metavar="PNG", help="The contact sheet.")] = Path("contact_sheet.png"),
    image_size: Annotated[int | None, typer.Option(metavar="N", help="Side of the model's images; else the project's.")] = None,
    as_json: Json = False,
) -> None:
    """Describe images before they are used: counts, sizes, copies, what cannot be read; draws a contact sheet."""
    arguments = [absolute(folder), "--out", absolute(out)]
    arguments += ["--image-size", str(image_size)] if image_size is not None else []
    run_program("poweranger.client.data_loader", *arguments, *(["--json"] if as_json else []))
