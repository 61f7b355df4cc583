"""A client's node: it keeps its ClientApp loaded, speaks the Fleet API, and serves run after run until it leaves.

It takes the place of `flower-supernode`, which starts a process for every message. It works on any SuperLink of this
Flower version; on our own server it waits for messages without polling. Flower's `http_request_response` and
`HeartbeatSender` are not used because they end the process at the first refused or lost call.
"""
from __future__ import annotations

import datetime
import email.utils
import ssl
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key, load_ssh_private_key
from flwr.app import Context, Error, Message, RecordDict
from flwr.app.message.message import remove_content_from_message
from flwr.clientapp import ClientApp
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, TIMESTAMP_HEADER, ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2, node_pb2
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata

from poweranger.errors import UserError
from poweranger.messages import METRICS, NUM_EXAMPLES

HOLD = 20  # seconds our server may hold a heartbeat's answer, so that it notices when this process ends
REPEAT = 30.0  # seconds between two lines that say the same
SLOW_RETRY = 5.0  # seconds before a refused node tries again: the researcher may mend the server meanwhile
MAX_PAUSE = 2.0  # seconds between tries to reach a server
POLL = 0.7  # seconds between pulls at a server that does not hold them
Reply = TypeVar("Reply")


class Forgotten(Exception):
    """The server does not know this node (any more): it restarted, most likely."""


class Leaving(Exception):
    """The node shall end."""


class Dropped(Exception):
    """The server does not want this answer any more."""


