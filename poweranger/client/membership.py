"""A node's place at a server: joining, heartbeats, calls that outlast an absent server, and signing off.

Flower's `http_request_response`, `HeartbeatSender` and retries are not used: they end the process at the first refused
or lost call.
"""
from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.proto import fleet_pb2, heartbeat_pb2, node_pb2

from poweranger.client.connection import FleetClient, Reply, why_refused, why_unreachable

HOLD = 20  # seconds our server may hold a heartbeat's answer, so that it notices when this process ends
REPEAT = 30.0  # seconds between two lines that say the same
SLOW_RETRY = 5.0  # seconds before a refused node tries again: the researcher may mend the server meanwhile
MAX_PAUSE = 2.0  # seconds between tries to reach a server


class Forgotten(Exception):
    """The server does not know this node (any more): it restarted, most likely."""


class Leaving(Exception):
    """The node shall end."""


class Membership:
    """One node at one server.

    Parameters
    ----------
    address, trust, key, log, status : as of `Node`.

    Attributes
    ----------
    node : None while it has not joined.
    leaving : once set, every wait and call here ends with `Leaving`.
    """

    def __init__(
        self,
        address: str,
        trust: ssl.SSLContext | None,
        key: ec.EllipticCurvePrivateKey | None,
        log: Callable[[str], None],
        status: Callable[[str], None],
    ) -> None:
        self._address, self._trust, self._key, self._log, self._status = address, trust, key, log, status
        self.leaving = threading.Event()
        self.node: node_pb2.Node | None = None
        self._fleet: FleetClient | None = None
        self._signing_off = threading.Lock()
        self._signed_off: node_pb2.Node | None = None
        self._complaint: tuple[str, float] = ("", 0.0)

    def join(self) -> bool:
        """Register and activate; False after a refusal, which is said and waited out. Raises `Leaving`."""
        self.node = None
        if self._fleet:
            self._fleet.close()
        fleet = self._fleet = FleetClient(self._address, self._trust, self._key or ec.generate_private_key(ec.SECP256R1()))
        try:
            if self._key is None:
                register = fleet_pb2.RegisterNodeFleetRequest(public_key=fleet.public_key)
                self.ask("register-node", register, fleet_pb2.RegisterNodeFleetResponse)
            activate = fleet_pb2.ActivateNodeRequest(public_key=fleet.public_key, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
            self.node = node_pb2.Node(node_id=self.ask("activate-node", activate, fleet_pb2.ActivateNodeResponse).node_id)
        except httpx.HTTPStatusError as error:
            self._complain(f"{self._address} refuses this client: {why_refused(error.response, self._key is not None)}")
            self.leaving.wait(SLOW_RETRY)
            return False
        self._complaint = ("", 0.0)
        self._log(f"connected to {self._address}")
        self._status("idle")
        return True

    @property
    def bundles(self) -> bool:
        """Whether the server takes an answer with its objects."""
        return self._fleet is not None and self._fleet.bundles

    def ask(self, name: str, request: Any, answer: type[Reply]) -> Reply:
        """`exchange` without objects."""
        return self.exchange(name, request, answer)[0]

    def exchange(
        self, name: str, request: Any, answer: type[Reply], *, objects: Sequence[bytes] = (), prefer: str = ""
    ) -> tuple[Reply, list[bytes]]:
        """Call (see `FleetClient.call`) until the server is reached, however long it takes.

        Raises
        ------
        httpx.HTTPStatusError
            When it answers an error other than "later".
        Forgotten, Leaving
        """
        assert self._fleet
        pause = 0.1
        while not self.leaving.is_set():
            try:
                reply = self._fleet.call(name, request, answer, objects=objects, prefer=prefer)
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 401 and self.node is not None:
                    raise Forgotten from None
                if error.response.status_code not in (502, 503, 504):
                    raise
                self._complain(f"waiting for {self._address}: it answers {error.response.status_code}")
            except httpx.RequestError as error:
                reason = why_unreachable(error, self._trust is not None)
                self._complain(f"waiting for {self._address}" + (f": {reason}" if reason else ""))
            else:
                if self._complaint[0] and self.node is not None:
                    self._complaint = ("", 0.0)
                    self._log(f"connected to {self._address} again")
                return reply
            self.leaving.wait(pause)
            pause = min(MAX_PAUSE, 2 * pause)
        raise Leaving

    @contextlib.contextmanager
    def heartbeats(self) -> Iterator[None]:
        """Send heartbeats while the context lasts."""
        over = threading.Event()
        threading.Thread(target=self._beat, args=(over, self._fleet, self.node), name="heartbeat", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def sign_off(self) -> None:
        """Tell the server that this node ends, once; an absent server will notice by itself."""
        with self._signing_off:
            fleet, node = self._fleet, self.node
            if fleet is None or node is None or node is self._signed_off:
                return
            self._signed_off = node
        with contextlib.suppress(httpx.HTTPError):
            fleet.call("deactivate-node", fleet_pb2.DeactivateNodeRequest(node_id=node.node_id), fleet_pb2.DeactivateNodeResponse)
            if self._key is None:
                request = fleet_pb2.UnregisterNodeFleetRequest(node_id=node.node_id)
                fleet.call("unregister-node", request, fleet_pb2.UnregisterNodeFleetResponse)

    def _beat(self, over: threading.Event, fleet: FleetClient, node: node_pb2.Node) -> None:
        """Our server holds each heartbeat, so that it sees the connection end when this process does."""
        request = heartbeat_pb2.SendNodeHeartbeatRequest(node=node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        while not (over.is_set() or self.leaving.is_set()):
            asked = time.monotonic()
            try:
                fleet.call("send-node-heartbeat", request, heartbeat_pb2.SendNodeHeartbeatResponse, prefer=f"wait={HOLD}")
                pause = 0.0 if time.monotonic() - asked >= 1 else float(HOLD)
            except (httpx.HTTPError, RuntimeError):  # RuntimeError: the connection was closed for a new one
                pause = MAX_PAUSE
            over.wait(pause)

    def _complain(self, text: str) -> None:
        """Say it at first, and then every `REPEAT` seconds."""
        last, when = self._complaint
        if text != last or time.monotonic() - when >= REPEAT:
            self._complaint = text, time.monotonic()
            self._log(text)
            self._status(text)
