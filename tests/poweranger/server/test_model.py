"""The model, and snapshots that become a model again."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from poweranger.errors import UserError
from poweranger.server.model import build_model, load_snapshot, weight_shapes

CLASSES = ["benign", "malignant", "normal"]


def predict(model: object, images: np.ndarray) -> np.ndarray:
    return np.asarray(model(images, training=False))  # type: ignore[operator]


def write_run(folder: Path, model: object, **federation: object) -> Path:
    """A run's folder with one snapshot, as the server writes it."""
    values = {"classes": CLASSES, "channels": 1, "image_size": 28, "mean": [0.3], "std": [0.2]} | federation
    (folder / "models").mkdir(parents=True)
    (folder / "run.toml").write_text(tomli_w.dumps({"federation": values, "config": {"dropout": 0.2}}))
    snapshot = folder / "models" / "round_001.npz"
    np.savez(snapshot, *model.get_weights())  # type: ignore[attr-defined]
    return snapshot


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (28, 1), (28, 3), (96, 3), (224, 3), (1024, 1)])
def test_takes_every_size_and_both_channels_with_few_parameters(size: int, channels: int) -> None:
    model = build_model(size, channels, 5)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, channels), dtype=np.uint8)
    logits = predict(model, images)
    assert logits.shape == (2, 5)
    assert np.isfinite(logits).all()
    assert model.count_params() < 200_000


def test_bytes_and_floats_are_standardised_alike_inside_the_model() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
    mean, std = [0.2, 0.4, 0.6], [0.1, 0.2, 0.3]
    model = build_model(28, 3, 2, mean=mean, std=std, seed=1)
    plain = build_model(28, 3, 2, seed=1)
    by_hand = 255 * (images / 255 - mean) / std
    assert np.allclose(predict(model, images), predict(plain, by_hand.astype(np.float32)), atol=1e-4)
    assert np.array_equal(predict(model, images), predict(model, images.astype(np.float32)))
    assert weight_shapes(model) == weight_shapes(plain)  # mean and deviation are no weights


def test_the_seed_settles_the_first_weights() -> None:
    first, same, other = (build_model(28, 1, 3, seed=seed).get_weights() for seed in (4, 4, 5))
    assert all(map(np.array_equal, first, same))
    assert not all(map(np.array_equal, first, other))
    kernels = [weight for weight in first if weight.ndim == 4]
    assert len({kernel.ravel()[0] for kernel in kernels}) == len(kernels)  # each layer draws its own


def test_a_snapshot_becomes_the_model_again(tmp_path: Path) -> None:
    model = build_model(28, 1, 3, mean=[0.3], std=[0.2], seed=0)
    snapshot = write_run(tmp_path / "results" / "runs" / "r1", model)
    link = tmp_path / "results" / "models"
    link.symlink_to(Path("runs") / "r1" / "models")
    images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    for path in (snapshot, str(link / "round_001.npz")):
        assert np.array_equal(predict(load_snapshot(path), images), predict(model, images))


def test_a_snapshot_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    model = build_model(28, 1, 3)
    with pytest.raises(UserError, match=r"round_009\.npz does not exist"):
        load_snapshot(tmp_path / "round_009.npz")

    alone = tmp_path / "round_001.npz"
    np.savez(alone, *model.get_weights())
    with pytest.raises(UserError, match=r"run\.toml does not exist"):
        load_snapshot(alone)

    snapshot = write_run(tmp_path / "cut", model)
    snapshot.write_bytes(snapshot.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cut/models/round_001\.npz is no snapshot that can be read"):
        load_snapshot(snapshot)
    for content in (b"", b"not an archive"):
        snapshot.write_bytes(content)
        with pytest.raises(UserError, match=r"cut/models/round_001\.npz is no snapshot"):
            load_snapshot(snapshot)
    np.save(snapshot.with_suffix(".npy"), np.zeros(3))
    snapshot.with_suffix(".npy").rename(snapshot)
    with pytest.raises(UserError, match=r"cut/models/round_001\.npz is no snapshot"):
        load_snapshot(snapshot)
    np.savez(snapshot, np.array([{"a": 1}], dtype=object))  # would run code if it were unpickled
    with pytest.raises(UserError, match=r"cut/models/round_001\.npz is no snapshot"):
        load_snapshot(snapshot)

    with pytest.raises(UserError, match=r"does not fit the model that .*run\.toml describes"):
        load_snapshot(write_run(tmp_path / "other", model, classes=CLASSES[:2]))
    with pytest.raises(UserError, match=r"run\.toml does not describe a model"):
        load_snapshot(write_run(tmp_path / "odd", model, channels="grey"))

    garbled = write_run(tmp_path / "garbled", model)
    (tmp_path / "garbled" / "run.toml").write_text("[federation")
    with pytest.raises(UserError, match=r"garbled/run\.toml cannot be read"):
        load_snapshot(garbled)


def test_importing_the_module_does_not_import_tensorflow() -> None:
    code = "import sys, poweranger.server.model; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
