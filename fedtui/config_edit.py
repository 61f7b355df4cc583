"""Reads and edits the run configuration and the roster in `pyproject.toml`; everything but the value stays as it was."""
from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedtui.project import Project, read_document
from fedtui.pyproject_file import edit
from fedtui.roster import SITE_ROLE, check_address, check_client_name, check_env, read_roster
from fedtui.toml_edit import add_table, remove, set_value
from poweranger.errors import UserError
from poweranger.run_config import BY_NAME, KEYS, Key, Value, find_key, resolve

CONFIG = ("tool", "flwr", "app", "config")
CLIENTS = ("tool", "fedtui", "clients")


@dataclass(frozen=True)
class Setting:
    """A key of the run configuration with its value; `in_file` tells whether it stands in the file or is the default."""

    key: Key
    value: Value
    in_file: bool


def get(project: Project, name: str) -> Setting:
    """The setting called `name`.

    Raises
    ------
    UserError
        When there is no such key, its value is not allowed, or the file cannot be read.
    """
    return _setting(project, find_key(name), _config(project))


def settings(project: Project) -> list[Setting]:
    """Every key of the run configuration, in the README's order; raises as `get` does, also for an unknown key."""
    table = _config(project)
    for name in table:
        try:
            find_key(name)
        except UserError as error:
            raise UserError(f"{project.pyproject}: {error}; `fedtui config unset {name}` takes it out") from None
    return [_setting(project, key, table) for key in KEYS]


def diff(project: Project) -> list[Setting]:
    """The settings that differ from their defaults."""
    return [setting for setting in settings(project) if setting.value != setting.key.default]


def set_values(project: Project, changes: Mapping[str, Value], fingerprint: str | None = None) -> list[str]:
    """Set several keys, all of them or none.

    Parameters
    ----------
    changes : values by key; a text is read as on a command line (`"0.5"` sets the number).
    fingerprint : what `pyproject_file.fingerprint` told when the values were shown to the user; None when they were not.

    Returns
    -------
    list of str
        The keys whose values changed.

    Raises
    ------
    UserError
        When a key is unknown, a value not allowed, or the file cannot be edited; nothing is changed then.
    """
    checked = {name: find_key(name).parse(value) if isinstance(value, str) else find_key(name).check(value) for name, value in changes.items()}
    resolve(checked)  # refuses what only contradicts itself, such as one class name
    changed: list[str] = []

    def apply(text: str) -> str:
        table = _table(tomllib.loads(text), CONFIG)
        for name, value in checked.items():
            if name not in table or type(table[name]) is not type(value) or table[name] != value:
                text = set_value(text, [*CONFIG, name], value)
                changed.append(name)
        return text

    edit(project, apply, fingerprint)
    return changed


def unset_values(project: Project, names: Iterable[str]) -> list[str]:
    """Take keys out of the file, so that their defaults count; all of them or none. Returns those that stood there.

    Raises
    ------
    UserError
        When a name is neither a key nor in the file, or the file cannot be edited.
    """
    removed: list[str] = []

    def apply(text: str) -> str:
        table = _table(tomllib.loads(text), CONFIG)
        for name in dict.fromkeys(names):
            if name in table:
                text = remove(text, [*CONFIG, name])
                removed.append(name)
            else:
                find_key(name)  # names the nearest key
        return text

    edit(project, apply)
    return removed


def which_need_restart(names: Iterable[str]) -> set[str]:
    """Which running processes must start again for a change of these keys to count: of "server" and "clients".

    What the server reads or sends to the clients counts from its next start; what a client's process reads for
    itself from that client's next start. A name that is no key is read by nobody.
    """
    return {"clients" if BY_NAME[name].reader == "site" else "server" for name in names if name in BY_NAME}


def set_server_address(project: Project, address: str) -> None:
    """Set the roster's `server-address`, a `host:port`."""
    checked = check_address(address)
    edit(project, lambda text: set_value(text, ["tool", "fedtui", "server-address"], checked))


