"""Secure aggregation at the server: it leads through the steps of a phase and opens nothing but the sum."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from poweranger import counts
from poweranger.messages import ARRAYS, METRICS, NUM_EXAMPLES, pack
from poweranger.privacy import secagg
from poweranger.privacy.declared import MASKED, SECAGG, check, reply_kind
from poweranger.server.exchange import Answer

Asked = Callable[[list[Message], str], list[Answer]]


class CannotOpen(Exception):
    """Why a phase has no sum, as a sentence."""


@dataclass
class Phase:
    """One phase of one round.

    Attributes
    ----------
    nodes : node of each sampled client.
    kind : `train` or `evaluate`.
    classes, weights : number of classes, and of the model's weights.
    answers : one a client, as far as it came; all in the end.
    """

    name: str
    kind: str
    nodes: Mapping[str, int]
    share: float
    classes: int
    weights: int
    answers: dict[str, Answer] = field(default_factory=dict)

    def run(self, messages: list[Message], ask: Asked) -> dict[str, np.ndarray]:
        """All steps; the sums by field, with `clients`, the number of clients in them.

        Parameters
        ----------
        messages : of training or evaluation, one a client.
        ask : sends messages and collects the answers; gets the step's name.

        Raises
        ------
        CannotOpen
            When fewer clients are left than the threshold. What each client did is in `answers` then, too.
        """
        by_node = {message.metadata.dst_node_id: message for message in messages}
        clients = {name: by_node[node] for name, node in sorted(self.nodes.items())}
        threshold = secagg.threshold_of(len(clients), self.share)
        least = max(threshold, secagg.FEWEST)

        setting = {"clients": len(clients), "threshold": threshold}
        keys = self._step(ask, "keys", secagg.KEYS, {name: (message, setting) for name, message in clients.items()})
        self._require(keys, least, len(clients))
        names = sorted(keys)  # a client's index is its place here
        mask_keys = [_one(keys[name], "mask_key") for name in names]
        share_keys = [_one(keys[name], "share_key") for name in names]

        tables = {"mask_keys": mask_keys, "share_keys": share_keys}
        wanted = {name: (clients[name], {**tables, "own": index}) for index, name in enumerate(names)}
        shared = self._step(ask, "shares", secagg.SHARES, wanted, length=len(names))
        self._require(shared, least, len(clients))
        peers = [index for index, name in enumerate(names) if name in shared]
        sealed = {index: _many(shared[names[index]], "shares") for index in peers}
        wanted = {names[own]: (clients[names[own]], {"peers": peers, "shares": [sealed[peer][own] for peer in peers]}) for own in peers}
        masked = self._step(ask, "", "", wanted)
        self._require(masked, threshold, len(clients))

        survivors = [index for index in peers if names[index] in masked]
        wanted = {names[own]: (clients[names[own]], {"survivors": survivors}) for own in survivors}
        opened = self._step(ask, "unmask", secagg.UNMASK, wanted, length=len(peers), keep=True)
        if len(opened) < threshold:
            raise CannotOpen(f"the sum cannot be opened: {len(opened)} of {len(clients)} clients are left, {threshold} are needed")
        total = self._total({index: masked[names[index]] for index in survivors})
        helpers = [_many(content, "shares") for content in list(opened.values())[:threshold]]
        try:
            for place, peer in enumerate(peers):
                secret = secagg.combine_shares([shares[place] for shares in helpers])
                total -= self._mask_of(peer, secret, survivors, mask_keys, total.size)
        except ValueError as error:
            raise CannotOpen(f"the sum cannot be opened: the clients' shares do not fit together ({error})") from None
        parts = secagg.fields(self.kind, self.classes, self.weights)
        return secagg.decode(parts, total) | {"clients": np.array([len(survivors)])}

    def _mask_of(self, peer: int, secret: bytes, survivors: list[int], mask_keys: list[bytes], size: int) -> np.ndarray:
        """What is left of a client in the sum: its own mask, or, when it dropped out, the others' masks for it."""
        if peer in survivors:
            return secagg.stream(secret, size)
        key = secagg.read_private(secret)
        if secagg.public_bytes(key) != mask_keys[peer]:
            raise ValueError("a key is another one")
        left = np.zeros(size, np.uint64)
        for other in survivors:
            left -= secagg.pair_mask(key, peer, mask_keys[other], other, size)  # the other one added the opposite
        return left

    def _total(self, masked: Mapping[int, RecordDict]) -> np.ndarray:
        first, *others = (content.array_records[ARRAYS][MASKED].numpy() for content in masked.values())
        total = first.copy()
        for vector in others:
            total += vector
        return total

    def _step(
        self, ask: Asked, step: str, message_type: str, wanted: Mapping[str, tuple[Message, dict[str, Any]]], *, length: int = 0, keep: bool = False
    ) -> dict[str, RecordDict]:
        """Ask each client; the usable answers by client. Without a `message_type` it is the work itself, with what it needs.

        Parameters
        ----------
        length : that the list of shares must have.
        keep : a client that is lost now has done its part: it stays in the sum.
        """
        messages = []
        for main, values in wanted.values():
            record = ConfigRecord({"phase": self.name, **values})
            content = RecordDict({SECAGG: record} if message_type else {**main.content, SECAGG: record})
            message = Message(content, main.metadata.dst_node_id, message_type or main.metadata.message_type, ttl=main.metadata.ttl, group_id=main.metadata.group_id)
            messages.append(message)
        found = {}
        for answer in ask(messages, step):
            if answer.outcome == "ok" and answer.message is not None:
                try:
                    found[answer.client_id] = self._checked(answer.message, message_type or self.kind, length)
                except ValueError as error:
                    answer.outcome, answer.reason = "excluded", str(error)
                except Exception as error:  # whatever a broken client may send
                    answer.outcome, answer.reason = "excluded", f"its answer cannot be read: {error!r}"
            before = self.answers.get(answer.client_id)
            answer.seconds += before.seconds if before else 0.0
            if not keep:
                self.answers[answer.client_id] = answer
        return found

    def _checked(self, reply: Message, message_type: str, length: int) -> RecordDict:
        content, kind = reply.content, reply_kind(message_type)
        check(kind, content, {"classes": self.classes}, masked=True)
        if kind == self.kind:
            size = sum(part.size for part in secagg.fields(kind, self.classes, self.weights))
            vector = content.array_records[ARRAYS][MASKED].numpy()  # which need not be what the record says of it
            if vector.shape != (size,) or vector.dtype != np.uint64:
                raise ValueError(f"its masked vector is not of length {size}")
        elif length and len(_many(content, "shares")) != length:
            raise ValueError(f"it did not send {length} shares")
        elif not length:
            for name in ("mask_key", "share_key"):
                secagg.read_public(_one(content, name))
        return content

    def _require(self, found: Mapping[str, RecordDict], least: int, clients: int) -> None:
        if len(found) < least:
            raise CannotOpen(f"{len(found)} of {clients} clients are left for secure aggregation, {least} are needed")


