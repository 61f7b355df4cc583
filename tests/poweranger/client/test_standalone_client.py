"""The client as users start it: real program, real TensorFlow."""
from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from poweranger.messages import CONFIG, DESCRIBE, Site
from poweranger.notify import say
from poweranger.run_config import KEYS
from poweranger.server.superlink import Link

MODULE = ("-m", "poweranger.client.standalone_client")


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--client-id", "a b"], {}, "--client-id 'a b' is not allowed"),
        (["--client-id", "C1", "--server-address", "8081"], {}, "server address '8081' is none"),
        (["--client-id", "C1", "--private-key", "K"], {}, "--private-key needs TLS"),
        (["--client-id", "C1", "--root-certificates", "/nowhere/ca.pem"], {}, "root certificates /nowhere/ca.pem cannot be read"),
        (["--client-id", "C1", "--threads", "0"], {}, "threads = 0 is not allowed"),
        (["--client-id", "C1"], {"CACHE_MB": "much"}, "environment variable CACHE_MB: cache-mb"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(start_program, tmp_path: Path, arguments, environment, words) -> None:
    program = start_program(*MODULE, *arguments, "--project", tmp_path, **environment)
    assert program.process.wait(60) == 2
    text = program.output()
    assert text.count("\n") == 1
    assert text.startswith("client: ")
    assert words in text


@pytest.mark.parametrize(("data_dir", "words"), [("", "set DATA_DIR or give --data-dir"), ("/nowhere", "DATA_DIR /nowhere does not exist")])
def test_strict_data_without_data_ends_at_once(start_program, tmp_path: Path, data_dir: str, words: str) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.flwr.app.config]\nstrict-data = true\n")
    program = start_program(*MODULE, "--client-id", "C1", "--project", tmp_path, DATA_DIR=data_dir)
    assert program.process.wait(60) == 2
    assert words in program.output()


def test_a_project_folder_that_is_not_there_is_named(start_program) -> None:
    program = start_program(*MODULE, "--client-id", "C1", "--project", "/nowhere")
    assert program.process.wait(60) == 2
    assert program.output() == "client: --project /nowhere is no folder: give the one of pyproject.toml\n"


def test_no_line_of_the_log_acts_on_a_terminal_or_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    say("C1", "answered query.\x1b]0;x\x07 grä\udce4ser\r\nnext")
    assert capsys.readouterr().out.endswith(" C1 answered query.\\x1b]0;x\\x07 grä\\udce4ser\\r\nnext\n")


def test_a_full_disk_takes_no_line_and_ends_nothing() -> None:
    code = "import os, sys; from poweranger.notify import say; say('C1', 'trained'); print('goes on', file=sys.stderr); os._exit(0)"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == "goes on\n"


def test_it_waits_serves_and_ends_at_sigterm(start_program, joined, tmp_path: Path, until) -> None:
    """It describes its site to a server that starts after it, and leaves that server at SIGTERM."""
    link = Link("127.0.0.1", 0)
    with link:
        port = link.port
    config = ConfigRecord({key.name: key.default for key in KEYS if key.reader == "clients" or key.name == "channels"} | {"synthetic-examples": 20, "image-size": 16})
    program = start_program(
        *MODULE, "--client-id", "C1", "--project", tmp_path, FLOWER_HOST="0.0.0.0", FLOWER_PORT=str(port), DATA_DIR="", XDG_CACHE_HOME=str(tmp_path),
    )
    until(lambda: program.said(f"C1 waiting for 127.0.0.1:{port}"), 90, "it waits for the server")
    with Link("127.0.0.1", port) as link, link.run({}) as (grid, _):
        (node,) = joined(grid, 1)
        (reply,) = grid.send_and_receive([Message(RecordDict({CONFIG: config}), node, DESCRIBE)], timeout=60)
        assert reply.has_content(), (reply.error, program.lines)
        site = Site.from_record(reply.content[CONFIG])
        assert (site.client_id, site.synthetic) == ("C1", True)
        program.process.send_signal(signal.SIGTERM)
        joined(grid, 0)
        assert program.process.wait(10) == 0
        until(lambda: program.said("C1 stopped"), what="it says that it stopped")
