"""What the daemon starts: command lines and environment of server, clients and simulation. A test gives its own."""
from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedtui.project import Project
from fedtui.roster import Client, Roster
from poweranger.run_config import KEYS, Value, find_key

MARK = "FEDTUI_PROCESS"  # in the environment of a process and all its descendants: whose they are

_SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|PRIVATE_?KEY|SSH_AUTH_SOCK|SSH_AGENT_PID", re.IGNORECASE)
_OURS = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", MARK)  # meant for the daemon

# The command that asks sends its own values of these: those of the shell that the daemon came from do not count.
_RUN_VARIABLES = {key.environment for key in KEYS if key.environment and key.reader != "site"}


@dataclass(frozen=True)
class RunWish:
    """How the server, or a simulation, is to run; `settings` are values of the run configuration."""

    settings: Mapping[str, Value] = field(default_factory=dict)
    run_name: str | None = None
    resume: str | None = None
    supernodes: int | None = None
    data_dir: str | None = None  # what a simulation's virtual clients share out

    @classmethod
    def of(cls, settings: Mapping[str, Any], **others: Any) -> RunWish:
        """With checked settings; texts are read as on a command line. A `UserError` names a wrong key or value."""
        checked = {
            name: find_key(name).parse(value) if isinstance(value, str) else find_key(name).check(value)
            for name, value in settings.items()
        }
        return cls(checked, **others)

    @property
    def run_config(self) -> str:
        """The settings as `--run-config` takes them."""
        texts = (f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in self.settings.items())
        return " ".join(map(shlex.quote, texts))


class Commands:
    """Command lines of the real programs."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def server(self, roster: Roster, wish: RunWish) -> list[str]:
        """The server, on the roster's address."""
        command = [*self._module("poweranger.server.server_app"), "--host", roster.host, "--port", str(roster.port)]
        command += self.project.keys.server_options()
        if wish.settings:
            command += ["--run-config", wish.run_config]
        if wish.resume is not None:  # an empty one, of a script for instance, is no new run
            return [*command, "--resume", wish.resume]
        return [*command, "--run-name", wish.run_name] if wish.run_name else command

    def client(self, roster: Roster, client: Client) -> list[str]:
        """One client."""
        module = self._module("poweranger.client.standalone_client")
        command = [*module, "--client-id", client.name, "--server-address", roster.client_address]
        command += self.project.keys.client_options(client.name)
        return [*command, "--data-dir", client.data_dir] if client.data_dir else command

    def host(self) -> list[str]:
        """The client host, from which clients are forked."""
        return [self.project.python(), "-m", "poweranger.client.host"]

    def simulation(self, wish: RunWish) -> list[str]:
        """Flower's simulation, the whole federation in one process tree."""
        command = [self.project.python(), "-m", "poweranger.simulation"]
        if wish.supernodes is not None:
            command += ["--supernodes", str(wish.supernodes)]
        return [*command, "--run-config", wish.run_config] if wish.settings else command

    def _module(self, name: str) -> list[str]:
        return [self.project.python(), "-m", name, "--project", str(self.project.root)]


def federation(project: Project, roster: Roster) -> dict[str, str]:
    """What keeps clients of another project out, which may wait at the same port of this machine for their own server.

    A server that other machines can reach, also through a tunnel, takes all that come, as its keys say.
    """
    alone = roster.host in ("127.0.0.1", "::1", "localhost") and not roster.role and not project.keys.ca.exists()
    return {"FEDERATION_ID": project.state.name} if alone else {}


def host_environment(project: Project) -> dict[str, str]:
    """The client host's: no process's mark, for it is none of those, and no GPU, which no fork could use any more."""
    inherited = environment(project, "", {"CUDA_VISIBLE_DEVICES": ""})
    return {name: value for name, value in inherited.items() if name not in _OURS}


def environment(project: Project, mark: str, extra: Mapping[str, str]) -> dict[str, str]:
    """A process's environment: the daemon's own without secrets, what supervision needs, then the client's own.

    `mark` is what `MARK` is set to: by it a descendant is found whose parents are gone.
    """
    left_out = {*_OURS, *_RUN_VARIABLES}
    inherited = {name: value for name, value in os.environ.items() if name not in left_out and not _SECRET.search(name)}
    own = {MARK: mark, "NOTIFY_SOCKET": str(project.notify_socket)}
    return own | {  # also first: `/proc` has room for a forked client's first variables only
        **inherited,
        "PYTHONUNBUFFERED": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **extra,
    } | own
