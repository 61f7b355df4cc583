"""The roster in `pyproject.toml`: who takes part, and how the daemon keeps house."""
from __future__ import annotations

import difflib
import ipaddress
import itertools
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedtui.memory_rules import MEMORY_KEYS, MemoryRules, read_rules
from poweranger.errors import UserError

CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SERVER_ROLE, SITE_ROLE = "server", "site"
RESERVED_NAMES = ("server", "simulation", "daemon")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class Client:
    """One client of the roster.

    Attributes
    ----------
    data_dir : absolute path of its images; None trains on synthetic ones.
    env : variables that only this client's process gets.
    """

    name: str
    data_dir: str | None = None
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Roster:
    """`[tool.fedtui]`: who takes part, and how the daemon keeps house.

    Attributes
    ----------
    server_address : `host:port`; the server runs here when `server_local`.
    clients : as the file lists them; `effective` fills an empty roster.
    idle_exit_s : seconds with nothing running and nobody attached after which the daemon ends.
    log_mb, log_keep : a log is rotated at this size in MB; so many old ones stay.
    stop_grace_s : seconds between SIGTERM and SIGKILL.
    client_host : clients may be forked from one process that has TensorFlow loaded.
    memory : what the memory guard may do.
    role : `site`: clients only, of a server elsewhere; `server`: the server, and no made-up clients; "" for both.
    """

    server_address: str = "127.0.0.1:8081"
    clients: tuple[Client, ...] = ()
    idle_exit_s: float = 900.0
    log_mb: int = 50
    log_keep: int = 3
    stop_grace_s: float = 5.0
    client_host: bool = True
    memory: MemoryRules = field(default_factory=MemoryRules)
    role: str = ""

    @property
    def host(self) -> str:
        """The server's host, without the brackets of an IPv6 address."""
        return self.server_address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The server's port."""
        return int(self.server_address.rpartition(":")[2])

    @property
    def server_local(self) -> bool:
        """Whether the server runs here: at no site, and where its address is this machine's.

        A name other than this machine's own is not looked up.
        """
        if self.role:
            return self.role == SERVER_ROLE
        host = self.host
        try:
            family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        except ValueError:
            return host.lower() in ("localhost", socket.gethostname().lower())
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.bind((host, 0))  # only an address of this machine can be bound
        except OSError:
            return False
        return True

    @property
    def elsewhere(self) -> str:
        """Why there is no server here, in words."""
        return f"this is a site of {self.server_address}" if self.role == SITE_ROLE else f"the server is on another machine ({self.server_address})"

    @property
    def client_address(self) -> str:
        """Where clients on this machine reach the server: loopback when it listens on every address."""
        loopback = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host)
        return f"{loopback}:{self.port}" if loopback else self.server_address

    def effective(self, count: int | None = None) -> tuple[Client, ...]:
        """The clients to start: the first `count` of the roster, filled up with C1, C2, ... on synthetic data.

        Without `count` all of the roster; when it is empty C1 and C2, or none where a role is given.
        """
        if count is None:
            count = len(self.clients) or (0 if self.role else 2)
        return (*self.clients[:count], *self.made_up(count - len(self.clients)))

    def made_up(self, count: int) -> tuple[Client, ...]:
        """So many clients that the roster does not name, on synthetic data: C1, C2, ..."""
        taken = {client.name for client in self.clients}
        names = (name for number in itertools.count(1) if (name := f"C{number}") not in taken)
        return tuple(Client(name) for name in itertools.islice(names, max(count, 0)))


