"""The node: it waits, says for what, and outlives its server; stock nodes join the same server."""
from __future__ import annotations

import shutil
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tiny_node
from flwr.app import Message, RecordDict

from poweranger.client import membership
from poweranger.client.connection import load_private_key, load_root_certificates
from poweranger.client.node import Node
from poweranger.errors import UserError
from poweranger.messages import DESCRIBE
from poweranger.server.superlink import Link, build_fab


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_it_waits_for_the_server_and_outlives_its_restart(start_node, joined, task, until, monkeypatch) -> None:
    monkeypatch.setattr(membership, "REPEAT", 0.3)
    port = _free_port()
    running = start_node(port)
    until(lambda: running.lines.count(f"waiting for 127.0.0.1:{port}") >= 2, what="it says again that it waits")
    for times in (1, 2):
        with Link("127.0.0.1", port) as link, link.run({}) as (grid, _):
            (node,) = joined(grid, 1)
            (reply,) = grid.send_and_receive([task(node)], timeout=60)
            assert reply.has_content()
        assert running.lines.count(f"connected to 127.0.0.1:{port}") == times


def test_a_server_that_restarts_while_it_trains_finds_it_again(start_node, joined, task, until) -> None:
    port = _free_port()
    tiny_node.STARTED.clear()
    running = start_node(port)
    with Link("127.0.0.1", port) as link, link.run({}) as (grid, _):
        (node,) = joined(grid, 1)
        grid.push_messages([task(node, seconds=1.0)])
        until(lambda: tiny_node.STARTED, what="it trains")
    with Link("127.0.0.1", port) as link, link.run({}) as (grid, _):
        (node,) = joined(grid, 1)
        (reply,) = grid.send_and_receive([task(node, 2)], timeout=60)
        assert reply.has_content()
    assert running.said("joining again")


@pytest.mark.parametrize("busy", [True, False])
def test_at_sigusr1_it_sends_the_answer_it_works_on_and_leaves(start_tiny, joined, task, until, busy: bool) -> None:
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        program = start_tiny(link.port, "C1")
        (node,) = joined(grid, 1)
        replies = []
        if busy:
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(grid.send_and_receive, [task(node, 1, seconds=1.5)], timeout=60)
                until(lambda: program.said("training"), what="it trains")
                program.process.send_signal(signal.SIGUSR1)
                grid.push_messages([task(node, 2)])  # it takes no other one
                replies = list(asked.result())
            assert [reply.has_content() for reply in replies] == [True]
        else:
            program.process.send_signal(signal.SIGUSR1)
        joined(grid, 0)
        assert program.process.wait(10) == 0
        assert program.output().count("training") == len(replies)


def test_a_server_without_long_poll_is_polled(start_node, joined, task) -> None:
    """As a stock SuperLink: it answers an empty pull and a heartbeat at once."""
    with Link("127.0.0.1", 0, hold=0) as link, link.run({}) as (grid, _):
        start_node(link.port)
        (node,) = joined(grid, 1)
        (reply,) = grid.send_and_receive([task(node)], timeout=60)
        assert reply.has_content()
        calls = link._app._calls[node]
        time.sleep(2)  # the polls themselves are what is counted
        assert link._app._calls[node] - calls <= 5


def test_what_does_not_fit_is_said_with_what_to_do(start_node, secrets, until) -> None:
    trust = load_root_certificates(secrets.tls["certfile"])
    with Link("127.0.0.1", 0) as plain, Link("127.0.0.1", 0, **secrets.tls) as link:
        for running, words in (
            (start_node(plain.port, trust=trust), "it does not speak TLS"),
            (start_node(link.port), "give --root-certificates"),
            (start_node(link.port, trust=trust, host="localhost"), "check --root-certificates and the address"),
        ):
            until(lambda running=running, words=words: running.said(words), what=words)


def test_a_site_that_cannot_describe_itself_ends_once_the_server_knows(joined) -> None:
    with Link("127.0.0.1", 0) as link, link.run({}) as (grid, _):
        node = Node(tiny_node.app, f"127.0.0.1:{link.port}", {})
        with ThreadPoolExecutor(1) as pool:
            ended = pool.submit(node.run)
            (node_id,) = joined(grid, 1)
            (reply,) = grid.send_and_receive([Message(RecordDict({}), node_id, DESCRIBE)], timeout=60)
            assert reply.error.reason == "the folder holds one class only: give two"
            with pytest.raises(UserError, match="one class only"):
                ended.result(60)
        joined(grid, 0)


def test_key_and_certificate_files_that_cannot_be_used_are_named(tmp_path: Path, secrets) -> None:
    secrets.key("C1")
    bad = tmp_path / "bad"
    bad.write_text("nothing")
    for load, path, words in (
        (load_private_key, tmp_path / "absent", "absent cannot be read"),
        (load_private_key, bad, "bad is no private key"),
        (load_private_key, tmp_path / "clients" / "C1.pub", "C1.pub is a public key"),
        (load_root_certificates, tmp_path / "absent", "absent cannot be read"),
        (load_root_certificates, bad, "bad hold no certificate"),
    ):
        with pytest.raises(UserError, match=words):
            load(path)


PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "stock-app"
version = "1.0.0"
license = { text = "MIT" }
dependencies = []
[tool.flwr.app]
publisher = "test"
[tool.flwr.app.components]
serverapp = "stockapp.app:server"
clientapp = "stockapp.app:app"
[tool.flwr.app.config]
"""
STOCK_APP = """
from flwr.app import Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
app, server = ClientApp(), ServerApp()
@app.train()
def train(message, context):
    metrics = MetricRecord({"num-examples": 7, "asked": context.run_config["asked"]})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
"""


def test_a_stock_supernode_joins_with_its_key_and_answers(start_program, secrets, joined, task, tmp_path: Path) -> None:
    supernode = Path(sys.executable).with_name("flower-supernode")
    if not supernode.exists():
        pytest.skip("flower-supernode is not installed beside this Python")
    project = tmp_path / "project"
    (project / "stockapp").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT + "asked = 0\n")
    (project / "stockapp" / "__init__.py").write_text("")
    (project / "stockapp" / "app.py").write_text(STOCK_APP)
    key = secrets.key("C1")
    listening = Link("127.0.0.1", 0, **secrets.tls, client_keys=tmp_path / "clients")
    with listening as link, link.run({"asked": 5}, fab=build_fab(project)) as (grid, _):
        program = start_program(
            supernode, "--root-certificates", secrets.tls["certfile"], "--auth-supernode-private-key", key, "--superlink", f"127.0.0.1:{link.port}", "--port", str(_free_port()),
            FLWR_HOME=str(tmp_path / "home"), FLWR_TELEMETRY_ENABLED="0", FLWR_DISABLE_UPDATE_CHECK="1",
            PATH=f"{supernode.parent}:/usr/bin:/bin",
        )
        (node,) = joined(grid, 1)
        (reply,) = grid.send_and_receive([task(node)], timeout=90)
        assert reply.has_content(), (reply.error.reason, program.lines)
        assert dict(reply.content["metrics"]) == {"num-examples": 7, "asked": 5}
        program.process.terminate()
        joined(grid, 0)
    program.process.wait(20)
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
