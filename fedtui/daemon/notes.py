"""What the daemon has to say: once, in its own log and to whoever is attached."""
from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from fedtui.daemon.events import Broadcast
from fedtui.roster import Client, Roster


def log(text: str) -> None:
    """A line in the daemon's own log; a full disk must not stop what can go on."""
    with contextlib.suppress(OSError):
        print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


class Notes:
    """A note is said once, until the matter is settled."""

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast
        self._said: dict[str, str] = {}

    def say(self, matter: str, text: str) -> None:
        """Say `text`, unless the same has been said of this matter."""
        if self._said.get(matter) != text:
            self._said[matter] = text
            log(text)
            self._broadcast.publish("note", text=text)

    def settle(self, matter: str) -> None:
        """It is over: the next time it is news again."""
        self._said.pop(matter, None)

    @property
    def open(self) -> list[str]:
        """What has been said and is not settled."""
        return list(self._said.values())


def about_synthetic(roster: Roster, clients: Sequence[Client]) -> list[str]:
    """A note when clients train on made-up images because the roster does not say otherwise."""
    made_up = ", ".join(client.name for client in clients if client not in roster.clients)
    if not made_up:
        return []
    return [f"{made_up}: not in the roster ([tool.fedtui.clients] in pyproject.toml), on synthetic data"]
