"""The real daemon with actors in place of server and clients, these forked from a host: `python daemon_under_test.py PROJECT`.

`parts.json` in the project says who plays what; without an entry a process plays `works`; a path is a program to start.
A folder `proc` in the project stands for the kernel's, as far as the memory guard looks at the machine.
"""
from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from fedtui.daemon import proc
from fedtui.daemon.commands import Commands, RunWish
from fedtui.daemon.guard import guard, policy
from fedtui.daemon.guard.readings import Meter
from fedtui.daemon.run import run
from fedtui.project import Project
from fedtui.roster import Client, Roster
from poweranger.errors import run_program

ACTOR, HOST = (Path(__file__).with_name(name) for name in ("actor.py", "actor_host.py"))


class Actors(Commands):
    def actor(self, name: str) -> list[str]:
        parts = json.loads((self.project.root / "parts.json").read_text())
        part = parts.get(name, "works")
        return [part] if part.startswith("/") else [sys.executable, str(ACTOR), name, part, str(self.project.root)]

    def server(self, roster: Roster, wish: RunWish) -> list[str]:
        return [*self.actor("server"), wish.run_config]

    def client(self, roster: Roster, client: Client) -> list[str]:
        return self.actor(client.name)

    def host(self) -> list[str]:
        part = json.loads((self.project.root / "parts.json").read_text()).get("host", str(HOST))
        return [sys.executable, part]

    def simulation(self, wish: RunWish) -> list[str]:
        return self.actor("simulation")


def main() -> int:
    project = Project.find(Path(sys.argv[1]))
    if (project.root / "proc").exists():
        guard.Meter = partial(Meter, project.root / "proc")  # type: ignore[misc]
    policy.ROOM_S = 3.0  # a minute in earnest
    proc.KILL_S = 1.0  # ten in earnest
    run(project, Actors(project))
    return 0


if __name__ == "__main__":
    run_program("daemon", main)
