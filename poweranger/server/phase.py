"""One phase of a round, training or evaluation: who is drawn, what they are told, what they answer."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message

from poweranger.messages import one_line
from poweranger.results import EVAL, FIT
from poweranger.run_config import KEYS
from poweranger.server.exchange import Answer
from poweranger.server.figures import PER_SITE, evaluation_metrics
from poweranger.server.gather import Gathered, gather_each, gather_sum
from poweranger.server.replies import Figures
from poweranger.server.session import Round, Session
from poweranger.server.utils import learning_rate, sample, spell_seconds


def draw(session: Session, number: int, phase: str) -> dict[int, str]:
    """Sample the clients of a phase, once enough are there; client id by node."""
    config, sites = session.config, session.sites
    minimum = config["min-fit-clients"] if phase == FIT else config["min-evaluate-clients"]
    needed = max(minimum, config["min-available-clients"]) if phase == FIT else minimum

    def while_waiting() -> None:
        session.save()
        session.report("waiting", number - 1)

    sites.wait_for(needed, while_waiting=while_waiting)
    fraction = config["fraction-fit"] if phase == FIT else config["fraction-evaluate"]
    free = sites.free()
    if phase == FIT and (drawn := session.protection.draw(list(free))) is not None:
        return {free[name]: name for name in drawn}
    return {free[name]: name for name in sample(list(free), fraction, minimum, config["seed"], number, phase)}


def fill(session: Session, config: ConfigRecord, number: int) -> None:
    """Put what every client needs to know into the message's configuration."""
    for key in KEYS:
        if key.reader == "clients":
            config[key.name] = session.config[key.name]
    if session.config["strategy"] != "fedprox":
        config["proximal-mu"] = 0.0
    federation = session.federation
    config["run"], config["num-server-rounds"] = session.run.name, session.config["num-server-rounds"]
    config["learning-rate"] = learning_rate(number, session.config)
    config["classes"], config["class-counts"] = federation.classes, federation.class_counts
    config["channels"], config["image-size"] = federation.channels, federation.image_size
    config["mean"], config["std"] = federation.mean, federation.std


def ask(session: Session, current: Round, messages: list[Message], names: Mapping[int, str], phase: str, timeout: float) -> Gathered:
    """Send, collect, guard and record one phase."""
    number = current.number
    sampled = sorted(names.values())
    for message in messages:
        message.metadata.group_id = str(number)
        message.metadata.ttl = max(message.metadata.ttl, timeout + 3600)  # Flower's 12 h may be less than the deadline

    def send(wanted: list[Message], step: str) -> list[Answer]:
        def on_answer(so_far: list[Answer]) -> None:
            session.save()  # of the round before, while the clients work
            if step in ("", "keys"):  # the first one of secure aggregation; an answer to a step other than the work itself is none to the phase
                session.report(phase, number, sampled=sampled, replied=[] if step else sorted(answer.client_id for answer in so_far))

        return session.exchange.ask(
            wanted, names, f"round {number} {phase} {step}".rstrip(), deadline=timeout, grace=session.config["round-grace"], on_answer=on_answer,
        )

    classes, size = len(session.federation.classes), sum(int(np.prod(shape)) for shape in session.shapes)
    if session.protection.secure:
        gathered = gather_sum(
            messages, send, names, f"{session.run.name} {number} {phase}", classes, size,
            threshold=session.config["secagg-threshold"], uniform=session.protection.private,
        )
    else:
        gathered = gather_each(messages, send, classes, size)
    for answer in gathered.answers:
        record(session, current, phase, answer, gathered.figures.get(answer.client_id))
    return gathered


def record(session: Session, current: Round, phase: str, answer: Answer, figures: Figures | None) -> None:
    """Note one client's part in a phase in the tables and, when it went wrong, in the log."""
    seconds, reason = round(answer.seconds, 3), one_line(answer.reason)
    current.add("participation", phase=phase, client_id=answer.client_id, outcome=answer.outcome, seconds=seconds, reason=reason)
    if answer.outcome != "ok" or session.config["verbose"]:
        detail = f": {reason}" if reason else ""
        session.log(f"round {current.number} {phase}: {answer.client_id} {answer.outcome} after {spell_seconds(seconds)}{detail}")
    if figures is None:
        return
    metrics: dict[str, Any] = dict(figures.metrics)
    if phase == EVAL:
        exact = evaluation_metrics(figures.counts, session.federation.classes)
        metrics |= {name: exact[name] for name in PER_SITE if name in exact}
        metrics = {"loss": metrics.pop("loss", None), **metrics}
    current.add(f"{phase}_client_metrics", client_id=answer.client_id, num_examples=figures.num_examples, **metrics)
