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
