"""An exported model gives what the snapshot gives, in the program that it is meant for; its card says what the run says."""
from __future__ import annotations

import datetime
import hashlib
import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from poweranger import export
from poweranger.errors import RunFailed, UserError
from poweranger.model_card import BLANK, Exported, write_card
from poweranger.results import Run
from poweranger.run_config import resolve
from poweranger.server.model import build_model, load_snapshot

SIZE = 32
CLASSES = ["benign", "in_situ|x", "malignant"]
CONFUSION = [[13, 0, 0], [0, 11, 0], [4, 8, 0]]


def make_run(results: Path, channels: int = 1, **config: object) -> Run:
    """A run as a server leaves it, with a first model and the figures of round 1, which is its best."""
    run = Run.create(results, "x", resolve({"image-size": SIZE, **config}))
    federation = {"classes": CLASSES, "class_counts": [30, 20, 10], "channels": channels, "image_size": SIZE, "mean": [0.3] * channels,
                  "std": [0.2] * channels, "synthetic": False}
    site = {"train": 60, "validation": 15, "unreadable": 2, "channels": channels, "synthetic": False, "synthetic_reason": "",
            "train_counts": dict(zip(CLASSES, (30, 20, 10), strict=True)), "validation_counts": dict(zip(CLASSES, (8, 4, 3), strict=True))}
    run.update(federation=federation, sites={"C1": site}, versions={"keras": "3"}, end=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))
    rows = {
        "confusion": [{"round": 1, "true_class": name, **{f"predicted_{other}": n for other, n in zip(CLASSES, counts, strict=True)}}
                      for name, counts in zip(CLASSES, CONFUSION, strict=True)],
        "eval_metrics": [{"round": 1, "loss": 1.25, "auc": 0.91}],
        "class_metrics": [{"round": 1, "class": CLASSES[0], "images": 13, "others": 23, "auc": 1.0, "average_precision": 1.0}],
        "fit_metrics": [{"round": 1, "loss": 1.0, "epsilon": 2.5}],
    }
    model = build_model(SIZE, channels, len(CLASSES), mean=federation["mean"], std=federation["std"], seed=1)
    run.save_snapshot(0, model.get_weights())
    run.commit_round(1, rows, model.get_weights(), best={"round": 1, "metric": "auc", "value": 0.91})
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("results"))


def keras_file(path: Path, images: np.ndarray) -> np.ndarray:
    import keras

    return np.asarray(keras.saving.load_model(path).predict(images, verbose=0))


def onnx_file(path: Path, images: np.ndarray) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    session = onnxruntime.InferenceSession(path)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == CLASSES
    return session.run(["probabilities"], {"image": images})[0]


def litert_file(path: Path, images: np.ndarray) -> np.ndarray:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra export").Interpreter(str(path))
    serve = interpreter.get_signature_runner()
    return np.concatenate([next(iter(serve(image=image[None]).values())) for image in images])


@pytest.mark.parametrize(("form", "channels", "load"), [("keras", 1, keras_file), ("onnx", 3, onnx_file), ("litert", 1, litert_file)])
def test_each_format_gives_what_the_snapshot_gives(tmp_path: Path, form: str, channels: int, load: Callable[[Path, np.ndarray], np.ndarray]) -> None:
    run = make_run(tmp_path / "results", channels)
    out = tmp_path / f"model.{form}" if form != "keras" else tmp_path / "model.keras"
    done = export.export(run.name, None, form, out, results=tmp_path / "results")
    assert (done.round, done.best) == (1, True) and done.difference < 1e-5

    images = np.random.default_rng(5).integers(0, 256, (5, SIZE, SIZE, channels)).astype(np.float32)
    logits = load_snapshot(run.path / "models" / "round_001.npz").predict(images, verbose=0)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(load(out, images), expected, atol=1e-5)
    assert np.allclose(load(out, images[:1]), expected[:1], atol=1e-5)

    card = (tmp_path / f"{out.name}.md").read_text()
    assert hashlib.sha256(out.read_bytes()).hexdigest() in card and BLANK in card
    assert {path.name for path in tmp_path.iterdir()} == {"results", out.name, f"{out.name}.md"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.glob("model*"))


