"""Messages out, answers in, within bounded time. Works on Flower's public Grid; woken by events on our own."""
from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Message
from flwr.serverapp import Grid

from poweranger.messages import reason_of
from poweranger.server.superlink.grid import LocalGrid

POLL = 0.2  # seconds between looks at a grid that cannot wake us
LEAST_GRACE = 10.0  # seconds that a straggler gets at least


class Stopped(Exception):
    """The user ended the run (SIGTERM or Ctrl+C)."""


@dataclass
class Answer:
    """What came of one message to one client.

    Attributes
    ----------
    outcome : `ok`, `failed` (it said so, or is gone), `late` (nothing in time) or `excluded` (unusable).
    seconds : from sending to the answer, or to giving up.
    """

    client_id: str
    outcome: str
    seconds: float
    reason: str = ""
    message: Message | None = None


class Exchange:
    """Talks to nodes for one run.

    Parameters
    ----------
    stop : set by a signal handler; every wait then raises `Stopped`.
    """

    def __init__(self, grid: Grid, stop: threading.Event, log: Callable[[str], None]) -> None:
        self.grid, self._stop, self._log = grid, stop, log
        self._late: dict[str, tuple[int, str, float]] = {}  # message id -> node, what it was, when it was sent

    def busy(self) -> set[int]:
        """Nodes that still work on a message whose time is over."""
        return {node for node, _, _ in self._late.values()}

    def check(self) -> None:
        """Raise `Stopped` when the run shall end."""
        if self._stop.is_set():
            raise Stopped

    def wait(self, timeout: float) -> None:
        """Return at news from a node, after `timeout` seconds, or raise `Stopped`."""
        if isinstance(self.grid, LocalGrid):
            self.grid.wait(timeout)
        else:
            self._stop.wait(min(timeout, POLL))
        self.check()

    def push(self, messages: Iterable[Message]) -> list[str]:
        """Send messages; an id is empty when the node is not known any more."""
        return list(self.grid.push_messages(messages))

    def pull(self, message_ids: Iterable[str]) -> dict[str, Message]:
        """The replies that are there, by the id of the message they answer. Late answers are taken out and dropped."""
        wanted = set(message_ids)
        found = {}
        for reply in self.grid.pull_messages(wanted | set(self._late)):
            asked = reply.metadata.reply_to_message_id
            if asked in wanted:
                found[asked] = reply
            elif asked in self._late:
                _, what, sent = self._late.pop(asked)
                if not reply.has_error():
                    self._log(f"{what}: the answer came after {time.monotonic() - sent:.1f} s, too late: it is not used")
        return found

    def ask(
        self,
        messages: list[Message],
        names: Mapping[int, str],
        what: str,
        *,
        deadline: float,
        grace: float,
        on_answer: Callable[[list[Answer]], None] = lambda answers: None,
    ) -> list[Answer]:
        """Send and collect: until all have answered, or `deadline` seconds are over, or the grace period is.

        Once half of the clients have answered well, the others get `grace` times the slowest one's seconds, at least
        `LEAST_GRACE`, more; `grace` 0 waits until the deadline. Who is not there then is `late`, and is not asked
        anything before its late answer or its end has come.

        Parameters
        ----------
        names : client id of each node.
        what : for the log, such as `round 3 fit`.
        on_answer : called with all answers so far once the messages are out, and whenever one comes and others are missing.

        Returns
        -------
        list of Answer
            One a message, sorted by client id.
        """
        start = time.monotonic()
        waiting: dict[str, Message] = {}
        answers: list[Answer] = []
        for message, message_id in zip(messages, self.push(messages), strict=True):
            if message_id:
                waiting[message_id] = message
            else:
                answers.append(Answer(names[message.metadata.dst_node_id], "failed", 0.0, "its connection was lost before the round"))
        on_answer(answers)  # while the clients work
        while waiting:
            for asked, reply in self.pull(waiting).items():
                client_id, seconds = names[waiting.pop(asked).metadata.dst_node_id], time.monotonic() - start
                if reply.has_error():
                    answers.append(Answer(client_id, "failed", seconds, reason_of(reply) or "the client's app failed"))
                else:
                    answers.append(Answer(client_id, "ok", seconds, message=reply))
                if waiting:
                    on_answer(answers)
            limit = _limit(answers, len(messages), deadline, grace)
            left = start + limit - time.monotonic()
            if not waiting or left <= 0:
                break
            self.wait(min(left, 1.0))
        for message_id, message in waiting.items():
            node = message.metadata.dst_node_id
            seconds = time.monotonic() - start
            answers.append(Answer(names[node], "late", seconds, f"no answer within {seconds:.1f} s"))
            self._late[message_id] = node, f"{names[node]} {what}", start
        return sorted(answers, key=lambda answer: answer.client_id)


def _limit(answers: list[Answer], asked: int, deadline: float, grace: float) -> float:
    """Seconds after sending at which a phase ends, as far as is known now."""
    good = [answer.seconds for answer in answers if answer.outcome == "ok"]
    if not grace or len(good) < math.ceil(asked / 2):
        return deadline
    slowest = max(good)
    return min(deadline, slowest + max(LEAST_GRACE, grace * slowest))
