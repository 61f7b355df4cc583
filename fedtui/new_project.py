"""The `pyproject.toml` of a new project folder: everything that can be set, with what it means."""
from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

from fedtui.memory_rules import MemoryRules
from fedtui.roster import Roster
from poweranger.run_config import KEYS, Key, Value

NAME_LENGTH = 32  # the longest that Flower takes
WIDTH = 118
ROSTER: tuple[tuple[str, Value, str], ...] = (
    ("server-address", Roster.server_address, "Where the server listens, and clients connect to. On 127.0.0.1 it is this machine only."),
    ("role", Roster.role, "site: this machine has clients only, of a server elsewhere. server: the server, and no made-up clients. Empty: both."),
    ("idle-exit", Roster.idle_exit_s, "Seconds with nothing running and nobody looking after which the daemon ends."),
    ("log-mb", Roster.log_mb, "A log is put aside at this size in MB ..."),
    ("log-keep", Roster.log_keep, "... and so many of those are kept."),
    ("stop-grace", Roster.stop_grace_s, "Seconds that a process has to end before it is killed."),
    ("client-host", Roster.client_host, "Fork clients from one process that has TensorFlow loaded: sooner ready, and less memory."),
)
MEMORY: tuple[tuple[str, Value, str], ...] = (
    ("guard", MemoryRules.guard, "Stop clients in time when memory becomes short; false only measures."),
    ("dry-run", MemoryRules.dry_run, "Decide and record, but do nothing."),
    ("auto-return", MemoryRules.auto_return, "Start what was stopped again when there has been room for a while."),
    ("reserve-mb", MemoryRules.reserve_mb, "MB that a start must leave free; 0: 512 or 5 % of the limit, whichever is more, but a quarter of it at most."),
    ("warn-at", MemoryRules.warn_at, "The guard warns when less than so many reserves are left ..."),
    ("stop-at", MemoryRules.stop_at, "... stops a client once it has sent its answer ..."),
    ("stop-now-at", MemoryRules.stop_now_at, "... stops one at once ..."),
    ("kill-at", MemoryRules.kill_at, "... and kills one."),
)


def new_pyproject(folder_name: str) -> str:
    """The file's text. Run configuration in full, for Flower takes only keys that stand there; the rest as comments."""
    parts = [
        HEAD.format(name=project_name(folder_name)),
        *(f"{_comment(_explain(key))}\n{key.name} = {_toml(key.default)}\n" for key in KEYS),
        ROSTER_HEAD, _optional(ROSTER), "[tool.fedtui.memory]\n", _optional(MEMORY), CLIENTS,
    ]  # fmt: skip
    return "\n".join(parts)


def project_name(folder_name: str) -> str:
    """A name that Flower takes, like the folder's: a letter, then letters, digits and hyphens."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", folder_name).strip("-")
    return (name if name[:1].isalpha() else f"study-{name}")[:NAME_LENGTH].strip("-")


HEAD = '''\
# A project folder of Federated Health. What runs write goes to results/ beside this file.
#
#   fedtui up --wait                    server and clients of the roster below
#   fedtui                              the interface
#   poweranger simulation               everything in one process tree
#   flwr run .                          the same by Flower's own command
#   fedtui config set KEY=VALUE         edits this file in place; comments stay

[project]
name = "{name}"
version = "1.0.0"
description = "A federated study"
license = {{ text = "none" }}

[tool.flwr.app]
publisher = "local"
fab-include = ["/pyproject*.toml"]  # and nothing else of this folder: the code is that of the installed package

[tool.flwr.app.components]
serverapp = "poweranger.server.server_app:app"
clientapp = "poweranger.client.client_app:app"

# The run configuration, every key with its default. `--set` and `--run-config` win over the environment, the
# environment over this file.
[tool.flwr.app.config]
'''
ROSTER_HEAD = """\
# Who takes part on this machine, and how the daemon keeps house. What is commented out has its default.
[tool.fedtui]
"""
CLIENTS = """\
# A table a client; `fedtui client add NAME --data-dir DIR` writes one. Without any, `fedtui up` makes up C1 and C2 with
# synthetic images.
#
# [tool.fedtui.clients.hospital-a]
# data-dir = "/data/scans"            # a folder of class folders, or an .npz file; a relative one starts here
# env = { CUDA_VISIBLE_DEVICES = "0" }
"""


def _explain(key: Key) -> str:
    where = "; each client reads it in its own file" if key.reader == "site" else ""
    variable = f"; environment: {key.environment}" if key.environment else ""
    return f"{key.help}. Takes {key.allowed}{where}{variable}."


def _optional(entries: Iterable[tuple[str, Value, str]]) -> str:
    return "\n".join(f"{_comment(text)}\n# {name} = {_toml(value)}\n" for name, value, text in entries)


def _comment(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
