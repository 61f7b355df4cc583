"""The public Fleet API: Flower's own handlers behind one small ASGI application.

No Control or Runtime route exists here, so nothing can submit code. A pull that has nothing to give stays open until
the node gets a message (long poll): no polling, instant delivery. A node whose held calls break off, and that does not
call again, is taken for gone.
"""
from __future__ import annotations

import asyncio
import inspect
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from fastapi import HTTPException
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.error import http_error_translator
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from flwr.superlink.servicer.fleet import fleet_handlers
from google.protobuf.message import DecodeError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from poweranger.bundle import APPLIED, LARGEST, OBJECTS, PREFER, join, object_ids, preference_in, split
from poweranger.server.superlink.bundles import Deliveries, objects_of, store_objects
from poweranger.server.superlink.callers import authenticate, check_claims, fingerprint
from poweranger.server.superlink.listed import ListedKeys
from poweranger.server.superlink.peers import Peer, now

PREFIX = "/v1/fleet/"
NEWS = {"register-node", "activate-node", "deactivate-node", "unregister-node", "send-node-heartbeat", "push-messages", "push-object"}
JOINING = {"register-node", "activate-node"}  # may be called before the server knows the key
MAX_BODY = 1 << 20  # bytes; message envelopes and object trees are a few KiB
MAX_OBJECT = 512 << 20  # bytes of one object, which is a chunk of an array
LARGE = 1 << 20  # bytes; to hash fewer takes less than a millisecond, which handing them to a thread may cost, too
HOLD = 20.0  # seconds a call stays open; stock nodes read for 30 s at most
GRACE = 5.0  # seconds in which a node whose held calls broke off must call again


