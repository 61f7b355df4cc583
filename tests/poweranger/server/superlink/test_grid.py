"""Messages to nodes and back, and what the grid says of nodes that die, leave or answer late."""
from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import tiny_node
from flwr.app import Message, RecordDict

from poweranger.client import node as node_module
from poweranger.server.superlink import Link, fleet
from poweranger.server.superlink.grid import LEFT, RESTARTED, UNREADABLE


def _reply(grid, message_id: str, until: Callable[..., None]) -> Message:
    found: list[Message] = []
    end = time.monotonic() + 60
    while not found:
        assert time.monotonic() < end, "no reply"
        grid.wait(5)
        found += grid.pull_messages([message_id])
    return found[0]


def test_two_nodes_answer_and_nothing_stays_behind(start_node, joined, task, until) -> None:
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        nodes = [start_node(link.port, name) for name in ("C1", "C2")]
        ids = joined(grid, 2)
        for number in (1, 2):
            weights = np.full(1000, number, np.float32)
            replies = grid.send_and_receive([task(node, number, weights) for node in ids], timeout=60)
            assert sorted(reply.metadata.src_node_id for reply in replies) == sorted(ids)
            for reply in replies:
                np.testing.assert_array_equal(reply.content["arrays"]["weights"].numpy(), weights + 1)
                assert reply.content["metrics"]["messages"] == number, "the app's state is kept within a run"
        assert len(link.state.object_store) == 0
        assert not link.state.message_ins_store
        assert not link.state.message_res_store
        for running in nodes:  # although both sent the very same weights and metrics
            until(lambda running=running: running.said("round 2: trained on 3 images,"), what="each says that it is done")


def test_an_exception_in_the_app_is_an_error_reply_without_file_names(start_node, joined, task) -> None:
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        running = start_node(link.port)
        (node,) = joined(grid, 1)
        (reply,) = grid.send_and_receive([task(node, fail="smith.png is no image")], timeout=60)
        assert reply.error.reason == "ValueError: see the client's log"
        assert running.said("Traceback")
        assert running.said("smith.png"), "the site's own log has all of it"


def test_a_killed_keyed_client_that_starts_again_answers_nothing_of_before(start_tiny, secrets, joined, task, until) -> None:
    key = secrets.key("C1")
    tls = (secrets.tls["certfile"], key)
    with Link("127.0.0.1", 0, **secrets.tls, client_keys=secrets.folder / "clients", grace=60) as link, link.run({}) as (grid, _):
        first = start_tiny(link.port, "C1", *tls)
        (node,) = joined(grid, 1)
        (message_id,) = grid.push_messages([task(node, seconds=600.0)])
        until(lambda: first.said("training"), what="the client trains")
        first.process.kill()
        start_tiny(link.port, "C1", *tls)
        reply = _reply(grid, message_id, until)
        assert reply.error.reason == RESTARTED
        assert reply.metadata.src_node_id == node
        (reply,) = grid.send_and_receive([task(node, 2)], timeout=60)
        assert reply.has_content()


def test_a_client_killed_while_training_is_noticed_by_its_connection(start_tiny, joined, task, until) -> None:
    lines: list[str] = []
    with Link("127.0.0.1", 0, grace=0.2, log=lines.append) as link, link.run({}) as (grid, _):
        program = start_tiny(link.port, "C1")
        (node,) = joined(grid, 1)
        (message_id,) = grid.push_messages([task(node, seconds=600.0)])
        until(lambda: program.said("training"), what="the client trains")
        program.process.kill()
        assert _reply(grid, message_id, until).error.reason == LEFT
        assert grid.get_node_ids() == []
        assert lines == [f"lost the connection to node {node}"]


def test_sigterm_while_training_ends_the_client_and_closes_its_message_at_once(start_tiny, joined, task, until) -> None:
    with Link("127.0.0.1", 0, grace=600) as link, link.run({}) as (grid, _):
        program = start_tiny(link.port, "C1")
        (node,) = joined(grid, 1)
        (message_id,) = grid.push_messages([task(node, seconds=600.0)])
        until(lambda: program.said("training"), what="the client trains")
        program.process.send_signal(signal.SIGTERM)
        assert _reply(grid, message_id, until).error.reason == LEFT
        assert program.process.wait(10) == 0


def test_a_message_to_a_node_that_left_gets_an_error_reply(start_node, joined, task) -> None:
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        running = start_node(link.port)
        (node,) = joined(grid, 1)
        running.node.leave()
        joined(grid, 0)
        (reply,) = grid.send_and_receive([task(node)], timeout=60)
        assert reply.error.reason == LEFT
        assert len(link.state.object_store) == 0


