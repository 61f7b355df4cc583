"""The clients that may join: a folder of public keys, looked at again whenever it has changed."""
from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState

from poweranger.errors import UserError
from poweranger.server.superlink.keys import key_files, read_client_keys

SETTLED = 1_000_000_000  # ns after which a folder's time of change tells every later change apart


class ListedKeys:
    """Lets the clients of a folder into the state, and takes them out when their file is taken away: no restart is needed.

    Raises
    ------
    UserError
        As `read_client_keys`, for the folder as it is at first; later mistakes are logged.
    """

    def __init__(self, folder: Path, state: InMemoryLinkState, log: Callable[[str], None]) -> None:
        self._folder, self._state, self._log = folder, state, log
        self._stamp, self._complaint = -1, ""
        self._keys: dict[str, bytes] = {}
        for name, key in read_client_keys(folder).items():
            self._add(name, key)

    def refresh(self) -> list[int]:
        """Take in what has changed in the folder; the nodes that are out now. Costs one `stat` while nothing has."""
        try:
            stamp = self._folder.stat().st_mtime_ns
        except OSError:
            stamp = 0
        if stamp == self._stamp:
            return []
        self._stamp = stamp if time.time_ns() - stamp > SETTLED else -1
        return self._take_in()

    def _take_in(self) -> list[int]:
        left = set(self._keys)
        try:
            left = {path.stem for path in key_files(self._folder)}
            found = read_client_keys(self._folder) if left else {}
            self._complaint = ""
        except UserError as error:  # what is unreadable changes nothing, but a key that is not there does not count
            found = {name: key for name, key in self._keys.items() if name in left}
            if str(error) != self._complaint:
                self._complaint = str(error)
                self._log(f"{error}; new keys do not count until then")
        gone = [self._remove(name) for name, key in list(self._keys.items()) if found.get(name) != key]
        for name, key in found.items():
            if name not in self._keys:
                self._add(name, key)
                self._log(f"{name} may join now: its key was added")
        return gone

    def _add(self, name: str, key: bytes) -> None:
        self._keys[name] = key
        self._state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, key, HEARTBEAT_DEFAULT_INTERVAL, name=name)

    def _remove(self, name: str) -> int:
        """Flower's `delete_node` fails for a node that never joined, and keeps its key for ever."""
        with self._state.lock:
            node_id = self._state.node_public_key_to_node_id.pop(self._keys.pop(name))
            self._state.deactivate_node(node_id)
        self._log(f"{name} is out: its key was revoked")
        return node_id
