"""Secure aggregation at a site: keys, shares, the masked answer, and what it reveals in the end.

The secrets of a phase live in the context's state, which Flower keeps at the site, and are gone with its last step.
The site itself checks what the server asks for: at least three clients, a threshold above half of them, and of each
other client one secret only, so that no answer can be unmasked by itself.
"""
from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from poweranger import counts
from poweranger.errors import UserError
from poweranger.messages import ARRAYS, CONFIG, METRICS, NUM_EXAMPLES, unpack
from poweranger.privacy import secagg
from poweranger.privacy.declared import DECLARED, MASKED, SECAGG, Next


def register(app: ClientApp) -> None:
    """Let `app` answer the protocol's own messages."""
    app.query("secagg_keys")(make_keys)
    app.query("secagg_shares")(share_keys)
    app.query("secagg_unmask")(unmask)


def make_keys(message: Message, context: Context) -> Message:
    """Step 1: two new keys for this phase."""
    asked = message.content.config_records[SECAGG]
    clients, threshold = _whole(asked, "clients"), _whole(asked, "threshold")
    if clients < secagg.FEWEST or not clients / 2 < threshold <= clients:
        raise UserError(f"secure aggregation of {clients} clients with a threshold of {threshold} would not hide this site: it takes "
                        f"{secagg.FEWEST} clients and a threshold above half of them")
    mask_key, share_key = secagg.new_key(), secagg.new_key()
    context.state[SECAGG] = ConfigRecord({
        "step": "keys", "phase": str(asked["phase"]), "clients": clients, "threshold": threshold,
        "mask_key": secagg.private_bytes(mask_key), "share_key": secagg.private_bytes(share_key),
    })
    return _reply(message, {"mask_key": secagg.public_bytes(mask_key), "share_key": secagg.public_bytes(share_key)})


def share_keys(message: Message, context: Context) -> Message:
    """Step 2: a share of each secret for each other client, sealed for it."""
    state, asked = _step(message, context, "keys")
    mask_keys, share_keys_, own = _list(asked, "mask_keys", bytes), _list(asked, "share_keys", bytes), _whole(asked, "own")
    number, threshold = len(mask_keys), state["threshold"]
    mask_key, share_key = secagg.read_private(state["mask_key"]), secagg.read_private(state["share_key"])
    if not max(threshold, secagg.FEWEST) <= number <= state["clients"]:
        raise UserError(f"{number} of {state['clients']} clients are left for secure aggregation: {max(threshold, secagg.FEWEST)} are needed")
    if len({*mask_keys, *share_keys_}) != 2 * number or not 0 <= own < number:
        raise UserError("the server's keys for secure aggregation are not one pair a client")
    if (mask_keys[own], share_keys_[own]) != (secagg.public_bytes(mask_key), secagg.public_bytes(share_key)):
        raise UserError("the server's keys for secure aggregation are not those that this site sent")
    seed = os.urandom(32)
    mask_shares = secagg.create_shares(seed, threshold, number)
    key_shares = secagg.create_shares(state["mask_key"], threshold, number)
    sealed = [
        b"" if index == own else secagg.seal(share_key, share_keys_[index], own, index, mask_shares[index], key_shares[index])
        for index in range(number)
    ]
    context.state[SECAGG] = ConfigRecord({
        **state, "step": "shares", "own": own, "seed": seed, "mask_keys": mask_keys, "share_keys": share_keys_, "mask_share": mask_shares[own],
    })
    return _reply(message, {"shares": sealed})