def test_the_answer_of_a_node_that_has_left_since_is_not_lost(start_node, joined, task, until) -> None:
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        running = start_node(link.port)
        (node,) = joined(grid, 1)
        (message_id,) = grid.push_messages([task(node)])
        until(lambda: running.said("sent"), what="it has answered")
        running.node.leave()
        joined(grid, 0)
        (reply,) = grid.pull_messages([message_id])
        assert reply.has_content()


@pytest.mark.parametrize("size", [4, 100_000, 2_000_000])
def test_a_message_and_its_answer_are_one_call_each_unless_they_are_large(start_node, joined, task, until, size: int) -> None:
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        start_node(link.port)
        (node,) = joined(grid, 1)
        values = np.arange(size, dtype=np.float32)
        until(lambda: len(link._app._held[node]) == 2, what="heartbeat and pull are held")
        before = link._app._calls[node]
        for number in (1, 2):  # the node holds the weights the second time
            (reply,) = grid.send_and_receive([task(node, number, values)], timeout=60)
            assert np.array_equal(reply.content["arrays"]["weights"].numpy(), values + 1)
        until(lambda: len(link._app._held[node]) == 2, what="it waits for the next")
        made = link._app._calls[node] - before
        assert made == 4 if size < 1_000_000 else made > 10


def test_a_server_that_knows_no_bundles_gets_the_plain_calls(start_node, joined, task, monkeypatch) -> None:
    monkeypatch.setattr(fleet, "preference_in", lambda prefer: None)
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        start_node(link.port)
        (node,) = joined(grid, 1)
        for number in (1, 2):
            (reply,) = grid.send_and_receive([task(node, number)], timeout=60)
            assert reply.has_content()
        assert len(link.state.object_store) == 0


def test_a_late_answer_is_dropped_and_its_node_goes_on(start_node, joined, task, until) -> None:
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        running = start_node(link.port)
        (node,) = joined(grid, 1)
        tiny_node.STARTED.clear()
        ids = grid.push_messages([task(node, 7, seconds=0.5)])
        until(lambda: tiny_node.STARTED, what="the node trains")
        grid.withdraw(ids)
        until(lambda: running.said("round 7: the answer came too late"), what="the node shrugs")
        assert len(link.state.object_store) == 0
        assert grid.pull_messages(ids) == []
        (reply,) = grid.send_and_receive([task(node, 8)], timeout=60)
        assert reply.has_content()


def test_wait_returns_at_an_interrupt_from_a_signal_handler(joined) -> None:
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        previous = signal.signal(signal.SIGUSR1, lambda *_: grid.interrupt())
        try:
            timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGUSR1])
            timer.start()
            grid.wait(None)  # would last an hour
            signal.raise_signal(signal.SIGUSR1)  # before a wait: the next one returns at once
            grid.wait(None)
        finally:
            signal.signal(signal.SIGUSR1, previous)


def test_an_answer_in_another_nodes_name_is_refused(start_node, joined, task) -> None:
    """The envelope is checked against the key that signed the call."""

    def lie(message: Message, context: object) -> Message:
        reply = Message(RecordDict({}), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = honest
        return reply

    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        start_node(link.port)
        (honest,) = joined(grid, 1)
        start_node(link.port, app=lie)
        (liar,) = set(joined(grid, 2)) - {honest}
        replies = grid.send_and_receive([task(honest, seconds=0.5), task(liar)], timeout=1.5)
        (reply,) = replies
        assert (reply.metadata.src_node_id, reply.content["metrics"]["num-examples"]) == (honest, 3)


def test_an_uploaded_message_in_another_nodes_name_is_refused(start_node, joined, task, monkeypatch) -> None:
    """The envelope is honest, the message that is uploaded for it is not."""
    honest_envelope = node_module.message_to_proto

    def envelope(message: Message) -> object:
        proto = honest_envelope(message)
        proto.metadata.src_node_id = node
        return proto

    def lie(message: Message, context: object) -> Message:
        reply = Message(RecordDict({}), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = node + 1
        return reply

    monkeypatch.setattr(node_module, "message_to_proto", envelope)
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        start_node(link.port, app=lie)
        (node,) = joined(grid, 1)
        (reply,) = grid.send_and_receive([task(node)], timeout=60)
        assert reply.error.reason.startswith(UNREADABLE)
        assert reply.metadata.src_node_id == node


def test_a_run_ends_and_the_next_one_has_the_same_nodes(start_node, joined, task) -> None:
    with Link("127.0.0.1", 0) as link:
        start_node(link.port)
        for _ in range(2):
            with link.run({"a": 1}) as (grid, context):
                assert context.run_config == {"a": 1}
                (node,) = joined(grid, 1)
                (reply,) = grid.send_and_receive([task(node)], timeout=60)
                assert reply.content["metrics"]["messages"] == 1, "the app's state does not outlive its run"