def test_what_differs_from_keras_is_not_left_behind(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(RunFailed, match="does not give the outputs"):
        export.export(run.name, "1", "keras", tmp_path / "model", results=run.path.parents[1])
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_refused_before_tensorflow_is_loaded(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def attempt(which: str | None = None, name: str = run.name, form: str = "keras", out: Path = tmp_path / "model") -> None:
        export.export(name, which, form, out, results=run.path.parents[1])

    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="no run 'other'"):
        attempt(name="other")
    with pytest.raises(UserError, match="no snapshot 7"):
        attempt("7")
    with pytest.raises(UserError, match=r"pip install 'federated-health\[export\]'"):
        attempt(form="onnx")
    with pytest.raises(UserError, match="No such file"):
        attempt(out=tmp_path / "nowhere" / "model")
    with pytest.raises(UserError, match="is a folder"):
        export.export(run.name, None, "keras", tmp_path, results=run.path.parents[1], force=True)
    (tmp_path / "model.md").write_text("precious")
    with pytest.raises(UserError, match="--force"):
        attempt()
    assert (tmp_path / "model.md").read_text() == "precious"
    with pytest.raises(SystemExit) as ended:
        export.main(["--run", run.name, "--format", "pickle", "--out", "x"])
    assert ended.value.code == 2 and "'onnx'" in capsys.readouterr().err


def card(run: Run, *, best: bool = False) -> str:
    return write_card(run.path, run.info, Exported("m.onnx", "onnx", "0" * 64, 1, best, 167_000, 2e-7, 1e-4, 16))


def test_the_card_tells_data_figures_and_configuration(run: Run) -> None:
    text = card(run)
    assert r"| C1 | real | 60 + 15 | 30 + 8 | 20 + 4 | 10 + 3 | 2 |" in text
    assert "| accuracy |  | 0.667 (0.503 to 0.798), 24 of 36 |" in text  # Wilson's interval, by hand
    assert r"| sensitivity | in\_situ\|x | 1.000 (0.741 to 1.000), 11 of 11 |" in text  # a name that would break the table
    assert "| sensitivity | malignant | 0.000 (0.000 to 0.242), 0 of 12 |" in text
    assert "| AUC against the rest | benign | 1.000 (0.878 to 1.000) |" in text and "| AUC, mean over the classes |  | 0.910 |" in text and "| malignant | 4 | 8 | 0 |" in text
    assert f"values 0 to 255 |\n| output | probabilities: float32 (n, {len(CLASSES)})" in text and "0.3000 and 0.2000" in text
    assert f"| `image-size` | {SIZE} |" in text and "| keras | 3 |" in text
    assert "flatter" not in text and "flatter" in card(run, best=True)  # what was chosen by a figure is not measured by it
    assert text.count(BLANK) >= 5


def test_the_card_tells_what_protected_the_sites(run: Run, tmp_path: Path) -> None:
    plain = card(run)
    assert "Differential privacy: off" in plain and "Secure aggregation: off" in plain
    protected = make_run(tmp_path, **{"dp": "central", "dp-noise-multiplier": 0.8, "dp-delta": 1e-5, "secure-aggregation": True, "fraction-fit": 1.0,
                                      "min-available-clients": 3, "min-fit-clients": 3, "min-evaluate-clients": 3, "min-site-examples": 50})
    assert "(noise multiplier 0.8, clipping at 1)" in card(protected)  # no round has been charged
    protected.update(privacy={"spent": [{"noise_multiplier": z, "sampling": 1.0, "rounds": {"C1": 1}} for z in (0.5, 0.8)]})
    text = card(protected)
    assert "epsilon 2.5 at delta 1e-05 after round 1 (noise multiplier 0.5, then 0.8, clipping at 1)" in text
    assert "not covered" not in text and "by which this round was chosen are not covered" in card(protected, best=True)
    assert "Secure aggregation: on" in text and "of each site, how many images of each class" in text and "fewer than 50 training images" in text