def merged_reply(kind: str, sums: Mapping[str, np.ndarray], start: np.ndarray, classes: int, *, uniform: bool) -> RecordDict:
    """The sums as if one client had all the images: the reply that the rest of the round takes.

    Parameters
    ----------
    start : the weights that the clients were given, flat.
    uniform : as in `secagg_client`: each update counted once.
    """
    examples, clients = int(sums["examples"][0]), int(sums["clients"][0])
    metrics: dict[str, Any] = {NUM_EXAMPLES: examples}
    for name in sums:
        weight = sums.get(f"{name} of")
        if weight is not None and weight[0] and sums[name].dtype.kind == "f":
            metrics[name] = float(sums[name][0] / weight[0])
    content = RecordDict({METRICS: MetricRecord(metrics)})
    if kind == "train":
        metrics_record = content.metric_records[METRICS]
        if uniform:
            metrics_record["clipped"] = float(sums["clipped"][0] / clients)
        content.array_records[ARRAYS] = pack([start + sums["weights"] / (clients if uniform else examples)])
        return content
    shapes = counts.shapes(classes)
    whole = {name: sums[name].reshape(shape) for name, shape in shapes.items() if sums[f"{name} of"][0] == clients}
    for name, numbers in counts.encode(whole).items():
        content.metric_records[METRICS][name] = numbers
    return content


def _one(content: RecordDict, name: str) -> bytes:
    value = content.config_records[SECAGG][name]
    assert isinstance(value, bytes)  # `check` has seen to it
    return value


def _many(content: RecordDict, name: str) -> list[bytes]:
    value = content.config_records[SECAGG][name]
    assert isinstance(value, list)
    return value  # type: ignore[return-value]
