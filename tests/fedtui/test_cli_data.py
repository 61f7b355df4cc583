"""Commands that print what runs and processes wrote: whatever that is, it reaches the terminal as plain text."""
from __future__ import annotations

import contextlib
import datetime
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from poweranger.results import Run
from tests.fedtui.conftest import Fedtui
from tests.fedtui.daemon.conftest import House

FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
EVIL = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\u202eevil\u2066\u200b\x00"


class TestLogs:
    @pytest.fixture
    def logs(self, alone: Fedtui) -> Path:
        folder = alone.folder / "results" / "logs"
        folder.mkdir(parents=True)
        (folder / "server.log").write_text("2026-01-01 10:00:00 round 1\n2026-01-01 10:00:04 ERROR round 2\n")
        (folder / "C1.log").write_text("2026-01-01 10:00:02 trains\n  with care\n2026-01-01 10:00:09 done\n")
        return folder

    def test_several_are_merged_in_time_order(self, alone: Fedtui, logs: Path) -> None:
        lines = alone("logs").out.splitlines()
        assert [line.split("|")[0].strip() for line in lines] == ["server", "C1", "C1", "server", "C1"]
        assert [row["name"] for row in alone("logs", "--json").json] == ["server", "C1", "C1", "server", "C1"]

    def test_selections(self, alone: Fedtui, logs: Path) -> None:
        assert alone("logs", "server").out.splitlines()[0] == "2026-01-01 10:00:00 round 1"
        assert alone("logs", "C1", "-n", "1").out == "2026-01-01 10:00:09 done\n"
        assert len(alone("logs", "--grep", "round|done").out.splitlines()) == 3
        assert len(alone("logs", "--since", "2026-01-01 10:00:04").out.splitlines()) == 2
        assert alone("logs", "-n", "2", "--grep", "round").out.count("round") == 2

    @pytest.mark.parametrize("words", [["--grep", "("], ["--since", "yesterday"], ["C7"], ["../server"]])
    def test_wrong_selections_are_one_sentence(self, alone: Fedtui, logs: Path, words: list[str]) -> None:
        done = alone("logs", *words)
        assert (done.code, done.out) == (2, "")
        assert done.err.count("\n") == 1

    def test_follow_shows_what_comes_also_from_a_new_log(self, alone: Fedtui, logs: Path) -> None:
        process = alone.start("logs", "-f", "-n", "1", "--json")
        assert process.stdout
        assert json.loads(process.stdout.readline())["line"].endswith("done")
        with (logs / "C1.log").open("a") as file:
            file.write("later\n")
        assert json.loads(process.stdout.readline()) == {"name": "C1", "line": "later"}
        (logs / "C2.log").write_text("born\n")
        assert json.loads(process.stdout.readline()) == {"name": "C2", "line": "born"}
        process.send_signal(signal.SIGINT)
        assert alone.end(process).code == 130

