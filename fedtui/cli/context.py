"""What commands have in common: the project they are about, its daemon, and options that several take."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from fedtui.project import Project
from poweranger.errors import UserError

if TYPE_CHECKING:
    from fedtui.client import DaemonClient
    from poweranger.run_config import Value

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A value of the run configuration, for this run only.")]


def complete_name(context: click.Context, incomplete: str) -> list[str]:
    """Names of processes for shell completion; none where there is no project that can be read."""
    try:  # a completion has its context, but is not in it
        clients = _project(context).roster().effective()
    except UserError:
        return []
    return [name for name in ("server", *(client.name for client in clients)) if name.startswith(incomplete)]


def complete_key(incomplete: str) -> list[str]:
    """Keys of the run configuration for shell completion."""
    from poweranger.run_config import KEYS

    return [key.name for key in KEYS if key.name.startswith(incomplete)]


Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Processes: server, C1, ...", autocompletion=complete_name)]


def project() -> Project:
    """The project of `--project`, else of the current folder."""
    return _project(click.get_current_context())


def daemon() -> DaemonClient:
    """The project's daemon, started at the first request."""
    from fedtui.client import DaemonClient

    return DaemonClient(project())


def parse_set(words: Sequence[str] | None, *, site_keys: bool = False) -> dict[str, Value]:
    """The values of `--set`, checked, over those of this command's environment variables.

    Raises
    ------
    UserError
        Also, without `site_keys`, for a key that each client reads for itself: it cannot be told for one run.
    """
    import shlex

    from poweranger.run_config import BY_NAME, from_environment, parse_overrides

    typed = parse_overrides(shlex.join(words or ()), "--set")
    for name in typed:
        if BY_NAME[name].reader == "site" and not site_keys:
            raise UserError(f"{name} is read by each client when it starts: `fedtui config set {name}=...`, then restart the clients")
    given = from_environment(os.environ)
    return {name: value for name, value in given.items() if site_keys or BY_NAME[name].reader != "site"} | typed


def _project(context: click.Context) -> Project:
    folder = context.find_root().params.get("project")
    return Project.find(Path(folder) if folder else None)
