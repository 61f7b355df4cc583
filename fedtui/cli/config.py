"""The run configuration in `pyproject.toml`: `config get`, `set`, `unset`, `list` and `diff`."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fedtui.cli.context import Json, complete_key, daemon, project
from fedtui.cli.output import say, write, write_json, write_table
from fedtui.processes import ACTIVE
from poweranger.errors import UserError

if TYPE_CHECKING:
    from fedtui.config_edit import Setting

app = typer.Typer(help="Read and change the run configuration in pyproject.toml.", no_args_is_help=True, suggest_commands=False)
Keys = Annotated[list[str], typer.Argument(metavar="KEY...", autocompletion=complete_key)]


@app.command("get")
def get(keys: Keys, as_json: Json = False) -> None:
    """Print the value of keys, a line each."""
    from fedtui import config_edit

    settings = [config_edit.get(project(), key) for key in keys]
    if as_json:
        write_json({setting.key.name: setting.value for setting in settings})
    else:
        for setting in settings:
            write(spell(setting.value))


@app.command("set")
def set_(changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", autocompletion=complete_key)], as_json: Json = False) -> None:
    """Set keys, all of them or none; everything else in the file stays as it is."""
    from fedtui import config_edit

    if len(changes) == 2 and "=" not in changes[0]:  # KEY VALUE
        changes = ["=".join(changes)]
    _tell(config_edit.set_values(project(), pairs(changes)), "set", as_json)


@app.command("unset")
def unset(keys: Keys, as_json: Json = False) -> None:
    """Take keys out of the file, so that their defaults count."""
    from fedtui import config_edit

    _tell(config_edit.unset_values(project(), keys), "unset", as_json)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List every key with its value, default, range and meaning."""
    from fedtui import config_edit

    _list(config_edit.settings(project()), as_json)


@app.command("diff")
def diff(as_json: Json = False) -> None:
    """List the keys whose values differ from their defaults."""
    from fedtui import config_edit

    _list(config_edit.diff(project()), as_json)


def pairs(words: Sequence[str]) -> dict[str, str]:
    """`["a=1", "b=2"]` as a dictionary.

    Raises
    ------
    UserError
        For a word that is no pair, and for a key that is given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word!r} is no KEY=VALUE pair")
        if key in found:
            raise UserError(f"{key} is given twice")
        found[key] = value
    return found


def spell(value: object) -> str:
    """A value as it is written on a command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _list(settings: Iterable[Setting], as_json: bool) -> None:
    rows = [
        {
            "key": setting.key.name, "value": setting.value, "default": setting.key.default, "in_file": setting.in_file,
            "allowed": setting.key.allowed, "environment": setting.key.environment, "reader": setting.key.reader, "help": setting.key.help,
        }
        for setting in settings
    ]  # fmt: skip
    if as_json:
        write_json(rows)
        return
    shown = [row | {"value": spell(row["value"]), "default": spell(row["default"])} for row in rows]
    columns = {"key": "KEY", "value": "VALUE", "default": "DEFAULT", "allowed": "ALLOWED", "help": "WHAT IT DOES"}
    write_table(shown, columns, empty="every key has its default")


def _tell(changed: list[str], action: str, as_json: bool) -> None:
    """What was changed, and which running processes still go by the old values."""
    from fedtui.config_edit import which_need_restart

    client = daemon()
    readers = which_need_restart(changed)
    processes = client.processes() if changed and client.running() else []
    stale = [
        process["name"] for process in processes
        if process["state"] in ACTIVE and {"server": "server", "client": "clients"}.get(process["role"]) in readers
    ]  # fmt: skip
    if as_json:
        write_json({"changed": changed, "need_restart": stale})
        return
    say(f"{action}: {', '.join(changed)}" if changed else "nothing to change")
    if stale:
        say(f"what runs goes by the old values; for the new ones: fedtui restart {' '.join(stale)}")
