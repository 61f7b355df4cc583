"""Runs: what is told of each, what is picked to overlay, opened, resumed, and begun anew."""
from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fedtui.tui import project_file
from fedtui.tui.app import FedApp
from poweranger.results import Run
from tests.fedtui.daemon.conftest import REPOSITORY
from tests.fedtui.tui.conftest import House, Screen
from tests.fedtui.tui.runs_for_tests import CLIENTS, Hospital

Interface = Callable[..., FedApp]


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    """Three runs: a finished one, one with another learning rate that was stopped after 4 rounds, and one that goes on."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    hospital = Hospital(tmp_path / "hospital")
    first = hospital.run("first", rounds=3, **{"num-server-rounds": 3, "learning-rate": 0.05})
    first.update(clients=list(CLIENTS), synthetic=[])
    first.close("finished")
    second = hospital.run("second", rounds=4, **{"learning-rate": 0.2, "seed": 7})
    second.update(clients=["C1"], synthetic=["C1"])
    second.close("stopped", "SIGTERM")
    hospital.run("third", rounds=1, **{"learning-rate": 0.05})
    return hospital


def row(screen: Screen, word: str) -> str:
    return next((line for line in screen.lines if f"-{word} " in line and "╭" not in line), "")


class TestList:
    def test_a_row_tells_how_a_run_went_and_what_differed(self, hospital: Hospital) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("Runs  3")
            assert row(screen, "first").replace("│", " ").split()[1:6] == ["✓", "finished", "3/3", "0.8333", "0.3333"]
            assert "○ stopped" in row(screen, "second") and "4/20" in row(screen, "second")
            assert "● running" in row(screen, "third") and "1/20" in row(screen, "third")
            assert "learning-rate=0.2  seed=7" in row(screen, "second")
            assert "seed" not in row(screen, "third")
            assert screen.text.index("-third") < screen.text.index("-second") < screen.text.index("-first")

        hospital.open("runs", script, (250, 50))

    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
    def test_the_run_under_the_cursor_is_told_in_full(self, hospital: Hospital, size: tuple[int, int]) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("Runs  3")
            await screen.press("down")
            await screen.shows("stopped  SIGTERM", "1 client: C1", "synthetic images", "learning-rate", "0.2")
            await screen.press("down")
            await screen.shows("4 clients: C1, C2, C3, C4")
            assert "synthetic" not in screen.text
            assert max(map(len, screen.lines)) == size[0] and len(screen.lines) == size[1]

        hospital.open("runs", script, size)

    def test_without_runs_it_teaches_how_to_make_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

        async def script(screen: Screen) -> None:
            await screen.shows("no run yet", "u starts the federation", "Demo")
            await screen.press("space", "enter", "r", "n", "c", "escape")

        Hospital(tmp_path / "hospital").open("runs", script, (80, 24))

    def test_hostile_names_and_values_are_harmless(self, hospital: Hospital) -> None:
        evil = hospital.run("zz-evil", rounds=1, classes="\x1b]52;c;aGk=\x07a\u202e,b")
        evil.update(clients=["\x1b[31mC1"], reason="\x1b[2Jgone")
        evil.close("failed")

        async def script(screen: Screen) -> None:
            await screen.shows("Runs  4")
            await screen.shows("-evil", "failed  gone", "1 client: C1", "classes=a,b")
            assert not {"\x1b", "\x07", "\u202e"} & set(screen.text)

        hospital.open("runs", script)


class TestChoosing:
    def test_picked_runs_are_overlaid_and_compared_with_each_other(self, hospital: Hospital) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("Runs  3")
            await screen.press("down", "space")
            await screen.shows("1 to overlay")
            await screen.press("up", "up", "space")
            await screen.shows("2 to overlay")
            assert {name[16:] for name in screen.app.store.picked} == {"second", "third"}
            assert "num-server-rounds" not in row(screen, "second"), "both have 20 rounds"
            await screen.press("2")
            await screen.shows("second", "third")
            await screen.press("7", "escape")
            assert screen.app.store.picked == set()

        hospital.open("runs", script, (200, 50))

    def test_an_opened_run_is_what_the_other_places_are_about(self, hospital: Hospital) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("Runs  3")
            await screen.press("G", "enter")
            assert screen.app.place == "metrics"
            assert str(screen.app.store.viewed).endswith("-first")
            await screen.press("7")
            await screen.shows("← shown")
            await screen.press("g", "enter")
            assert screen.app.store.viewed is None, "the newest is what is shown anyhow"

        hospital.open("runs", script)

    def test_its_configuration_is_compared_with_the_files(self, hospital: Hospital) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("Runs  3")
            screen.app.store.file = project_file.read(hospital.project)
            await screen.press("down", "c")
            assert screen.app.place == "config"
            screen.app.panes["config"].show(screen.app.store, screen.app.store.ALL)
            await screen.shows("IN THE RUN")
            assert next(line for line in screen.lines if " learning-rate " in line).replace("│", " ").split()[:4] == ["learning-rate", "0.05", "0.05", "0.2"]

        hospital.open("runs", script)

    def test_picked_and_opened_runs_are_found_again_after_leaving(self, hospital: Hospital) -> None:
        async def pick(screen: Screen) -> None:
            await screen.shows("Runs  3")
            await screen.press("space", "space", "enter")

        async def look(screen: Screen) -> None:
            await screen.shows("2 to overlay", "← shown")

        hospital.open("runs", pick)
        hospital.open("runs", look)


class TestStarting:
    @pytest.fixture
    def stopped(self, house: House) -> Run:
        run = Run.create(house.project.results, "night", {"num-server-rounds": 9, "learning-rate": 0.2, "threads": 2})
        run.update(rounds_done=2)
        run.close("stopped")
        return run

    def test_an_interrupted_run_is_resumed_after_a_question(self, house: House, stopped: Run, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.app.action_go("runs")
            await screen.shows(stopped.name, "r resume")
            await screen.press("r")
            await screen.shows(f"Resume {stopped.name}?", "after round 2 of 9")
            await screen.press("n")
            assert house.ps()["server"]["state"] == "stopped"
            await screen.press("r", "y")
            await screen.until(lambda: house.ps()["server"]["state"] == "running", "the server")
            await screen.until(lambda: "server" in screen.app.store.active, "its news")
            await screen.press("r")
            await screen.shows("a run goes already")

        interface(house.project, script)
        assert f'"resume": "{stopped.name}"' in house.project.processes_file.read_text()

    def test_a_new_run_gets_the_configuration_but_for_what_each_site_decides(self, house: House, stopped: Run, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.app.action_go("runs")
            await screen.shows("Runs  1", stopped.name)
            await screen.press("n")
            await screen.shows("Start a new run?", "num-server-rounds=9", "learning-rate=0.2")
            await screen.press("y")
            await screen.until(lambda: house.ps()["server"]["state"] == "running", "the server")

        interface(house.project, script)
        text = house.project.processes_file.read_text()
        assert '"learning-rate": 0.2' in text and '"num-server-rounds": 9' in text and '"night"' in text and '"threads"' not in text

    def test_a_finished_run_is_not_resumed(self, hospital: Hospital) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("Runs  3")
            await screen.press("G")
            await screen.hides("r resume")
            await screen.press("r")
            assert len(screen.app.screen_stack) == 1

        hospital.open("runs", script)

    def test_a_run_that_stopped_early_says_why_and_may_go_on(self, hospital: Hospital) -> None:
        run = hospital.run("w-early", rounds=5)  # the newest also within the same second
        run.update(best={"round": 2, "metric": "balanced_accuracy", "value": 0.375}, stopped_early=True, reason="stopped early: no better for 3 rounds")
        run.close("finished")

        async def script(screen: Screen) -> None:
            await screen.shows("Runs  4", "stopped early: no better for 3 rounds", "★ best round 2  balanced_accuracy 0.375", "r resume")
            assert "★2 5/20" in row(screen, "w-early") and "★" not in row(screen, "first")
            await screen.press("3")
            await screen.shows("★ best 2", "2★")

        hospital.open("runs", script)

    def test_read_only_starts_nothing(self, house: House, stopped: Run, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            await screen.app.action_go("runs")
            await screen.shows("Runs  1", stopped.name)
            await screen.press("n")
            await screen.shows("--read-only")
            assert len(screen.app.screen_stack) == 1

        interface(house.project, script, read_only=True)


class TestModel:
    """What is done with a run's model, by the real programs."""

    @pytest.fixture(autouse=True)
    def programs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))

    def test_it_is_evaluated_in_the_background(self, hospital: Hospital) -> None:
        from poweranger.server.model import build_model

        run = hospital.run("w-model", rounds=2, dropout=0.2)
        run.update(federation={"classes": ["a", "b"], "image_size": 16, "channels": 1, "mean": [0.5], "std": [0.2]})
        run.save_snapshot(2, build_model(16, 1, 2, seed=1).get_weights())
        for name, grey in (("a", 40), ("b", 200)):
            (hospital.project.root / "test" / name).mkdir(parents=True)
            Image.new("L", (16, 16), grey).save(hospital.project.root / "test" / name / "1.png")

        async def script(screen: Screen) -> None:
            await screen.shows("w-model", "v evaluate")
            await screen.press("v")
            await screen.shows(f"Evaluate {run.name}", "choose a folder")
            await screen.type("test")
            await screen.shows("2 images in 2 classes")
            await screen.press("shift+tab", "ctrl+u", "9")
            await screen.shows("round '9' is none: give a number from 0 to 2")
            await screen.press("enter")
            assert screen.app.program is None
            await screen.press("backspace", "2", "enter")
            await screen.shows("it runs", "esc hides it")
            await screen.press("escape", "2")  # it goes on while other things are looked at
            assert screen.app.place == "metrics"
            await screen.shows(f"evaluate {run.name}: done", "o in Runs (7)")
            await screen.press("7", "o")
            await screen.shows("round 2, on", "2 images", "balanced accuracy  0.500", "Wilson for shares", "✓ done")
            await screen.press("c")
            assert "balanced accuracy  0.500" in screen.app.clipboard

        hospital.open("runs", script)

    def test_mistakes_are_told_in_the_form_or_by_the_program(self, hospital: Hospital) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("Runs  3")
            await screen.press("p")
            await screen.shows("Predict", "name an image file or a folder")
            await screen.press("escape", "w")
            await screen.shows("Export", "model.keras")
            await screen.press("end", "backspace")
            await screen.shows("has to end in .keras, .onnx, .tflite")
            await screen.press("s", "enter")
            await screen.shows("is no snapshot that can be read", "✗ failed with exit code 2")

        hospital.open("runs", script)

    def test_a_program_is_ended_by_key_and_with_the_interface(self, hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
        slow = hospital.project.root / "poweranger" / "predict.py"
        slow.parent.mkdir()
        (slow.parent / "__init__.py").touch()
        slow.write_text('print("\\x1b]0;evil\\x07 begun", flush=True)\n__import__("time").sleep(600)\n')
        pids = []

        async def script(screen: Screen) -> None:
            await screen.shows("Runs  3")
            for _ in range(2):
                await screen.press("p")
                await screen.type("x.png")
                await screen.press("enter")
                await screen.shows(" begun", "it runs")
                pids.append(screen.app.program._process.pid)
                if len(pids) == 1:
                    await screen.press("x")
                    await screen.shows("○ ended")
                    await screen.press("escape")

        hospital.open("runs", script)
        end = time.monotonic() + 10
        while os.path.exists(f"/proc/{pids[1]}") and time.monotonic() < end:
            time.sleep(0.02)
        assert not os.path.exists(f"/proc/{pids[1]}")

    def test_what_protected_the_sites_and_what_it_cost_is_shown(self, hospital: Hospital) -> None:
        run = hospital.run("w-private", rounds=1, **{"dp-target-epsilon": 8.0})
        table = {"dp": "central", "epsilon": 3.2145, "delta": 1e-5, "secure_aggregation": True, "not_possible": ["figures of single clients"]}
        run.update(clients=["C1"], privacy=table)

        async def script(screen: Screen) -> None:
            await screen.shows("differential privacy, central: epsilon 3.21 of 8 at delta 1e-05", "sums only; not possible: figures of single clients")
            screen.app.store.run, screen.app.store.progress = run.info, {"run": run.name, "round": 1, "rounds": 20}
            await screen.press("1")
            await screen.shows("SUMS ONLY", "epsilon 3.21 of 8")

        hospital.open("runs", script)


def test_summaries_tell_best_values_and_clients(hospital: Hospital) -> None:
    from fedtui.metrics import summaries

    third, second, first = summaries(hospital.project.results)
    assert (first.best_accuracy, first.best_loss) == (pytest.approx(5 / 6), pytest.approx(1 / 3))
    assert first.clients == CLIENTS and second.synthetic == ("C1",) and third.clients == ()
    assert tomllib.loads((first.path / "run.toml").read_text())["outcome"] == "finished"
