"""A Flower Grid that works on the SuperLink's own state, in the same process, woken by events."""
from __future__ import annotations

import datetime
import queue
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Error, Message, RecordDict
from flwr.app.message.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.serverapp import Grid
from flwr.supercore.constant import NodeStatus
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import NoObjectInStoreError
from flwr.supercore.run import Run

from poweranger.server.superlink.peers import Peer
from poweranger.server.superlink.store import Store

LEFT = "the client's process ended or lost its connection before it answered"
RESTARTED = "the client's process ended before it answered, and has started again"
EXPIRED = "the message could not be delivered, or expired before the client answered"
BROKEN_OFF = "the client's answer was broken off on its way"
UNREADABLE = "the client's answer cannot be read"
MAX_WAIT = 3600.0  # seconds; far beyond it, the queue's own timeout overflows


class News:
    """Something happened that the one waiting thread may want to look at.

    A `SimpleQueue`, because its `put` may run in a signal handler that interrupts a `get` of the same thread.
    """

    def __init__(self) -> None:
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        """Wake the waiter, or let its next wait return at once. Any thread, and signal handlers."""
        if self._rings.empty():
            self._rings.put(None)

    def wait(self, timeout: float) -> None:
        """Return at a ring since the last wait, or after `timeout` seconds."""
        try:
            self._rings.get(timeout=max(0.0, timeout))
            while True:
                self._rings.get_nowait()
        except queue.Empty:
            pass


@dataclass
class _Open:
    """A message without an answer yet.

    Attributes
    ----------
    message : as the state keeps it (no content), which notes in it when the node fetched it.
    reply_id : the answer's, once its upload has begun.
    """

    message: Message
    reply_id: str = ""


