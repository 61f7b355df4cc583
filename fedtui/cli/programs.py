"""Commands that run one of the project's programs in the foreground. It prints for itself, and prints names escaped."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from fedtui.cli.context import Json, project

RunName = Annotated[str | None, typer.Option("--run", metavar="R", help="A run's name; else the newest.")]
Round = Annotated[str | None, typer.Option("--round", metavar="N", help="A round's number, or best; else the best, or the last of a run that has none.")]


def run_program(module: str, *arguments: str) -> NoReturn:
    """Become `python -m module` in the project folder: signals and exit code are its own. Paths among the arguments have to be absolute."""
    here = project()
    os.chdir(here.root)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.execv(here.python(), [here.python(), "-m", module, *arguments])


def absolute(path: Path) -> str:
    """A path that the user wrote, as it is understood from any folder."""
    return os.path.abspath(os.path.expanduser(path))


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


def evaluate(
    data: Annotated[Path, typer.Option(metavar="DIR", help="A folder of class folders, or an .npz file.")],
    run: RunName = None,
    round_: Round = None,
    split: Annotated[str | None, typer.Option(metavar="S", help="Of an .npz file: test, val or train; else test.")] = None,
    as_json: Json = False,
) -> None:
    """Evaluate a run's model on images that took no part in the run: figures with intervals, confusion counts."""
    arguments = [*_snapshot(run, round_), "--data", absolute(data), *(["--split", split] if split else [])]
    run_program("poweranger.evaluate", *arguments, *(["--json"] if as_json else []))


def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of them.")],
    run: RunName = None,
    round_: Round = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Print the probabilities that a run's model gives to images."""
    run_program("poweranger.predict", *_snapshot(run, round_), *(["--csv"] if as_csv else []), *map(absolute, images))


def export(
    form: Annotated[str, typer.Option("--format", metavar="keras|onnx|litert", help="What kind of file.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write; the model card is FILE.md.")],
    run: RunName = None,
    round_: Round = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a run's model for other programs, with a model card. The file has to give what Keras gives."""
    arguments = [*_snapshot(run, round_), "--format", form, "--out", absolute(out), *(["--force"] if force else [])]
    run_program("poweranger.export", *arguments)


def _snapshot(run: str | None, round_: str | None) -> list[str]:
    from fedtui.metrics import find_run

    return ["--run", find_run(project().results, run).name, *(["--round", round_] if round_ else [])]
