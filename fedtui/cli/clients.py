"""The roster in `pyproject.toml`: `client add`, `rm` and `list`."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fedtui.cli.config import pairs
from fedtui.cli.context import Json, complete_name, daemon, project
from fedtui.cli.output import say, write_json, write_table
from fedtui.processes import ACTIVE
from poweranger.errors import UserError

app = typer.Typer(help="Read and change the roster of clients in pyproject.toml.", no_args_is_help=True, suggest_commands=False)
Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_name)]


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    data_dir: Annotated[str | None, typer.Option(metavar="D", help="Its folder of class folders, or .npz file; else it makes synthetic images.")] = None,
    env: Annotated[list[str] | None, typer.Option(metavar="K=V", help="An environment variable of its process.")] = None,
) -> None:
    """Add a client to the roster."""
    from fedtui.config_edit import add_client

    found = project()
    if data_dir is not None:
        data_dir = stored_path(data_dir, found.root)
    add_client(found, name, data_dir, pairs(env or []))
    say(f"added {name}: `fedtui start {name}` starts it, `fedtui up` starts everything")


@app.command("rm")
def rm(name: Name) -> None:
    """Take a client out of the roster; it must be stopped."""
    from fedtui.config_edit import remove_client

    client = daemon()
    states = {process["name"]: process["state"] for process in client.processes()} if client.running() else {}
    if states.get(name) in ACTIVE:
        raise UserError(f"{name} is {states[name]}: `fedtui stop {name}` first")
    remove_client(client.project, name)
    say(f"removed {name}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the roster."""
    roster = project().roster()
    clients = roster.effective()
    if as_json:
        write_json([{"name": client.name, "data_dir": client.data_dir, "env": client.env, "exists": _exists(client.data_dir)} for client in clients])
        return
    if not clients:
        say("the roster is empty")
        return
    if not roster.clients:
        say("the roster is empty: these are the clients that `fedtui up` makes up (fedtui client add NAME --data-dir D)")
    rows = [
        {
            "name": client.name,
            "data": (client.data_dir or "synthetic images") + ("" if _exists(client.data_dir) else " (does not exist)"),
            "env": " ".join(f"{key}={value}" for key, value in client.env.items()),
        }
        for client in clients
    ]
    write_table(rows, {"name": "NAME", "data": "DATA", "env": "ENVIRONMENT"})


def stored_path(typed: str, root: Path) -> str:
    """The path that a user typed in the current folder as the roster keeps it: relative to the project when it lies in it.

    Raises
    ------
    UserError
        When there is nothing at that path.
    """
    path = Path(os.path.abspath(os.path.expanduser(typed)))
    if not path.exists():
        raise UserError(f"{typed} does not exist: give a folder of class folders or an .npz file")
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _exists(data_dir: str | None) -> bool:
    return data_dir is None or Path(data_dir).exists()