def secagg_mod(message: Message, context: Context, call_next: Next) -> Message:
    """Flower mod, step 3: the reply of training or evaluation becomes one masked vector, figures and all.

    What the server cannot check any more is checked here: a reply that is not finite leaves the round.

    Raises
    ------
    UserError
        When the reply is unfit for a sum, or the server's message does not follow the protocol.
    """
    config = message.content.config_records.get(CONFIG, ConfigRecord())
    kind = message.metadata.message_type
    if config.get("secure-aggregation") is not True or kind not in ("train", "evaluate"):
        return call_next(message, context)
    state, asked = _step(message, context, "shares")
    peers, sealed = _list(asked, "peers", int), _list(asked, "shares", bytes)
    own, number = state["own"], len(state["mask_keys"])
    if own not in peers or len(set(peers)) != len(peers) or len(peers) < max(state["threshold"], secagg.FEWEST) or not set(peers) <= set(range(number)):
        raise UserError(f"{len(peers)} clients are left for secure aggregation, which are too few, or without this site")
    share_key = secagg.read_private(state["share_key"])
    try:
        shares = [
            (state["mask_share"], b"") if peer == own else secagg.unseal(share_key, state["share_keys"][peer], peer, own, text)
            for peer, text in zip(peers, sealed, strict=True)
        ]
    except ValueError as error:
        raise UserError(f"secure aggregation: {error}") from None
    start = unpack(message.content.array_records[ARRAYS]).astype(np.float64)
    classes = len(_list(config, "classes", str))
    reply = call_next(message, context)
    parts = secagg.fields(kind, classes, start.size)
    try:
        values = _terms(reply.content, kind, start, classes, uniform=config.get("dp", "off") != "off")
        vector = secagg.encode(parts, values, number)
    except ValueError as error:
        raise UserError(f"{error}: it leaves the round") from None
    vector = vector + secagg.stream(state["seed"], vector.size)
    mask_key = secagg.read_private(state["mask_key"])
    for peer in peers:
        if peer != own:
            vector += secagg.pair_mask(mask_key, own, state["mask_keys"][peer], peer, vector.size)
    context.state[SECAGG] = ConfigRecord({
        "step": "masked", "phase": state["phase"], "threshold": state["threshold"], "own": own, "peers": peers,
        "mask_shares": [mask_share for mask_share, _ in shares], "key_shares": [key_share for _, key_share in shares],
    })
    return Message(RecordDict({ARRAYS: ArrayRecord({MASKED: Array(vector)})}), reply_to=message)


def unmask(message: Message, context: Context) -> Message:
    """Step 4: of each client one share: of its own mask when it answered, of its mask key when it did not. Once."""
    state, asked = _step(message, context, "masked")
    survivors, peers = set(_list(asked, "survivors", int)), state["peers"]
    del context.state[SECAGG]
    if not survivors <= set(peers) or state["own"] not in survivors or len(survivors) < state["threshold"]:
        raise UserError(f"the server wants the sum of {len(survivors)} clients: {state['threshold']} are needed, this site among them")
    own = [state["mask_shares"][place] if peer in survivors else state["key_shares"][place] for place, peer in enumerate(peers)]
    return _reply(message, {"shares": own})


def _terms(content: RecordDict, kind: str, start: np.ndarray, classes: int, *, uniform: bool) -> dict[str, Any]:
    """What a reply adds to the sum, by field; raises ValueError when it is unfit.

    Parameters
    ----------
    uniform : the update counts once, however many images there are (differential privacy).
    """
    metrics: Mapping[str, Any] = content.metric_records[METRICS]
    examples = metrics.get(NUM_EXAMPLES)
    if type(examples) is not int or examples <= 0:
        raise ValueError("it has no images for this phase")
    values: dict[str, Any] = {"examples": examples, "clipped": metrics.get("clipped", 0)}
    for item in DECLARED[kind]:
        value = metrics.get(item.name)
        if item.mean and isinstance(value, (int, float)) and math.isfinite(value):
            values |= {item.name: value * examples, f"{item.name} of": examples}
    if kind == "train":
        values["weights"] = (unpack(content.array_records[ARRAYS]) - start) * (1 if uniform else examples)
    else:
        for name, table in counts.decode(metrics, classes, examples).items():
            values |= {name: table.ravel(), f"{name} of": 1}
    return values


def _reply(message: Message, values: dict[str, Any]) -> Message:
    return Message(RecordDict({SECAGG: ConfigRecord(values)}), reply_to=message)


def _step(message: Message, context: Context, step: str) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The phase's state, which has to be at `step`, and what the server asks for."""
    asked = message.content.config_records.get(SECAGG)
    state = dict(context.state.config_records.get(SECAGG, ConfigRecord()))
    if asked is None or state.get("step") != step or asked.get("phase") != state.get("phase"):
        raise UserError("the server's message does not follow the steps of secure aggregation")
    return state, asked


def _whole(record: Mapping[str, Any], name: str) -> int:
    if type(record.get(name)) is not int:
        raise UserError(f"the server's message gives no {name} for secure aggregation")
    return record[name]


def _list(record: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    value = record.get(name)
    if not isinstance(value, list) or any(type(entry) is not kind for entry in value):
        raise UserError(f"the server's message gives no {name} for secure aggregation")
    return value