def load_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A client's key, OpenSSH or PEM, not encrypted.

    Raises
    ------
    UserError
        When the file cannot be read or holds no such key.
    """
    make_one = "make one with: ssh-keygen -t ecdsa -b 256 -N '' -f NAME"
    try:
        data = path.read_bytes()
        key = load_ssh_private_key(data, None) if b"OPENSSH" in data else load_pem_private_key(data, None)
    except OSError as error:
        raise UserError(f"private key {path} cannot be read: {error.strerror}") from None
    except TypeError:
        raise UserError(f"private key {path} is encrypted: this program cannot ask for its password, {make_one}") from None
    except (ValueError, UnsupportedAlgorithm):
        if data.startswith((b"ecdsa-", b"ssh-", b"-----BEGIN PUBLIC")):
            raise UserError(f"{path} is a public key: give the private one, the file without .pub") from None
        raise UserError(f"{path} is no private key in OpenSSH or PEM format, or it is encrypted: {make_one}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"private key {path} is no elliptic-curve (ECDSA) key: {make_one}")
    return key


def load_root_certificates(path: Path) -> ssl.SSLContext:
    """A TLS context that trusts the certificates in a PEM file; raises UserError when it cannot be read."""
    try:
        return ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        raise UserError(f"root certificates {path} hold no certificate in PEM format") from None
    except OSError as error:
        raise UserError(f"root certificates {path} cannot be read: {error.strerror}") from None


class FleetClient:
    """One node's signed calls to the Fleet API.

    Parameters
    ----------
    address : `host:port`.
    trust : None for plain HTTP.
    """

    def __init__(self, address: str, trust: ssl.SSLContext | None, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        host = address.rpartition(":")[0].strip("[]")
        self._http = httpx.Client(
            base_url=f"{'https' if trust else 'http'}://{address}/v1/fleet/",
            verify=trust or False,
            trust_env=host not in ("localhost", "::1") and not host.startswith("127."),  # no proxy on the way to this machine
            limits=httpx.Limits(keepalive_expiry=60),
            headers={
                "content-type": PROTOBUF_MEDIA_TYPE,
                "accept": PROTOBUF_MEDIA_TYPE,
                FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(self.public_key).decode(),
                **dict(RuntimeVersionMetadata.from_local_component("SuperNode").as_metadata()),
            },
        )

    def call(self, name: str, request: Any, answer: type[Reply], *, timeout: float = 30.0, prefer: str = "") -> Reply:
        """One call. `prefer` is the Prefer header (RFC 7240), which a server may follow or not.

        Raises
        ------
        httpx.HTTPError
            When the server is not reached (`TransportError`) or answers an error (`HTTPStatusError`).
        """
        stamp = datetime.datetime.now(datetime.UTC).isoformat()
        headers = {
            TIMESTAMP_HEADER: stamp,
            FLEET_HTTP_SIGNATURE_HEADER: b64encode(self._key.sign(stamp.encode(), ec.ECDSA(hashes.SHA256()))).decode(),
        }
        if prefer:
            headers["prefer"] = prefer
        response = self._http.post(name, content=request.SerializeToString(), headers=headers, timeout=timeout)
        response.raise_for_status()
        return answer.FromString(response.content)  # type: ignore[attr-defined,no-any-return]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class Node:
    """One client's node. `run` serves; `leave`, from another thread, ends it.

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
        self._app, self._address, self._config = app, address, dict(node_config)
        self._trust, self._key, self._log, self._status = trust, key, log, status
        self._leaving = threading.Event()
        self._fleet: FleetClient | None = None
        self._node: node_pb2.Node | None = None
        self._complaint: tuple[str, float] = ("", 0.0)
        self._states: dict[int, RecordDict] = {}
        self._objects: dict[str, bytes] = {}  # of the last message: training and evaluation carry the same weights
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="objects")

    def run(self) -> None:
        """Join and serve, again after every loss of the server, until `leave`."""
        try:
            while not self._leaving.is_set():
                if self._join():
                    self._serve()
        except Leaving:
            pass
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def leave(self, timeout: float = 1.0) -> None:
        """End: tell the server, so that nobody waits for this client; at most `timeout` seconds."""
        self._leaving.set()
        sign_off = threading.Thread(target=self._sign_off, daemon=True)
        sign_off.start()
        sign_off.join(timeout)

    def _sign_off(self) -> None:
        fleet, node = self._fleet, self._node
        if fleet is None or node is None:
            return
        try:
            fleet.call("deactivate-node", fleet_pb2.DeactivateNodeRequest(node_id=node.node_id), fleet_pb2.DeactivateNodeResponse)
            if self._key is None:
                request = fleet_pb2.UnregisterNodeFleetRequest(node_id=node.node_id)
                fleet.call("unregister-node", request, fleet_pb2.UnregisterNodeFleetResponse)
        except httpx.HTTPError:
            pass  # it will notice by itself

    def _join(self) -> bool:
        """Register and activate; False after a refusal, which is said and waited out."""
        self._node = None
        if self._fleet:
            self._fleet.close()
        fleet = self._fleet = FleetClient(self._address, self._trust, self._key or ec.generate_private_key(ec.SECP256R1()))
        try:
            if self._key is None:
                register = fleet_pb2.RegisterNodeFleetRequest(public_key=fleet.public_key)
                self._ask("register-node", register, fleet_pb2.RegisterNodeFleetResponse)
            activate = fleet_pb2.ActivateNodeRequest(public_key=fleet.public_key, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
            self._node = node_pb2.Node(node_id=self._ask("activate-node", activate, fleet_pb2.ActivateNodeResponse).node_id)
        except httpx.HTTPStatusError as error:
            self._complain(f"{self._address} refuses this client: {self._why_refused(error.response)}")
            self._leaving.wait(SLOW_RETRY)
            return False
        self._complaint = ("", 0.0)
        self._log(f"connected to {self._address}")
        self._status("idle")
        return True

    def _why_refused(self, response: httpx.Response) -> str:
        if response.status_code == 401:
            date = email.utils.parsedate_to_datetime(response.headers.get("date", email.utils.format_datetime(_now())))
            ahead = (_now() - date).total_seconds()
            if abs(ahead) > 4:
                return f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's, set it"
            return "it does not accept this client's signature"
        if response.status_code == 412 and self._key is None:
            return "it takes only clients with a listed key, give --private-key"
        if response.status_code == 412:
            return "it does not know this client's key, have its .pub file put into the server's folder of client keys"
        if response.status_code == 404:
            return "it speaks no Fleet API, check the address"
        return f"{response.status_code} {response.text[:200]}"

    def _ask(self, name: str, request: Any, answer: type[Reply]) -> Reply:
        """Call until the server is reached, however long it takes.

        Raises
        ------
        httpx.HTTPStatusError
            When it answers an error other than "later".
        Forgotten, Leaving
        """
        assert self._fleet
        pause = 0.1
        while not self._leaving.is_set():
            try:
                return self._fleet.call(name, request, answer)
            except httpx.HTTPStatusError as error:
                if error.response.status_code == 401 and self._node is not None:
                    raise Forgotten from None
                if error.response.status_code not in (502, 503, 504):
                    raise
                self._complain(f"waiting for {self._address}: it answers {error.response.status_code}")
            except httpx.TransportError as error:
                reason = _why_unreachable(error, self._trust is not None)
                self._complain(f"waiting for {self._address}" + (f": {reason}" if reason else ""))
            self._leaving.wait(pause)
            pause = min(MAX_PAUSE, 2 * pause)
        raise Leaving

    def _complain(self, text: str) -> None:
        """Say it at first, and then every `REPEAT` seconds."""
        last, when = self._complaint
        if text != last or time.monotonic() - when >= REPEAT:
            self._complaint = text, time.monotonic()
            self._log(text)
            self._status(text)

    def _serve(self) -> None:
        """Message after message, until the server forgets this node."""
        over = threading.Event()
        threading.Thread(target=self._beat, args=(over, self._fleet, self._node), name="heartbeat", daemon=True).start()
        try:
            while True:
                asked = time.monotonic()
                pulled = self._ask("pull-messages", fleet_pb2.PullMessagesRequest(node=self._node), fleet_pb2.PullMessagesResponse)
                if self._complaint[0]:
                    self._complaint = ("", 0.0)
                    self._log(f"connected to {self._address} again")
                    self._status("idle")
                if pulled.messages_list:
                    self._handle(message_from_proto(pulled.messages_list[0]), pulled.message_object_trees[0])
                    self._status("idle")
                elif time.monotonic() - asked < 1:
                    self._leaving.wait(POLL)
        except Forgotten:
            self._log("the server does not know this client any more, joining again")
        finally:
            over.set()

    def _beat(self, over: threading.Event, fleet: FleetClient, node: node_pb2.Node) -> None:
        """Heartbeats. Our server holds each one, so that it sees the connection end when this process does."""
        request = heartbeat_pb2.SendNodeHeartbeatRequest(node=node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        while not (over.is_set() or self._leaving.is_set()):
            asked = time.monotonic()
            try:
                fleet.call("send-node-heartbeat", request, heartbeat_pb2.SendNodeHeartbeatResponse, prefer=f"wait={HOLD}")
                pause = 0.0 if time.monotonic() - asked >= 1 else float(HOLD)
            except (httpx.HTTPError, RuntimeError):  # RuntimeError: the connection was closed for a new one
                pause = MAX_PAUSE
            over.wait(pause)

    def _handle(self, envelope: Message, tree: message_pb2.ObjectTree) -> None:
        """Fetch a message, let the app answer it, send the answer."""
        metadata = envelope.metadata
        about = f"round {metadata.group_id}: " if metadata.group_id.isdigit() else ""
        kind = metadata.message_type.partition(".")[0]
        doing = {"train": "training", "evaluate": "evaluating"}.get(kind, f"answering {metadata.message_type}")
        try:
            self._status(f"round {metadata.group_id}, {doing}" if about else doing)
            message = self._fetch(metadata.run_id, tree)
            start = time.monotonic()
            reply = self._answer(message, about)
            seconds = time.monotonic() - start
            did = {"train": "trained", "evaluate": "evaluated"}.get(kind, f"answered {metadata.message_type}")
            if reply.has_error():
                did = f"failed while {doing}"
            elif examples := _examples(reply):
                did += f" on {examples} images"
            self._send(metadata.run_id, reply, seconds)
            self._log(f"{about}{did} in {seconds:.1f} s, sent")
        except Dropped as error:
            self._log(f"{about}{error}")
        except httpx.HTTPStatusError as error:
            over = error.response.status_code == 403
            self._log(f"{about}the run is over" if over else f"{about}the server answered {error.response.status_code}, going on")

    def _fetch(self, run_id: int, tree: message_pb2.ObjectTree) -> Message:
        ids = [node.object_id for node in iterate_object_tree(tree)]
        contents = dict(zip(ids, self._pool.map(lambda object_id: self._object(run_id, object_id), ids), strict=True))
        self._objects = contents
        confirm = message_pb2.ConfirmMessageReceivedRequest(node=self._node, run_id=run_id, message_object_id=tree.object_id)
        self._ask("confirm-message-received", confirm, message_pb2.ConfirmMessageReceivedResponse)
        message = inflate_object_from_contents(tree.object_id, contents, keep_object_contents=True)
        message.metadata.__dict__["_message_id"] = tree.object_id  # type: ignore[attr-defined]
        return message  # type: ignore[return-value]

    def _object(self, run_id: int, object_id: str) -> bytes:
        if content := self._objects.get(object_id):
            return content
        request = message_pb2.PullObjectRequest(node=self._node, run_id=run_id, object_id=object_id)
        pause = 0.02
        while True:
            answer = self._ask("pull-object", request, message_pb2.PullObjectResponse)
            if not answer.object_found:
                raise Dropped("the server took the message back")
            if answer.object_available:
                return answer.object_content
            self._leaving.wait(pause)  # its sender has not stored it yet
            pause = min(0.5, 2 * pause)

    def _answer(self, message: Message, about: str) -> Message:
        """The app's reply, or an error reply for its exception (as `flwr-clientapp` does)."""
        assert self._node
        run_id = message.metadata.run_id
        self._states = {run_id: self._states.get(run_id, RecordDict())}
        context = Context(
            run_id=run_id, node_id=self._node.node_id, node_config=self._config, state=self._states[run_id], run_config={}
        )
        try:
            reply = self._app(message=message, context=context)
            if not isinstance(reply, Message):
                raise TypeError(f"the app returned {type(reply).__name__} instead of a Message")
        except Exception as error:
            self._log(f"{about}the app failed\n{traceback.format_exc().rstrip()}")
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, _public(error)), reply_to=message)
        self._states[run_id] = context.state
        return reply

    def _send(self, run_id: int, reply: Message, seconds: float) -> None:
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects = get_all_nested_objects(reply)
            request = fleet_pb2.PushMessagesRequest(
                node=self._node,
                messages_list=[message_to_proto(remove_content_from_message(reply) if reply.has_content() else reply)],
                message_object_trees=[get_object_tree(reply)],
                clientapp_runtime_list=[seconds],
            )
            pushed = self._ask("push-messages", request, fleet_pb2.PushMessagesResponse)
            contents = {object_id: objects[object_id].deflate() for object_id in pushed.objects_to_push}
        if not contents:  # a new answer always has something new in it
            raise Dropped("the answer came too late, the server does not want it any more")

        def push(item: tuple[str, bytes]) -> bool:
            request = message_pb2.PushObjectRequest(
                node=self._node, run_id=run_id, session_id=pushed.session_id, object_id=item[0], object_content=item[1]
            )
            return self._ask("push-object", request, message_pb2.PushObjectResponse).stored

        if not all(self._pool.map(push, contents.items())):
            raise Dropped("the server did not take the whole answer: it came too late, or another one held the same")


def _examples(reply: Message) -> int:
    metrics = reply.content.metric_records.get(METRICS)
    examples = metrics.get(NUM_EXAMPLES, 0) if metrics else 0
    return int(examples) if isinstance(examples, (int, float)) else 0


def _public(error: Exception) -> str:
    """An exception in words that may leave the site: no path or file name does."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) or "/" in text or "\\" in text:
        text = "see the client's log"
    return f"{type(error).__name__}: {text[:500]}"


def _why_unreachable(error: BaseException, tls: bool) -> str:
    """What to do about it; empty when the server is just not there."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate does not fit ({cause.verify_message}), check --root-certificates and the address"
        if isinstance(cause, ssl.SSLError):
            return "it does not speak TLS, start it with --certfile and --keyfile or leave out --root-certificates"
        if isinstance(cause, ConnectionRefusedError):
            return ""
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.RemoteProtocolError) and not tls:
        return "it does not speak plain HTTP, give --root-certificates if it uses TLS"
    return "" if isinstance(error, (httpx.ReadError, httpx.RemoteProtocolError)) else str(error)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
