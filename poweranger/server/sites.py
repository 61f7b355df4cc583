"""The sites of a run: who is connected, what each has said of itself, who is refused and why."""
from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict

from poweranger.errors import TooFewClients, UserError
from poweranger.messages import CONFIG, DESCRIBE, REFUSE, Site, reason_of
from poweranger.privacy.declared import check, sizes_of
from poweranger.run_config import KEYS
from poweranger.server.exchange import Exchange
from poweranger.server.federation import Federation, why_not
from poweranger.server.superlink.grid import LocalGrid

SAY_EVERY = 30.0  # seconds between two lines on who is still missing, when their number stays
ASK_AGAIN = 30.0  # seconds before a node that could not describe itself is asked anew
TWICE = 5.0  # seconds before a second client of the same name is asked again: the first may have died (above SETTLE)
SETTLE = 3.0  # seconds in which more clients may come when the configuration does not say how many to wait for


class Sites:
    """Describes every node that connects, before it takes part.

    Two projects on one machine may use the same port, and clients wait there for the next server. A supervisor that
    sets `FEDERATION_ID` for its server and its clients keeps those of others out.

    Attributes
    ----------
    federation : None until the handshake is over; later sites must fit it.
    refused : reason by client id.
    on_change : called whenever somebody came or left.
    """

    def __init__(self, exchange: Exchange, config: Mapping[str, Any], log: Callable[[str], None], virtual: bool = False) -> None:
        self.federation: Federation | None = None
        self.refused: dict[str, str] = {}
        self.on_change: Callable[[], None] = lambda: None
        self._exchange, self._config, self._log, self._virtual = exchange, config, log, virtual
        self._accepted: dict[int, Site] = {}
        self._asked: dict[str, int] = {}  # message id -> node
        self._not_before: dict[int, float] = {}  # node -> when it may be asked (again)
        self._changed = time.monotonic()
        self._twice: set[int] = set()  # nodes whose name another one has, and that have been told
        self._federation_id = os.environ.get("FEDERATION_ID", "")

    def sites(self) -> list[Site]:
        """The accepted sites, sorted by client id."""
        return sorted(self._accepted.values(), key=lambda site: site.client_id)

    def nodes(self) -> list[dict[str, str]]:
        """The accepted sites' connections, for `progress.json`: `client`, `address`, `since`, `answered` ("" before the first).

        Empty on a grid that does not know them, such as a simulation's.
        """
        peers = self._exchange.grid.peers if isinstance(self._exchange.grid, LocalGrid) else {}
        known = ((site.client_id, peers.get(node)) for node, site in self._accepted.items())
        rows = [
            {"client": client_id, "address": peer.address, "since": peer.since.isoformat(), "answered": peer.answered.isoformat() if peer.answered else ""}
            for client_id, peer in known if peer
        ]
        return sorted(rows, key=lambda row: row["client"])

    def free(self) -> dict[str, int]:
        """Node of each accepted client that is not busy with a message of an earlier round."""
        busy = self._exchange.busy()
        return {site.client_id: node for node, site in self._accepted.items() if node not in busy}

    def update(self) -> None:
        """See who came and who left, and take in the descriptions that have arrived."""
        nodes = {node.node_id: node.name for node in self._exchange.grid.get_nodes()}
        for node in self._accepted.keys() - nodes.keys():
            self._log(f"{self._accepted.pop(node).client_id} has left")
            self._touch()
        self._not_before = {node: when for node, when in self._not_before.items() if node in nodes}
        new = [node for node in nodes if self._not_before.get(node, 0.0) <= time.monotonic() and node not in self._asked.values()]
        new = [node for node in new if node not in self._accepted]
        if new:
            request = RecordDict({CONFIG: ConfigRecord({key.name: self._config[key.name] for key in KEYS if key.reader == "clients" or key.name == "channels"})})
            ids = self._exchange.push([Message(request, dst_node_id=node, message_type=DESCRIBE) for node in new])
            self._asked.update((message_id, node) for message_id, node in zip(ids, new, strict=True) if message_id)
            self._touch()
        for asked, reply in self._exchange.pull(self._asked).items():
            node = self._asked.pop(asked)
            self._take(node, nodes.get(node, ""), reply)
            self._touch()
        self._asked = {asked: node for asked, node in self._asked.items() if node in nodes}

    def wait_for(self, count: int, *, settle: bool = False, while_waiting: Callable[[], None] = lambda: None) -> None:
        """Wait until `count` clients are free; with `settle` then also until nobody is still describing itself, for `round-deadline` seconds at most.

        Parameters
        ----------
        while_waiting : called when they are not there at once, and again whenever somebody came or left.

        Raises
        ------
        TooFewClients
            After `client-wait` seconds, when that is set.
        UserError
            At once, when too many virtual clients were refused: nobody else will come.
        """
        start = said = time.monotonic()
        told, counted, enough = -1.0, -1, math.inf  # `enough`: since when they are there
        wait = self._config["client-wait"]
        while True:
            self.update()
            free, now = self.free(), time.monotonic()
            quiet = SETTLE if count == 1 else 0.0
            enough = min(enough, now) if len(free) >= count else math.inf
            settling = settle and now - enough < self._config["round-deadline"] and (self._asked or now - self._changed < quiet)
            if len(free) >= count and not settling:
                return
            if told != self._changed:
                told = self._changed
                while_waiting()
            if self._virtual and self.refused and not self._asked and len(self._accepted) < count:
                reasons = "; ".join(dict.fromkeys(self.refused.values()))
                raise UserError(f"{len(self._accepted)} of the {count} virtual clients that are needed can take part: {reasons}")
            if wait and now - start > wait and len(free) < count:
                raise TooFewClients(f"only {self._who(free, count)} within client-wait = {wait:g} s")
            if now - said > SAY_EVERY or len(free) != counted:
                said, counted = now, len(free)
                self._log(f"waiting for clients: {self._who(free, count)}")
            self._exchange.wait(1.0)

    def _take(self, node: int, key_name: str, reply: Message) -> None:
        if reply.has_error():
            reason = reason_of(reply).removeprefix(f"{key_name}: ") or "it could not describe itself"
            self._refuse(node, key_name or f"node {node}", reason, tell=False)
            return
        try:
            check("describe", reply.content, sizes_of(reply.content))
            site = Site.from_record(reply.content.config_records[CONFIG])
        except (KeyError, ValueError, TypeError) as error:
            self._refuse(node, key_name or f"node {node}", f"its description cannot be read: {error}")
            return
        if key_name and site.client_id != key_name:
            self._log(f"{site.client_id} joined with the key of {key_name} and is called {key_name}")
            site.client_id = key_name
        if self._federation_id and site.federation != self._federation_id:
            self._refuse(node, f"{site.client_id} of another project", "it waits for another project's server at this address")
            return
        if site.client_id in (known.client_id for other, known in self._accepted.items() if other != node):
            self._put_off(node, site.client_id)
            return
        others = [other for other in self._accepted.values() if other.client_id != site.client_id]
        reason = why_not(site, others, self._config, self.federation)
        if reason:
            self._refuse(node, site.client_id, reason)
            return
        for name in (site.client_id, f"node {node}"):
            self.refused.pop(name, None)
        self._accepted[node] = site
        skipped = f", {site.unreadable} unreadable" if site.unreadable else ""
        self._log(f"{site.client_id} is here: {site.num_train} training and {site.num_validation} validation images{skipped}, "
                  f"classes {', '.join(site.classes)}" + (f"; SYNTHETIC DATA: {site.synthetic_reason}" if site.synthetic else ""))

    def _put_off(self, node: int, client_id: str) -> None:
        """A second client of that name: a mistake, or the first one's process was killed and its end is not noticed yet."""
        self._not_before[node] = time.monotonic() + TWICE
        if node not in self._twice:
            self._twice.add(node)
            self._log(f"{client_id} connected a second time: the new one is taken when the first has left (if both shall take part, rename one)")

    def _refuse(self, node: int, client_id: str, reason: str, tell: bool = True) -> None:
        self._not_before[node] = float("inf") if tell else time.monotonic() + ASK_AGAIN
        if self.refused.get(client_id) != reason:
            self._log(f"{client_id} is not taken: {reason}")
        self.refused[client_id] = reason
        if tell:
            self._exchange.push([Message(RecordDict({CONFIG: ConfigRecord({"reason": reason})}), dst_node_id=node, message_type=REFUSE)])

    def _who(self, free: Mapping[str, int], count: int) -> str:
        here = ", ".join(sorted(free)) or "nobody"
        busy = sorted(site.client_id for site in self._accepted.values() if site.client_id not in free)
        parts = [f"{len(free)} of {count} here ({here})" if len(free) < count else f"{len(free)} here ({here})"]
        if self._asked:
            parts.append(f"{len(self._asked)} preparing their images")
        if busy:
            parts.append(f"still busy: {', '.join(busy)}")
        if self.refused:
            parts.append("not taken: " + "; ".join(sorted(self.refused)))
        return ", ".join(parts)

    def _touch(self) -> None:
        self._changed = time.monotonic()
        self.on_change()