class LocalGrid(Grid):
    """Messages to nodes and their answers. One thread uses it; `interrupt` may come from anywhere.

    Parameters
    ----------
    store : the state's own.
    wake : tells the listener that these nodes have something to fetch.
    news : rung by the listener when a node did something.
    peers : who is behind each node, kept by the listener.
    """

    def __init__(
        self,
        state: InMemoryLinkState,
        store: Store,
        run: Run,
        wake: Callable[[Iterable[int]], None],
        news: News,
        peers: Mapping[int, Peer],
    ) -> None:
        self._state, self._store, self._run, self._wake, self._news = state, store, run, wake, news
        self.peers = peers
        self._open: dict[str, _Open] = {}

    def set_run(self, run: Run) -> None:
        """Work for another run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run this grid works for."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Flower's deprecated way to write `Message(...)`."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """The nodes that are connected."""
        return list(self._state.get_nodes(self._run.run_id))

    def get_nodes(self) -> list[NodeInfo]:
        """The nodes that are connected; `name` is that of the client's key file, empty without client keys."""
        return list(self._state.get_node_info(node_ids=self.get_node_ids()))

    def wait(self, timeout: float | None = None) -> None:
        """Return at news from a node since the last wait, after `timeout` seconds, or at once after `interrupt`.

        It may return without news too: look, and wait again.
        """
        ends = [node.online_until - time.time() + 0.01 for node in self.get_nodes() if node.online_until is not None]
        self._news.wait(min([MAX_WAIT, *ends] if timeout is None else [MAX_WAIT, timeout, *ends]))

    def interrupt(self) -> None:
        """Let the running or the next `wait` return at once. Safe in a signal handler."""
        self._news.ring()

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Hand messages to their nodes. A message to a node that has gone gets an error reply."""
        ids = []
        with no_object_id_recompute():
            for message in messages:
                message.metadata.__dict__["_message_id"] = message.object_id
                objects = get_all_nested_objects(message)
                with self._store.lock_store:  # a straggler's confirmation deletes what it holds
                    for object_id in self._store.preregister(self._run.run_id, get_object_tree(message)):
                        self._store.put_own(object_id, objects[object_id].deflate())  # first: a node never sees half a message
                stored = remove_content_from_message(message)
                self._open[message.object_id] = _Open(stored)
                self._state.store_message_ins(stored)
                ids.append(message.object_id)
        self._wake({self._open[message_id].message.metadata.dst_node_id for message_id in ids})
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that are complete, and an error reply for each message that nobody will answer any more."""
        asked = [message_id for message_id in message_ids if message_id in self._open]
        # Before the look for replies: a node may answer and leave right after.
        lost = {message_id: reason for message_id in asked if (reason := self._why_lost(message_id))}
        lost = self._find_replies(asked) | lost
        replies = []
        for message_id in asked:
            reply = self._assemble(message_id)
            if reply is None and message_id in lost:
                reply = self._error(message_id, lost[message_id])
            if reply is not None:
                self.withdraw([message_id])
                replies.append(reply)
        return replies

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send, and wait for all replies or `timeout` seconds; what is missing then is withdrawn."""
        end = None if timeout is None else time.monotonic() + timeout
        waiting = set(self.push_messages(messages))
        replies: list[Message] = []
        while True:
            new = self.pull_messages(waiting)
            replies += new
            waiting -= {reply.metadata.reply_to_message_id for reply in new}
            left = None if end is None else end - time.monotonic()
            if not waiting or (left is not None and left <= 0):
                break
            self.wait(left)
        self.withdraw(waiting)
        return replies

    def withdraw(self, message_ids: Iterable[str]) -> None:
        """Forget messages whose replies nobody waits for: the nodes' answers will be dropped, their objects freed."""
        with self._state.lock:  # no reply may begin between the look and the deletion
            known = [message_id for message_id in message_ids if message_id in self._open]
            self._find_replies(known)
            self._state.delete_messages(set(known))
            for message_id in known:
                self._store.delete(message_id)
                if reply_id := self._open.pop(message_id).reply_id:
                    self._store.delete(reply_id)

    def _why_lost(self, message_id: str) -> str:
        """Why the message's node will never answer it; empty while it may."""
        metadata = self._open[message_id].message.metadata
        nodes = self._state.get_node_info(node_ids=[metadata.dst_node_id])
        if not nodes or nodes[0].status != NodeStatus.ONLINE:
            return LEFT
        parse = datetime.datetime.fromisoformat
        if metadata.delivered_at and parse(metadata.delivered_at) < parse(nodes[0].last_activated_at):
            return RESTARTED
        return ""

    def _find_replies(self, message_ids: Iterable[str]) -> dict[str, str]:
        """Note the replies whose upload has begun; return the reasons of Flower's own error replies.

        Flower's `get_message_res` does not find the reply of a node that has left since, so it is asked for errors only.
        """
        unanswered = {message_id for message_id in message_ids if not self._open[message_id].reply_id}
        with self._state.lock:
            for message_id in unanswered & self._state.message_ins_id_to_message_res_id.keys():
                self._open[message_id].reply_id = self._state.message_ins_id_to_message_res_id[message_id]
                unanswered.discard(message_id)
            failed = {}
            for reply in self._state.get_message_res(message_ids=unanswered, run_id=self._run.run_id):
                metadata = reply.metadata
                failed[metadata.reply_to_message_id] = LEFT if reply.error.code == ErrorCode.NODE_UNAVAILABLE else EXPIRED
                self._store.delete(metadata.message_id)
        return failed

    def _assemble(self, message_id: str) -> Message | None:
        """The reply, or an error reply when it can never be read; None while parts of it are on their way."""
        open_message = self._open[message_id]
        if not open_message.reply_id:
            return None
        contents = {}
        try:
            for node in iterate_object_tree(self._store.get_object_tree(open_message.reply_id)):
                content = self._state.get_object(self._run.run_id, node.object_id)
                if content is None:
                    return self._error(message_id, BROKEN_OFF)
                if not content:
                    return None
                contents[node.object_id] = content
        except NoObjectInStoreError:
            return self._error(message_id, BROKEN_OFF)
        try:
            reply = inflate_object_from_contents(open_message.reply_id, contents)
        except Exception as error:  # whatever a broken client may send
            return self._error(message_id, f"{UNREADABLE}: {type(error).__name__}")
        asked = open_message.message.metadata
        if (
            not isinstance(reply, Message)
            or reply.metadata.reply_to_message_id != message_id
            or reply.metadata.src_node_id != asked.dst_node_id
        ):
            return self._error(message_id, f"{UNREADABLE}: it answers something else")
        reply.metadata.__dict__["_message_id"] = open_message.reply_id
        return reply

    def _error(self, message_id: str, reason: str) -> Message:
        return Message(Error(ErrorCode.NODE_UNAVAILABLE, reason), reply_to=self._open[message_id].message)