def read_roster(document: Mapping[str, Any], root: Path) -> Roster:
    """The roster in a parsed `pyproject.toml`; `root` is the folder that a relative `data-dir` starts from.

    Raises
    ------
    UserError
        When a key is unknown or has a wrong value.
    """
    table = _table(_table(document, "tool", ""), "fedtui", "tool.")
    where = "[tool.fedtui]"
    _refuse_unknown(table, ("server-address", "role", "clients", "idle-exit", "log-mb", "log-keep", "stop-grace", "client-host", "memory"), where)
    values: dict[str, Any] = {}
    if "server-address" in table:
        values["server_address"] = check_address(table["server-address"])
    values["role"] = table.get("role", "")
    if values["role"] not in ("", SERVER_ROLE, SITE_ROLE):
        raise UserError(f'{where} role = {values["role"]!r} is not allowed: it takes "site" (clients only) or "server" (no made-up clients)')
    for key, name, kind, low, high in (
        ("idle-exit", "idle_exit_s", float, 0.1, 1e7),
        ("log-mb", "log_mb", int, 1, 100_000),
        ("log-keep", "log_keep", int, 1, 100),
        ("stop-grace", "stop_grace_s", float, 0, 3600),
    ):
        if key in table:
            values[name] = _number(table[key], kind, low, high, f"{where} {key}")
    values["client_host"] = table.get("client-host", True)
    if not isinstance(values["client_host"], bool):
        raise UserError(f"{where} client-host = {values['client_host']!r} is not allowed: it takes true or false")
    memory = _table(table, "memory", "tool.fedtui.")
    _refuse_unknown(memory, tuple(MEMORY_KEYS), "[tool.fedtui.memory]")
    values["memory"] = read_rules(memory)
    clients = _table(table, "clients", "tool.fedtui.")
    values["clients"] = tuple(_client(name, entry, root) for name, entry in clients.items())
    return Roster(**values)


def check_address(value: object) -> str:
    """`value` when it is a `host:port` (IPv6 as `[::1]:8081`); else a `UserError`."""
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise UserError(f'[tool.fedtui] server-address = {value!r} is not allowed: write "host:port", such as "127.0.0.1:8081"')
    return str(value)


def check_client_name(name: str) -> str:
    """`name` when a client may bear it; else a `UserError`."""
    if not CLIENT_NAME.fullmatch(name) or name in RESERVED_NAMES:
        reserved = ", ".join(RESERVED_NAMES)
        raise UserError(f"client name {name!r} is not allowed: letters, digits, '.', '_' and '-', 64 at most, and none of {reserved}")
    return name


def check_env(env: object, where: str) -> dict[str, str]:
    """`env` when it maps variable names to texts; else a `UserError` that begins with `where`."""
    if not isinstance(env, Mapping):
        raise UserError(f'{where} env is no table: write env = {{NAME = "value"}}')
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name):
            raise UserError(f"{where} env: {name!r} is no name of an environment variable")
        if not isinstance(value, str) or "\0" in value:
            raise UserError(f'{where} env: {name} takes text in quotes, such as {name} = "1"')
    return {str(name): str(value) for name, value in env.items()}


def _client(name: str, entry: object, root: Path) -> Client:
    where = f"[tool.fedtui.clients.{check_client_name(name)}]"
    if not isinstance(entry, Mapping):
        raise UserError(f"{where} is no table")
    _refuse_unknown(entry, ("data-dir", "env"), where)
    data_dir = entry.get("data-dir")
    if data_dir is not None:
        if not isinstance(data_dir, str) or not data_dir.strip() or "\0" in data_dir:
            raise UserError(f"{where} data-dir takes the path of a folder or .npz file in quotes")
        data_dir = os.path.normpath(root / os.path.expanduser(data_dir))
    return Client(name, data_dir, check_env(entry.get("env", {}), where))


def _table(parent: Mapping[str, Any], name: str, prefix: str) -> Mapping[str, Any]:
    table = parent.get(name, {})
    if not isinstance(table, Mapping):
        raise UserError(f"[{prefix}{name}] in pyproject.toml is no table")
    return table


def _refuse_unknown(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in known:
            near = difflib.get_close_matches(name.replace("_", "-").lower(), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
            raise UserError(f"{where} has no key {name}: {hint}")


def _number(value: object, kind: type, low: float, high: float, where: str) -> float:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or not isinstance(value, (int, float)) or not low <= value <= high:
        noun = "an integer" if kind is int else "a number"
        raise UserError(f"{where} = {value!r} is not allowed: it takes {noun} from {low:g} to {high:g}")
    return value
