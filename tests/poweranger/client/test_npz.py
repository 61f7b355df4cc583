"""MedMNIST-style files: their own splits, both shapes of labels, and a sentence for every other kind."""
from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from poweranger.client import npz
from poweranger.client.data_loader import SiteData, load_npz_split, load_site
from poweranger.errors import UserError
from poweranger.privacy.declared import DECLARED


def load(path: Path, image_size: int = 32, channels: int = 0) -> SiteData:
    return load_site(str(path), client_id="C1", image_size=image_size, channels=channels, validation_fraction=0.2, seed=0,
                     strict=True, cache_mb=64, synthetic_examples=30)


@pytest.mark.parametrize("name", ["breastmnist.npz", "breastmnist_asfound_1d_labels.npz"])
def test_an_npz_keeps_its_own_splits(shared_data: Path, name: str) -> None:
    path = shared_data / "breastmnist" / name
    site = load(path, image_size=28)
    with np.load(path) as arrays:
        assert np.array_equal(site.train.x[..., 0], arrays["train_images"])
        assert np.array_equal(site.validation.x[..., 0], arrays["val_images"])
        assert np.array_equal(site.train.y, arrays["train_labels"].ravel())
        assert np.array_equal(load_npz_split(str(path), "test", 28, 0).x[..., 0], arrays["test_images"])
    assert site.classes == ["0", "1"] and site.channels == 1
    assert load(path, channels=3, image_size=48).train.x.shape == (546, 48, 48, 3)


def test_an_npz_without_val_is_split(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", train_images=images, train_labels=np.arange(40) % 2)
    loaded = load(tmp_path / "a.npz")
    assert np.bincount(loaded.validation.y).tolist() == [4, 4] and len(loaded.train.y) == 32 and loaded.channels == 3
    assert np.array_equal(loaded.train.x, load(tmp_path / "a.npz").train.x)


def test_a_large_file_is_read_in_pieces(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shared_data / "breastmnist" / "breastmnist.npz"
    whole = load(path, 48, 3)
    monkeypatch.setattr(npz, "PIECE_BYTES", 10_000)
    pieces = load(path, 48, 3)
    assert np.array_equal(whole.train.x, pieces.train.x) and np.array_equal(whole.validation.x, pieces.validation.x)


def test_npz_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    assert next(item for item in DECLARED["describe"] if item.name == "classes").most == npz.MOST_CLASSES  # a site with more could not describe itself
    images, labels = np.zeros((4, 8, 8), np.uint8), np.arange(4) % 2
    cases: list[tuple[dict[str, np.ndarray], str]] = [
        ({"train_images": images.astype(np.float32), "train_labels": labels}, "must be uint8"),
        ({"train_images": images, "train_labels": np.zeros((4, 14), int)}, "14 labels an image"),
        ({"train_images": images, "train_labels": labels[:3]}, "4 images and 3 labels"),
        ({"train_images": images, "train_labels": labels - 1}, "from 0"),
        ({"train_images": images, "train_labels": labels * 0.5}, "from 0"),
        ({"train_images": images, "train_labels": labels * 2**32}, "holds 4294967296, and class numbers go up to 999"),
        ({"train_images": images, "train_labels": labels * 0}, "fewer than two classes"),
        ({"train_images": images[0], "train_labels": labels}, "shape"),
        ({"x": images}, "no train_labels"),
        ({"train_images": np.array([{}] * 4, object), "train_labels": labels}, "must be uint8"),
        ({"train_images": images, "train_labels": np.array([{}] * 4, object)}, "cannot be read"),
    ]
    for arrays, words in cases:
        np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=words):
            load(tmp_path / "a.npz")
    data = (tmp_path / "a.npz").read_bytes()
    encrypted = bytearray(data)
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for found in re.finditer(re.escape(header), data):
            encrypted[found.start() + flags] |= 1
    for damaged in (b"", data[: len(data) // 2], b"no zip file", bytes(encrypted)):
        (tmp_path / "a.npz").write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be read as an .npz"):
            load(tmp_path / "a.npz")
