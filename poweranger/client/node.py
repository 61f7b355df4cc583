"""A client's node: it keeps its ClientApp loaded, speaks the Fleet API, and serves run after run until it leaves.

It takes the place of `flower-supernode`, which starts a process for every message. It works on any SuperLink of this
Flower version; on our own server it waits for messages without polling.
"""
from __future__ import annotations

import ssl
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Context, Error, Message, RecordDict
from flwr.app.message.message import remove_content_from_message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto import fleet_pb2, message_pb2
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from poweranger.bundle import LARGEST, Preference, object_ids
from poweranger.client.membership import SLOW_RETRY, Forgotten, Leaving, Membership
from poweranger.errors import UserError
from poweranger.messages import DESCRIBE, METRICS, NUM_EXAMPLES
from poweranger.privacy.declared import Harmless, harmless

SMALL, MOST_HELD = 4096, 64  # bytes of an object not worth keeping; objects kept, which each pull names
POLL = 0.7  # seconds between pulls at a server that does not hold them
TOO_LATE = "the answer came too late, or twice: the server does not want it any more"


class Dropped(Exception):
    """The server does not want this answer any more."""


class Node:
    """One client's node. `run` serves; `leave`, from another thread, ends it, `finish` lets it first send what it works on.

    Parameters
    ----------
    app : called with each message; its exceptions become error replies.
    address : the server's `host:port`.
    node_config : what the app finds in its context's `node_config`.
    trust : from `load_root_certificates`; None for plain HTTP.
    key : from `load_private_key`; None joins under a new key each time, which only a server without client keys takes.
    log : gets a line for what the operator wants to read; status : what the node does now, in a few words.
    """

    def __init__(
        self,
        app: ClientApp,
        address: str,
        node_config: Mapping[str, Any],
        *,
        trust: ssl.SSLContext | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
        log: Callable[[str], None] = print,
        status: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._app, self._config, self._log, self._status = app, dict(node_config), log, status
        self._membership = Membership(address, trust, key, log, status)
        self._ask = self._membership.ask
        self._states: dict[int, RecordDict] = {}
        self._objects: dict[str, bytes] = {}  # large ones of the last message: training and evaluation carry the same weights
        self._got = ""  # id of the last message: the server hands one out again when this shows that it was lost on its way
        self._unusable: UserError | None = None
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="objects")
        self._answering = threading.Lock()

    def run(self) -> None:
        """Join and serve, again after every loss of the server, until `leave`.

        Raises
        ------
        UserError
            When the app cannot describe this site: its data are unusable. The server has been told.
        """
        membership = self._membership
        try:
            while True:
                if membership.join():
                    with membership.heartbeats():
                        self._serve()
        except Leaving:
            pass
        finally:
            membership.sign_off()  # if `leave` came while the node joined, it had nothing to sign off yet
            self._pool.shutdown(wait=False, cancel_futures=True)

    def leave(self, timeout: float = 1.0) -> None:
        """End: tell the server, so that nobody waits for this client; at most `timeout` seconds."""
        self._membership.leaving.set()
        sign_off = threading.Thread(target=self._membership.sign_off, daemon=True)
        sign_off.start()
        sign_off.join(timeout)

    def finish(self) -> None:
        """Return once the answer it works on is sent, at once when there is none; it takes no other message. `leave` comes next."""
        self._answering.acquire()  # never released

    def _serve(self) -> None:
        """Message after message, until the server forgets this node."""
        try:
            while True:
                asked = time.monotonic()
                request = fleet_pb2.PullMessagesRequest(node=self._membership.node)
                prefer = str(Preference(frozenset(self._objects), self._got))
                pulled, objects = self._membership.exchange("pull-messages", request, fleet_pb2.PullMessagesResponse, prefer=prefer)
                if pulled.messages_list:
                    self._got = pulled.messages_list[0].metadata.message_id
                    with self._answering:
                        self._handle(message_from_proto(pulled.messages_list[0]), pulled.message_object_trees[0], objects)
                    if self._unusable:
                        raise self._unusable
                    self._status("idle")
                elif time.monotonic() - asked < 1:
                    self._membership.leaving.wait(POLL)
        except Forgotten:
            self._log("the server does not know this client any more, joining again")
        except httpx.HTTPStatusError as error:
            self._log(f"the server answered {error.response.status_code} to a pull, joining again")
            self._membership.leaving.wait(SLOW_RETRY)

    def _handle(self, envelope: Message, tree: message_pb2.ObjectTree, objects: list[bytes]) -> None:
        """Fetch what did not come with a message, let the app answer it, send the answer."""
        metadata = envelope.metadata
        about = f"round {metadata.group_id}: " if metadata.group_id.isdigit() else ""
        kind = metadata.message_type.partition(".")[0]
        doing = {"train": "training", "evaluate": "evaluating"}.get(kind, f"answering {metadata.message_type}")
        try:
            self._status(f"round {metadata.group_id}, {doing}" if about else doing)
            message = self._fetch(metadata.run_id, tree, objects)
            start = time.monotonic()
            reply = self._answer(message, about)
            seconds = time.monotonic() - start
            did = {"train": "trained", "evaluate": "evaluated"}.get(kind, f"answered {metadata.message_type}")
            if reply.has_error():
                did = f"failed while {doing}"
            else:
                did += _figures(reply)
            self._send(metadata.run_id, reply, seconds)
            self._log(f"{about}{did}, {seconds:.2f} s, sent")
        except Dropped as error:
            self._log(f"{about}{error}")
        except httpx.HTTPStatusError as error:
            over = error.response.status_code == 403
            self._log(f"{about}the run is over" if over else f"{about}the server answered {error.response.status_code}, going on")

    def _fetch(self, run_id: int, tree: message_pb2.ObjectTree, objects: list[bytes]) -> Message:
        ids = object_ids(tree)
        if objects:  # all that this node does not hold; the server knows that it has them
            new = iter(objects)
            contents = {object_id: self._objects.get(object_id) or next(new, b"") for object_id in ids}
        else:
            contents = dict(zip(ids, self._pool.map(lambda object_id: self._object(run_id, object_id), ids), strict=True))
            confirm = message_pb2.ConfirmMessageReceivedRequest(node=self._membership.node, run_id=run_id, message_object_id=tree.object_id)
            self._ask("confirm-message-received", confirm, message_pb2.ConfirmMessageReceivedResponse)
        self._objects = dict([item for item in contents.items() if len(item[1]) > SMALL][:MOST_HELD])
        message = inflate_object_from_contents(tree.object_id, contents, keep_object_contents=True)
        message.metadata.__dict__["_message_id"] = tree.object_id  # type: ignore[attr-defined]
        return message  # type: ignore[return-value]

    def _object(self, run_id: int, object_id: str) -> bytes:
        if content := self._objects.get(object_id):
            return content
        request = message_pb2.PullObjectRequest(node=self._membership.node, run_id=run_id, object_id=object_id)
        pause = 0.02
        while True:
            answer = self._ask("pull-object", request, message_pb2.PullObjectResponse)
            if not answer.object_found:
                raise Dropped("the server took the message back")
            if answer.object_available:
                return answer.object_content
            self._membership.leaving.wait(pause)  # its sender has not stored it yet
            pause = min(0.5, 2 * pause)

    def _answer(self, message: Message, about: str) -> Message:
        """The app's reply, or an error reply for its exception (as `flwr-clientapp` does)."""
        run_id = message.metadata.run_id
        self._states = {run_id: self._states.get(run_id, RecordDict())}
        node_id = message.metadata.dst_node_id
        context = Context(run_id=run_id, node_id=node_id, node_config=self._config, state=self._states[run_id], run_config={})
        try:
            reply = self._app(message=message, context=context)
            if not isinstance(reply, Message):
                raise TypeError(f"the app returned {type(reply).__name__} instead of a Message")
        except Exception as error:
            whole = error.__cause__ if isinstance(error, Harmless) and isinstance(error.__cause__, Exception) else error
            sentence = str(whole) if isinstance(whole, UserError) else f"the app failed\n{''.join(traceback.format_exception(whole)).rstrip()}"
            self._log(f"{about}{sentence}")
            if isinstance(whole, UserError) and message.metadata.message_type == DESCRIBE:
                self._unusable = whole  # its data must be mended: the node ends once the server knows
            said = error if isinstance(error, Harmless) else harmless(error)
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(said)), reply_to=message)
        self._states[run_id] = context.state
        return reply

    def _send(self, run_id: int, reply: Message, seconds: float) -> None:
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects = get_all_nested_objects(reply)
            request = fleet_pb2.PushMessagesRequest(
                node=self._membership.node,
                messages_list=[message_to_proto(remove_content_from_message(reply) if reply.has_content() else reply)],
                message_object_trees=[get_object_tree(reply)],
                clientapp_runtime_list=[seconds],
            )
            contents = {object_id: objects[object_id].deflate() for object_id in object_ids(request.message_object_trees[0])}
        bundle = list(contents.values()) if self._membership.bundles and sum(map(len, contents.values())) <= LARGEST else []
        pushed, _ = self._membership.exchange("push-messages", request, fleet_pb2.PushMessagesResponse, objects=bundle)
        root = contents.pop(reply.metadata.message_id)
        root_wanted = reply.metadata.message_id in pushed.objects_to_push
        if bundle:
            if root_wanted:
                raise Dropped(TOO_LATE)
            return
        missing = {object_id: contents[object_id] for object_id in pushed.objects_to_push if object_id in contents}

        def push(object_id: str, content: bytes) -> bool:
            request = message_pb2.PushObjectRequest(
                node=self._membership.node, run_id=run_id, session_id=pushed.session_id, object_id=object_id, object_content=content
            )
            return self._ask("push-object", request, message_pb2.PushObjectResponse).stored

        list(self._pool.map(push, missing.keys(), missing.values()))
        # The message itself goes last. Other objects may be dropped because another client's answer holds the same.
        if not root_wanted or not push(reply.metadata.message_id, root):
            raise Dropped(TOO_LATE)


def _figures(reply: Message) -> str:
    """What a reply says of the work, for the log: images, loss, accuracy."""
    metrics: Mapping[str, Any] = reply.content.metric_records.get(METRICS) or {}
    words = f" on {metrics[NUM_EXAMPLES]} images" if NUM_EXAMPLES in metrics else ""
    figures = ((name, metrics.get(name)) for name in ("loss", "accuracy"))
    return words + "".join(f", {name} {value:.4g}" for name, value in figures if isinstance(value, float))