class TestRuns:
    @pytest.fixture
    def two(self, alone: Fedtui) -> list[str]:
        """The names of a finished run and of an older one that was left alone after its first round."""
        results, names = alone.folder / "results", []
        for word, batch, rounds in (("first", 8, 1), ("second", 16, 2)):
            run = Run.create(results, word, {"num-server-rounds": 2, "batch-size": batch, "seed": 0})
            for number in range(1, rounds + 1):
                figures = {"round": number, "loss": 1 / number, "accuracy": 0.5 + 0.1 * number, EVIL: 1.0}
                run.commit_round(number, {"eval_metrics": [figures], "fit_metrics": [{"round": number, "loss": None}]}, None)
            if word == "second":
                run.close("finished")
            else:
                run.update(pid=2**22 + 1)  # no process has this pid
            names.append(run.name)
        return names[::-1]

    def test_runs_tell_the_truth(self, alone: Fedtui, two: list[str]) -> None:
        second, first = alone("runs", "--json").json
        assert [second["name"], first["name"]] == two
        assert (second["outcome"], second["rounds_done"], second["rounds"], second["best_accuracy"]) == ("finished", 2, 2, pytest.approx(0.7))
        assert (first["outcome"], first["rounds_done"], first["end"]) == ("interrupted", 1, None)
        assert first["differences"] == {"batch-size": 8}
        assert datetime.datetime.fromisoformat(second["start"]).tzinfo
        table = alone("runs").out
        assert "batch-size=8" in table
        assert "seed" not in table

    def test_metrics_are_rows_of_numbers(self, alone: Fedtui, two: list[str]) -> None:
        rows = alone("metrics", "--json").json
        assert [row["round"] for row in rows] == [1, 2]
        assert rows[1]["loss"] == 0.5
        assert rows[1]["fit_loss"] is None
        assert [row["round"] for row in alone("metrics", "--json", "--last", "1").json] == [2]
        assert len(alone("metrics", "--json", "--run", two[1]).json) == 1
        assert alone("metrics", "--run", "nonsense").code == 2

    def test_a_plot_is_text_and_survives_what_plotext_does_not(self, alone: Fedtui, two: list[str]) -> None:
        path = alone.folder / "results" / "metrics" / "eval_metrics.csv"
        path.write_text("round,loss,accuracy\n1,0.5,nan\n2,nan,nan\n3,1e308,\n4,-1e308,\n5,0.2,inf\n")
        done = alone("metrics", "--plot")
        assert done.code == 0, done.err
        assert "loss: ⠒ evaluation" in done.out
        assert "\x1b" not in done.out
        plain = alone("metrics", "--plot", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii").out
        assert plain.isascii()
        assert "?" not in plain

    def test_hostile_headers_reach_no_terminal(self, alone: Fedtui, two: list[str]) -> None:
        for words in (["metrics"], ["metrics", "--json"], ["metrics", "--plot"], ["runs"], ["runs", "--json"]):
            done = alone(*words)
            assert done.code == 0, done.err
            assert not FORBIDDEN.search(done.out + done.err)

    def test_nothing_yet_is_said(self, alone: Fedtui) -> None:
        assert "fedtui up" in alone("runs").err
        assert alone("runs", "--json").json == []
        assert alone("metrics").code == 2


class TestTerminal:
    def test_hostile_output_reaches_no_terminal(self, cli: Fedtui, house: House) -> None:
        house.cast(C1="prints_rubbish", server="prints_rubbish")
        seen = [cli("up", "--timeout", "5"), cli("ps"), cli("logs"), cli("logs", "C1", "--grep", "last"), cli("logs", "--json"), cli("stop", "C1")]
        assert "last words" in seen[0].err + seen[2].out
        for done in seen:
            assert not FORBIDDEN.search(done.out + done.err)
            assert max(map(len, (done.out + done.err).split("\n"))) < 5000

    def test_hostile_files_reach_no_terminal(self, alone: Fedtui) -> None:
        path = alone.folder / "pyproject.toml"
        path.write_text(f"[tool.flwr.app]\n[tool.fedtui.clients.C1]\nenv = {{ A = {json.dumps(EVIL[:-1])} }}\n")
        (alone.folder / "results" / "logs").mkdir(parents=True)
        (alone.folder / "results" / "logs" / f"{EVIL[1:-1]}.log".replace("/", "")).write_text(EVIL)
        for words in (["client", "list"], ["logs"], ["logs", "C1"]):
            done = alone(*words)
            assert "evil" in done.out + done.err
            assert not FORBIDDEN.search(done.out + done.err)

    @pytest.mark.parametrize(("environment", "coloured"), [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
    def test_colour_only_on_a_terminal_that_wants_it(self, alone: Fedtui, environment: dict[str, str], coloured: bool) -> None:
        assert "\x1b" not in alone("ps", **environment).out
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "fedtui", "ps"]
        subprocess.run(command, cwd=alone.folder, env=alone.environment | environment, stdin=slave, stdout=slave, stderr=slave, check=True)
        assert (b"\x1b[" in os.read(master, 65536)) == coloured
        os.close(master)
        os.close(slave)

    def test_wait_draws_a_bar_with_the_figures(self, cli: Fedtui, house: House) -> None:
        run = Run.create(house.root / "results", "shown", {})
        run.progress({"phase": "eval", "round": 3, "rounds": 10, "loss": 0.25, "accuracy": 0.875, "seconds_left": 42.0})
        house.cast(server="ends")
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "fedtui", "up", "--wait"]
        process = subprocess.Popen(command, cwd=house.root, env=cli.environment | {"TERM": "xterm", "COLUMNS": "120"}, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        seen = b""
        while b"42 s left" not in seen:
            seen += os.read(master, 65536)
        (house.root / "end").write_text("0")
        with contextlib.suppress(OSError):  # how a terminal tells that its other side is closed
            while os.read(master, 65536):
                pass
        os.close(master)
        assert process.wait(30) == 0
        assert re.search(rb"round 3 of 10, evaluating.*loss 0\.250  accuracy 0\.875", seen)

    def test_a_closed_pipe_is_no_traceback(self, alone: Fedtui) -> None:
        process = alone.start("config", "list")
        assert process.stdout and process.stderr
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        process.stderr.close()
        process.wait()

    def test_a_terminal_without_unicode_is_served(self, alone: Fedtui) -> None:
        (alone.folder / "pyproject.toml").write_text('[tool.flwr.app.config]\nclasses = "Thrombozyt,Lymphozyt,Öd"\n')
        assert alone("config", "get", "classes", LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii").out == "Thrombozyt,Lymphozyt,?d\n"
