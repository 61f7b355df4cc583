"""`evaluate` and `predict` on a run's model, beside what scikit-learn and SciPy say of the same scores."""
from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.preprocessing import label_binarize

from poweranger import evaluate, predict
from poweranger.errors import UserError
from poweranger.results import Run
from poweranger.server.model import build_model, load_snapshot
from poweranger.statistics import softmax

SIDE = 16
CLASSES = ["benign", "malignant", "normal"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A project with a run that has an untrained model of three classes as round 1, in the current folder."""
    (tmp_path / "pyproject.toml").write_text("[tool.flwr.app]\n")
    monkeypatch.chdir(tmp_path)
    made = Run.create(tmp_path / "results", "toy", {"dropout": 0.2})
    made.update(federation={"classes": CLASSES, "image_size": SIDE, "channels": 1, "mean": [0.5], "std": [0.2]})
    made.save_snapshot(1, build_model(SIDE, 1, 3, seed=3).get_weights())
    made.close("finished")
    return made


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    """60 images of noise, brighter by class, so that even this model tells them apart a little; and their classes."""
    y = np.repeat([0, 1, 2], [30, 20, 10])
    x = np.random.default_rng(0).integers(0, 120, (60, SIDE, SIDE), dtype=np.uint8) + (60 * y).astype(np.uint8)[:, None, None]
    return x, y


@pytest.fixture
def folder(tmp_path: Path, images: tuple[np.ndarray, np.ndarray]) -> Path:
    for index, (image, label) in enumerate(zip(*images, strict=True)):
        path = tmp_path / "test" / CLASSES[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return tmp_path / "test"


def scores(run: Run, x: np.ndarray) -> np.ndarray:
    """The probabilities, without any of the code under test."""
    return softmax(np.asarray(load_snapshot(run.path / "models" / "round_001.npz")(x[..., None], training=False)))


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert evaluate.main([*arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_figures_are_those_of_other_libraries(
    run: Run, images: tuple[np.ndarray, np.ndarray], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "normal" / "torn\x1b[2J.png").write_bytes(b"no image")
    found = evaluated(capsys, "--run", run.name, "--data", "test")
    share, y = scores(run, images[0]), images[1]
    predicted = share.argmax(1)
    assert (found["images"], found["round"], found["split"]) == (60, 1, "all")
    assert [Path(item["file"]).name for item in found["unreadable"]] == ["torn\x1b[2J.png"]
    assert [list(row.values()) for row in found["confusion"].values()] == confusion_matrix(y, predicted).tolist()
    expected = {
        "accuracy": (predicted == y).mean(),
        "balanced_accuracy": balanced_accuracy_score(y, predicted),
        "auc": roc_auc_score(y, share, multi_class="ovr"),
        "average_precision": average_precision_score(label_binarize(y, classes=[0, 1, 2]), share),
    }
    assert {name: found[name]["value"] for name in expected} == pytest.approx(expected, abs=1e-6)
    for name in (*expected, "ece"):
        assert 0 <= found[name]["low"] <= found[name]["value"] <= found[name]["high"] <= 1 or name == "ece"
    for c, own in enumerate(found["classes"].values()):
        counted = {
            "sensitivity": (recall_score(y == c, predicted == c), int((y == c).sum())),
            "specificity": (recall_score(y != c, predicted != c), int((y != c).sum())),
            "precision": (precision_score(y == c, predicted == c, zero_division=0), int((predicted == c).sum())),
        }
        for name, (value, total) in counted.items():
            if not total:
                assert own[name] == {"value": None, "low": None, "high": None}
                continue
            interval = binomtest(round(value * total), total).proportion_ci(method="wilson")
            assert tuple(own[name].values()) == pytest.approx((value, interval.low, interval.high), abs=1e-9)
        assert own["auc"]["value"] == pytest.approx(roc_auc_score(y == c, share[:, c]), abs=1e-6)


def test_a_table_names_everything_and_no_file_s_name_acts_on_the_terminal(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "normal" / "torn\x1b[2J.png").write_bytes(b"no image")
    assert evaluate.main(["--run", str(run.path), "--data", str(folder)]) == 0
    said = capsys.readouterr()
    assert "60 images, 1 unreadable" in said.out and "\x1b" not in said.out + said.err and "torn" in said.err
    assert all(word in said.out for word in ("balanced accuracy", "AUC", "sensitivity", "true \\ predicted", *CLASSES))


def test_a_split_of_an_npz_and_a_model_whose_classes_are_numbers(
    run: Run, images: tuple[np.ndarray, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = images
    arrays = {"train_images": x[:3], "train_labels": y[:3], "test_images": x[::2], "test_labels": y[::2, None], "val_images": x[:30], "val_labels": y[:30]}
    np.savez(tmp_path / "set.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"set.npz has the classes 0, 1, 2, which the model of .*toy does not know: its classes are benign, malignant, normal"):
        evaluate.main(["--run", run.name, "--data", "set.npz"])
    path = run.path / "run.toml"
    path.write_text(path.read_text().replace('"benign"', '"0"').replace('"malignant"', '"1"').replace('"normal"', '"2"'))
    found = evaluated(capsys, "--run", run.name, "--data", "set.npz")
    assert (found["split"], found["images"]) == ("test", 30)
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(y[::2], scores(run, x[::2]), multi_class="ovr"), abs=1e-6)
    one_class = evaluated(capsys, "--run", run.name, "--data", "set.npz", "--split", "val")
    assert one_class["images"] == 30 and one_class["auc"] == one_class["classes"]["1"]["sensitivity"] == {"value": None, "low": None, "high": None}
    assert one_class["accuracy"]["value"] is not None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "nowhere"], "nowhere cannot be read"),
        (["--data", "test", "--split", "val"], "--split val is for .npz files"),
        (["--data", "test", "--round", "best"], "has no snapshot best"),
        (["--data", "strange"], "strange has the class cat, which the model of .* does not know"),
    ],
)
def test_mistakes_are_sentences(run: Run, folder: Path, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    (tmp_path / "strange" / "cat").mkdir(parents=True)
    Image.new("L", (9, 9)).save(tmp_path / "strange" / "cat" / "x.png")
    with pytest.raises(UserError, match=sentence):
        evaluate.main(["--run", run.name, *arguments])


def test_a_model_that_has_diverged_gives_no_figures(run: Run, folder: Path) -> None:
    weights = build_model(SIDE, 1, 3, seed=3).get_weights()
    weights[-1][:] = 3e38, -3e38, 3e38  # all finite, as every snapshot is
    weights[-2][:] = 3e38
    run.save_snapshot(2, weights)
    for program, data in ((evaluate.main, ["--data", "test"]), (predict.main, ["test"])):
        with pytest.raises(UserError, match="round 2 gives values that are not finite"):
            program(["--run", run.name, *data])


@pytest.fixture
def predicted(run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, list[dict[str, str]]]]:
    """`predicted("file", …)` runs the program with `--csv`: its exit code and the rows, names as the system has them."""

    def ask(*arguments: str) -> tuple[int, list[dict[str, str]]]:
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        monkeypatch.setattr("sys.stdout", out)
        code = predict.main(["--run", run.name, "--csv", *arguments])
        text = os.fsdecode(out.buffer.getvalue())  # type: ignore[attr-defined]
        return code, list(csv.DictReader(io.StringIO(text, newline="")))

    return ask


def test_probabilities_of_files_whatever_their_names(
    run: Run, images: tuple[np.ndarray, np.ndarray], folder: Path, predicted: Callable[..., tuple[int, list[dict[str, str]]]],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    odd = [str(folder / name) for name in ('a, "b"\n.png', os.fsdecode(b"gr\xe4ser.png"))]
    for path in odd:
        Image.fromarray(images[0][0]).save(path, "PNG")
    code, rows = predicted(*odd, "test/normal", "test/none.png")
    assert code == 0
    assert [row["file"] for row in rows[:2]] == odd and len(rows) == 2 + 10 + 1
    share = scores(run, images[0])
    by_name = {Path(row["file"]).stem: row for row in rows[2:-1]}
    for row, of in ((rows[0], 0), (rows[1], 0), (by_name["50"], 50), (by_name["59"], 59)):
        assert [float(row[name]) for name in CLASSES] == pytest.approx(share[of].tolist(), abs=2e-6)
        assert row["predicted"] == CLASSES[share[of].argmax()] and not row["error"]
    assert (rows[-1]["benign"], rows[-1]["error"]) == ("", "No such file or directory")
    assert "test/none.png cannot be read: No such file or directory" in capsys.readouterr().err
    assert predicted("test/none.png")[0] == 1


def test_the_best_model_is_taken_where_there_is_one(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run.path / "models" / "best.npz").write_bytes((run.path / "models" / "round_001.npz").read_bytes())
    (run.path / "run.toml").write_text((run.path / "run.toml").read_text() + "\n[best]\nround = 1\n")
    assert predict.main(["--run", run.name, str(folder / "benign" / "0.png")]) == 0
    said = capsys.readouterr().out
    assert f"{run.name}, round 1 (best)" in said and "benign" in said
