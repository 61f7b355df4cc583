"""Which saved values what runs does not go by yet."""
from __future__ import annotations

import datetime
import time
from collections.abc import Iterable

from fedtui.config_edit import which_need_restart
from fedtui.tui.store import ACTIVE, Store
from poweranger.run_config import BY_NAME, Key, Value

ROLES = {"server": "server", "client": "clients"}


def when(key: Key) -> str:
    """From when on a new value of `key` counts."""
    return "from each client's next start" if key.reader == "site" else "from the next run"


class Staleness:
    """Remembers when keys, and clients of the roster, were changed from here.

    Attributes
    ----------
    times : seconds since 1970 by key, or by client as "client C1".
    """

    def __init__(self) -> None:
        self.times: dict[str, float] = {}

    def saved(self, names: Iterable[str]) -> None:
        """These have been changed now."""
        self.times |= dict.fromkeys(names, time.time())

    def is_later(self, store: Store, name: str, value: Value) -> bool:
        """Whether a process that reads the key still goes by another value."""
        running = store.run.get("config", {})
        same = BY_NAME[name].reader != "site" and running.get(name) == value
        return not same and bool(self.readers(store, [name]))

    def readers(self, store: Store, names: Iterable[str]) -> list[str]:
        """The processes that read one of the keys and have been started before it was changed."""
        found: dict[str, None] = {}
        for name in names:
            roles = which_need_restart([name])
            for process in store.processes:
                if ROLES.get(process["role"]) in roles and started_before(process, self.times.get(name, 0.0)):
                    found[process["name"]] = None
        return list(found)

    def client_is_later(self, store: Store, name: str) -> bool:
        """Whether a client runs as it stood in the roster before it was changed."""
        process = store.process(name)
        return process is not None and started_before(process, self.times.get(f"client {name}", 0.0))


def started_before(process: dict[str, object], moment: float) -> bool:
    """Whether a process runs that was started before `moment`."""
    if process["state"] not in ACTIVE or not process.get("started"):
        return False
    return datetime.datetime.fromisoformat(str(process["started"])).timestamp() < moment - 1
