"""Commands that run one of the project's programs."""
from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from poweranger.results import Run
from tests.fedtui.conftest import Fedtui


class TestData:
    def test_a_folder_is_described_from_where_the_user_stands(self, alone: Fedtui, tmp_path: Path) -> None:
        for number, name in enumerate(("a", "b")):
            (tmp_path / "site" / name).mkdir(parents=True)
            for index in range(5):
                pixels = np.random.default_rng(10 * number + index).integers(0, 256, (20, 20), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "site" / name / f"{index}.png")
        alone.folder = tmp_path  # not the project's folder
        done = alone("--project", "alone", "data", "site", "--json")
        assert done.code == 0, done.err
        assert done.json["classes"] == {"a": {"training": 4, "validation": 1}, "b": {"training": 4, "validation": 1}}
        assert done.json["contact_sheet"] == str(tmp_path / "contact_sheet.png") and (tmp_path / "contact_sheet.png").is_file()
        assert "all" in alone("--project", "alone", "data", "site").out

    def test_a_mistake_is_one_sentence(self, alone: Fedtui) -> None:
        done = alone("data", "nowhere")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1) and "nowhere cannot be read" in done.err


class TestExport:
    def test_the_newest_run_is_meant_and_mistakes_are_one_sentence(self, alone: Fedtui) -> None:
        done = alone("export", "--format", "onnx", "--out", "m.onnx")
        assert done.code == 2 and "there is no run" in done.err
        for _ in range(2):
            run = Run.create(alone.folder / "results", "x", {})
        run.save_snapshot(0, [np.zeros(3, np.float32)])
        done = alone("export", "--format", "onnx", "--out", "m.onnx", "--round", "7")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1) and f"{run.name} has no snapshot 7 (it has rounds 0 to 0)" in done.err
        done = alone("export", "--run", run.name, "--format", "pickle", "--out", "m")
        assert done.code == 2 and "'litert'" in done.err


class TestEvaluateAndPredict:
    def test_the_newest_run_s_model_is_asked_from_where_the_user_stands(self, alone: Fedtui, tmp_path: Path) -> None:
        from poweranger.server.model import build_model

        run = Run.create(alone.folder / "results", "toy", {"dropout": 0.2})
        run.update(federation={"classes": ["a", "b"], "image_size": 16, "channels": 1, "mean": [0.5], "std": [0.2]})
        run.save_snapshot(1, build_model(16, 1, 2, seed=1).get_weights())
        run.close("finished")
        for name in ("a", "b"):
            (tmp_path / "test" / name).mkdir(parents=True)
            Image.new("L", (16, 16), ord(name)).save(tmp_path / "test" / name / f"{name}.png")
        alone.folder = tmp_path
        done = alone("--project", "alone", "evaluate", "--data", "test", "--json")
        assert done.code == 0, done.err
        assert (done.json["run"], done.json["round"], done.json["images"]) == (run.name, 1, 2)
        done = alone("--project", "alone", "predict", "--csv", "--round", "1", "test/a", "none.png")
        assert done.code == 0, done.err
        assert [line.split(",")[0] for line in done.out.splitlines()] == ["file", f"{tmp_path}/test/a/a.png", f"{tmp_path}/none.png"]

    def test_without_a_run_there_is_one_sentence(self, alone: Fedtui) -> None:
        for words in (["evaluate", "--data", "x"], ["predict", "x.png"]):
            done = alone(*words)
            assert (done.code, done.out, done.err.count("\n")) == (2, "", 1) and "there is no run" in done.err