@dataclass(eq=False)
class _Held:
    """A call that stays open."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False


class FleetApp:
    """The public ASGI application.

    Parameters
    ----------
    listed : the clients that may join; None lets everybody in.
    news : called, from any thread, when a node did something that the grid may wait for.
    log : gets a line for what the operator wants to read.
    hold, grace : seconds, as `HOLD` and `GRACE`.

    Attributes
    ----------
    peers : who is behind each node.
    """

    def __init__(
        self,
        state: InMemoryLinkState,
        *,
        listed: ListedKeys | None,
        news: Callable[[], None],
        log: Callable[[str], None],
        hold: float = HOLD,
        grace: float = GRACE,
    ) -> None:
        self._fleet, self._listed, self._news, self._log = state, listed, news, log
        self._hold_seconds, self._grace = hold, grace
        self.state = SimpleNamespace(linkstate_factory=SimpleNamespace(state=lambda: state))  # where Flower's functions look
        self._routes = {}
        for (method, path), request_type in PROTOBUF_REQUEST_TYPES.items():
            if path.startswith(PREFIX):
                handler = getattr(fleet_handlers, path.removeprefix(PREFIX).replace("-", "_"))
                self._routes[method, path] = request_type, handler, set(inspect.signature(handler).parameters)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._held: defaultdict[int, set[_Held]] = defaultdict(set)
        self._calls: Counter[int] = Counter()
        self._refused: set[str] = set()
        self._deliveries = Deliveries(state)
        self.peers: dict[int, Peer] = {}
        self._closed = False

    def wake(self, node_ids: Iterable[int]) -> None:
        """Let the held calls of these nodes look again. Any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake, list(node_ids), False)

    def close(self) -> None:
        """Answer all held calls at once and hold no more."""
        self._closed = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(lambda: self._wake(list(self._held), True))

    def _wake(self, node_ids: list[int], over: bool) -> None:
        for node_id in node_ids:
            for held in self._held[node_id]:
                held.over = held.over or over
                held.woken.set()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one HTTP request (https://asgi.readthedocs.io/en/latest/specs/www.html)."""
        self._loop = asyncio.get_running_loop()
        scope["app"] = self
        try:
            response = await http_error_translator(Request(scope, receive), self._answer)
        except ClientDisconnect:
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        method, path = request.method, request.scope["path"]
        if path == "/health" and method in ("GET", "HEAD"):
            return PlainTextResponse("ok")
        if (method, path) not in self._routes:
            raise HTTPException(404)
        request_type, handler, wants = self._routes[method, path]
        name = path.removeprefix(PREFIX)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != PROTOBUF_MEDIA_TYPE:
            raise HTTPException(415)
        public_key, node_id = self._identify(request, name)
        prefers = preference_in(request.headers.get(PREFER, ""))
        bundled = prefers is not None and name == "push-messages"
        body = await _read(request, MAX_OBJECT if name == "push-object" else MAX_BODY + LARGEST * bundled)
        try:
            first, *contents = split(body) if bundled else [body]
            message = request_type.FromString(first)
            if contents and len(contents) != len(object_ids(message.message_object_trees[0])):
                raise ValueError("the objects are not those of the tree")
        except (DecodeError, ValueError, IndexError) as error:
            raise HTTPException(400) from error
        check_claims(message, public_key, node_id)

        state = self._fleet
        given = {"request": message, "state": state, "store": state.object_store, "enable_supernode_auth": self._listed is not None}
        arguments = {parameter: given[parameter] for parameter in wants}

        # The state lies in memory: a thread is worth its price only for hashing a large object.
        large = len(body) > LARGE
        del body, first

        def handle() -> bytes:
            pull = prefers is not None and name == "pull-messages"
            answer = self._deliveries.pull(message, prefers.got) if prefers and pull else handler(**arguments)
            if contents:
                store_objects(message, answer, contents, state)
            content: bytes = answer.SerializeToString()
            if prefers is None or not content:
                return content
            return join([content, *(objects_of(answer, prefers.held, message.node, state) if pull else [])])

        async def call() -> bytes:
            if node_id is not None:
                self._known(public_key)  # also when a held call looks again: the key may be revoked by now
            content = await run_in_threadpool(handle) if large else handle()
            if name in NEWS:
                self._news()
            return content

        if name in JOINING:
            self._notice_joining(request, name, public_key, node_id)
        if node_id is not None:
            self._calls[node_id] += 1
            self._note_peer(request, name, node_id)
        if name == "pull-messages" and node_id is not None:
            content = await self._hold(request, node_id, call)
        elif name == "send-node-heartbeat" and node_id is not None and "wait" in request.headers.get(PREFER, ""):
            content = await call()
            await self._hold(request, node_id, _nothing)  # our own nodes: their end is noticed while they train
        else:
            content = await call()
        if name in ("deactivate-node", "unregister-node") and node_id is not None:
            self._wake([node_id], True)
        applied = {APPLIED: OBJECTS} if prefers is not None and content else None
        return Response(content, media_type=PROTOBUF_MEDIA_TYPE, headers=applied)

    def _identify(self, request: Request, name: str) -> tuple[bytes, int | None]:
        """Who signed this call, from its headers alone: the body is not read for a stranger.

        Returns
        -------
        (public key, node id); the id is None for a key the server does not know.
        """
        public_key = authenticate(request.headers)
        if self._listed and (gone := self._listed.refresh()):
            self._wake(gone, True)
            self._news()
        return public_key, self._fleet.get_node_id_by_public_key(public_key) if name in JOINING else self._known(public_key)

    def _known(self, public_key: bytes) -> int:
        """The node with that key; 401 when there is none."""
        node_id = self._fleet.get_node_id_by_public_key(public_key)
        if node_id is None:
            raise HTTPException(401, "the server does not know this node")
        return node_id

    def _note_peer(self, request: Request, name: str, node_id: int) -> None:
        if name == "activate-node":
            self.peers[node_id] = Peer(_address(request))
        elif name == "push-messages" and node_id in self.peers:
            self.peers[node_id].answered = now()

    def _notice_joining(self, request: Request, name: str, public_key: bytes, node_id: int | None) -> None:
        """Make way for a node that starts again; refuse a stranger, and say so once a key."""
        if node_id is not None and name == "activate-node":
            self._fleet.deactivate_node(node_id)  # its process restarted: do not wait for its heartbeats to run out
            self._deliveries.forget(node_id)
        if self._listed and node_id is None:
            reason = "it has no listed key" if name == "register-node" else f"its key {fingerprint(public_key)} is not among the client keys"
            self.say_refusal(_address(request), reason)
            raise HTTPException(412, f"refused: {reason}")

    def say_refusal(self, address: str, reason: str) -> None:
        """Log, once, why a client cannot join."""
        line = f"refused a client at {address}: {reason}"
        if line not in self._refused and len(self._refused) < 1000:
            self._refused.add(line)
            self._log(line)

    async def _hold(self, request: Request, node_id: int, look: Callable[[], Awaitable[bytes]]) -> bytes:
        """Look at once and whenever the node is woken, until there is something or the time is over.

        A node that hangs up meanwhile gets nothing (a message would be lost) and is watched.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._hold_seconds
        gone = asyncio.ensure_future(request.receive())  # after the body, only the end of the connection can come
        held = _Held()
        self._held[node_id].add(held)
        try:
            while True:
                held.woken.clear()  # before the look, so that no wake is lost
                content = await look()
                left = deadline - loop.time()
                if content or left <= 0 or held.over or self._closed:
                    return content
                woken = asyncio.ensure_future(held.woken.wait())
                await asyncio.wait({woken, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                woken.cancel()
                if gone.done():
                    return b""
        finally:
            self._held[node_id].discard(held)
            if gone.done():
                loop.call_later(self._grace, self._check_alive, node_id, self._calls[node_id])
            gone.cancel()

    def _check_alive(self, node_id: int, calls: int) -> None:
        if self._calls[node_id] == calls and not self._held[node_id] and self._fleet.deactivate_node(node_id):
            (node,) = self._fleet.get_node_info(node_ids=[node_id])
            self._log(f"lost the connection to {node.name or f'node {node_id}'}")
            self._news()


def _address(request: Request) -> str:
    return request.client.host if request.client else "?"


async def _nothing() -> bytes:
    return b""


async def _read(request: Request, most: int) -> bytes:
    """The body, refused as soon as it exceeds `most` bytes."""
    if int(request.headers.get("content-length") or 0) > most:
        raise HTTPException(413)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413)
        parts.append(part)
    return b"".join(parts)