def become_site(project: Project, address: str, name: str, data_dir: str | None = None) -> None:
    """Make the project a site of the server at `address`, with the client `name`; what is not given of it stays."""
    checked, client = check_address(address), [*CLIENTS, check_client_name(name)]

    def apply(text: str) -> str:
        text = set_value(text, ["tool", "fedtui", "server-address"], checked)
        text = set_value(text, ["tool", "fedtui", "role"], SITE_ROLE)
        if name not in _table(tomllib.loads(text), CLIENTS):
            return add_table(text, client, {"data-dir": data_dir} if data_dir else {})
        return set_value(text, [*client, "data-dir"], data_dir) if data_dir else text

    _edit_roster(project, apply)


def add_client(project: Project, name: str, data_dir: str | None = None, env: Mapping[str, str] | None = None) -> None:
    """Add a client to the roster; a relative `data_dir` starts at the project folder.

    Raises
    ------
    UserError
        When the name is taken or not allowed, a value is not allowed, or the file cannot be edited.
    """
    check_client_name(name)
    values: dict[str, object] = {"data-dir": data_dir} if data_dir is not None else {}
    if env:
        values["env"] = check_env(env, f"client {name}:")

    def apply(text: str) -> str:
        if name in _table(tomllib.loads(text), CLIENTS):
            raise UserError(f"there is a client {name} already: take another name, or remove it first")
        return add_table(text, [*CLIENTS, name], values)

    _edit_roster(project, apply)


def change_client(project: Project, name: str, data_dir: str | None = None, env: Mapping[str, str | None] | None = None) -> None:
    """Change a client of the roster; what is not given stays.

    Parameters
    ----------
    data_dir : the new folder; an empty text takes it away, so that the client trains on synthetic images.
    env : variables to set; None as a value takes the variable away.
    """
    set_env = check_env({key: value for key, value in (env or {}).items() if value is not None}, f"client {name}:")
    gone = [key for key, value in (env or {}).items() if value is None]

    def apply(text: str) -> str:
        entry = _existing(text, name)
        if data_dir:
            text = set_value(text, [*CLIENTS, name, "data-dir"], data_dir)
        elif data_dir is not None:
            text = remove(text, [*CLIENTS, name, "data-dir"]) if "data-dir" in entry else text
        if set_env and "env" not in entry:
            return set_value(text, [*CLIENTS, name, "env"], set_env)
        for key, value in set_env.items():
            text = set_value(text, [*CLIENTS, name, "env", key], value)
        for key in gone:
            if key in entry.get("env", {}):
                text = remove(text, [*CLIENTS, name, "env", key])
        return text

    _edit_roster(project, apply)


def remove_client(project: Project, name: str) -> None:
    """Take a client out of the roster."""

    def apply(text: str) -> str:
        _existing(text, name)
        return remove(text, [*CLIENTS, name])

    edit(project, apply)


def _edit_roster(project: Project, change: Callable[[str], str]) -> None:
    def apply(text: str) -> str:
        text = change(text)
        read_roster(tomllib.loads(text), project.root)  # refuses a roster that `up` would refuse
        return text

    edit(project, apply)


def _config(project: Project) -> Mapping[str, Any]:
    return _table(read_document(project.pyproject), CONFIG)


def _existing(text: str, name: str) -> Mapping[str, Any]:
    clients = _table(tomllib.loads(text), CLIENTS)
    if name not in clients:
        raise UserError(f"there is no client {name} in the roster: it has {', '.join(clients) or 'none'}")
    return clients[name]  # type: ignore[no-any-return]


def _table(document: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    table: Any = document
    for name in path:
        table = table.get(name, {})
        if not isinstance(table, dict):
            raise UserError(f"pyproject.toml: {name} in [{'.'.join(path)}] is no table")
    return table  # type: ignore[no-any-return]


def _setting(project: Project, key: Key, table: Mapping[str, Any]) -> Setting:
    if key.name not in table:
        return Setting(key, key.default, in_file=False)
    try:
        return Setting(key, key.check(table[key.name]), in_file=True)
    except UserError as error:
        raise UserError(f"{project.pyproject}: {error}") from None
