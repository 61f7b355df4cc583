"""What came of a phase: the usable replies and their figures, one a client or, under secure aggregation, their sum."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import Message

from poweranger.messages import ARRAYS, unpack
from poweranger.privacy.declared import Undeclared, check, reply_kind
from poweranger.privacy.secagg_server import CannotOpen, Phase, merged_reply
from poweranger.server.exchange import Answer
from poweranger.server.replies import Figures, Unusable, read_figures, read_weights

SUM = "all clients"  # whose figures a sum has
Send = Callable[[list[Message], str], list[Answer]]  # messages of a step, and the step's name


@dataclass
class Gathered:
    """A phase's answers, one a client; replies and figures of the usable ones; and why there are none, where there is a reason."""

    answers: list[Answer]
    replies: dict[str, Message] = field(default_factory=dict)
    figures: dict[str, Figures] = field(default_factory=dict)
    failure: str = ""


def gather_each(messages: list[Message], send: Send, classes: int, weights: int) -> Gathered:
    """Ask every client by itself; a reply that is not as declared, or unfit, is excluded.

    Parameters
    ----------
    classes, weights : number of classes, and of the model's weights.
    """
    gathered = Gathered(send(messages, ""))
    for answer in gathered.answers:
        reply = answer.message
        if answer.outcome != "ok" or reply is None:
            continue
        kind = reply_kind(messages[0].metadata.message_type)
        try:
            check(kind, reply.content, {"classes": classes})
            figures = read_figures(reply, classes)
            if kind == "train":
                read_weights(reply, weights)
        except (Undeclared, Unusable) as reason:
            answer.outcome, answer.reason = "excluded", str(reason)
            continue
        gathered.replies[answer.client_id], gathered.figures[answer.client_id] = reply, figures
    return gathered


def gather_sum(
    messages: list[Message], send: Send, names: Mapping[int, str], name: str, classes: int, weights: int, *, threshold: float, uniform: bool
) -> Gathered:
    """Ask for the sum over the clients; as reply and figures it stands under `SUM`, as if one client had all images.

    Parameters
    ----------
    name : of the phase in this run.
    threshold : share of the clients that has to stay.
    uniform : each update counts once, however many images it is from.
    """
    kind = messages[0].metadata.message_type
    start = unpack(messages[0].content.array_records[ARRAYS]).astype(np.float64)
    phase = Phase(name, kind, {client_id: node for node, client_id in names.items()}, threshold, classes, weights)
    try:
        sums = phase.run(messages, send)
        reply = Message(merged_reply(kind, sums, start, classes, uniform=uniform), dst_node_id=0, message_type=kind)
        figures = read_figures(reply, classes)
        if kind == "train":
            read_weights(reply, weights)
    except (CannotOpen, Unusable) as reason:
        for answer in phase.answers.values():
            if answer.outcome == "ok":
                answer.outcome, answer.reason = "excluded", str(reason)
        return Gathered(_sorted(phase), failure=str(reason))
    return Gathered(_sorted(phase), {SUM: reply}, {SUM: figures})


def _sorted(phase: Phase) -> list[Answer]:
    return [phase.answers[client_id] for client_id in sorted(phase.answers)]
