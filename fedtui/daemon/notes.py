"""What the daemon has to say: once, in its own log and to whoever is attached."""
from __future__ import annotations

import time

from fedtui.daemon.events import Broadcast


class Notes:
    """A note is said once, until the matter is settled."""

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast
        self._said: dict[str, str] = {}

    def say(self, matter: str, text: str) -> None:
        """Say `text`, unless the same has been said of this matter."""
        if self._said.get(matter) != text:
            self._said[matter] = text
            print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)
            self._broadcast.publish("note", text=text)

    def settle(self, matter: str) -> None:
        """It is over: the next time it is news again."""
        self._said.pop(matter, None)

    @property
    def open(self) -> list[str]:
        """What has been said and is not settled."""
        return list(self._said.values())
