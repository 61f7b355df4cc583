"""Splitting a folder into sites: complete, disjoint, by links, repeatable."""
from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from poweranger.client.data_loader import load_site
from poweranger.client.partition import partition, table
from poweranger.client.split import deal, validation_mask
from poweranger.errors import UserError


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def names_of(folder: Path) -> Counter[str]:
    return Counter(f"{path.parent.name}/{path.name}" for path in files_of(folder))


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_sites_hold_every_image_once(shared_data: Path, tmp_path: Path, alpha: float) -> None:
    data = shared_data / "mednist6"
    classes, counts = partition(data, 4, alpha, tmp_path / "sites", seed=1)
    images = Counter(f"{path.parent.name}/{path.name}" for path in files_of(data) if path.suffix == ".jpeg")
    assert names_of(tmp_path / "sites") == images
    assert counts.sum() == len(images) and counts.shape == (4, 6)
    for site, row in enumerate(counts, start=1):
        assert [len(list((tmp_path / "sites" / f"site_{site}" / name).glob("*"))) for name in classes] == row.tolist()
    assert (counts.std(0) < 1).all() == (alpha == 0)  # even, or skewed
    assert (counts > 0).sum(1).min() >= 2  # a site of one class could not be loaded


def test_the_same_seed_gives_the_same_sites(shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / "breastmnist" / "images"
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        partition(data, 3, 0.5, tmp_path / name, seed=seed)
    a, b, c = (names_of(tmp_path / name / "site_1") for name in "abc")
    assert a == b != c


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two classes of 12 images, one of them in a nested folder."""
    rng = np.random.default_rng(0)
    for name in ("healthy", "ill/first visit"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "data" / name / f"{index} ü.png")
    return tmp_path / "data"


def test_links_not_copies(small: Path, tmp_path: Path) -> None:
    partition(small, 2, 0, tmp_path / "hard")
    partition(small, 2, 0, tmp_path / "soft", copy_mode="symlink")
    for path in files_of(tmp_path / "hard"):
        assert os.path.samefile(path, small / path.relative_to(tmp_path / "hard" / path.relative_to(tmp_path).parts[1]))
        assert not path.is_symlink()
    assert all(path.is_symlink() and path.is_file() for path in files_of(tmp_path / "soft"))
    assert oct((tmp_path / "hard").stat().st_mode)[-3:] == "700"


def test_symbolic_links_where_hard_ones_are_impossible(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    partition(small, 2, 0, tmp_path / "sites")
    assert len(files_of(tmp_path / "sites")) == 24 and all(path.is_symlink() for path in files_of(tmp_path / "sites"))


def test_a_site_can_be_loaded(small: Path, tmp_path: Path) -> None:
    partition(small, 2, 0, tmp_path / "sites", copy_mode="symlink")
    site = load_site(str(tmp_path / "sites" / "site_2"), client_id="C2", image_size=16, channels=0, validation_fraction=0.2,
                     seed=0, strict=True, cache_mb=1, synthetic_examples=10)
    assert site.classes == ["healthy", "ill"] and len(site.train.y) + len(site.validation.y) == 12


def test_the_command_prints_a_table_and_refuses_with_a_sentence(small: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "poweranger.client.partition", "--data", str(small), "--clients", "2", "--out"]
    done = subprocess.run([*command, str(tmp_path / "sites")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["site", "healthy", "ill", "all"], ["site_1", "6", "6", "12"], ["site_2", "6", "6", "12"], ["all", "12", "12", "24"]]
    again = subprocess.run([*command, str(tmp_path / "sites")], capture_output=True, text=True)
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1 and "not an empty folder" in again.stderr


def test_mistakes_are_refused_and_leave_nothing(small: Path, tmp_path: Path, shared_data: Path) -> None:
    cases = [
        (small, 2, small / "sites", "inside"),
        (shared_data / "breastmnist" / "breastmnist.npz", 2, tmp_path / "sites", ".npz"),
        (tmp_path / "nowhere", 2, tmp_path / "sites", "cannot be read"),
        (small / "ill", 2, tmp_path / "sites", "two or more"),
        (small, 20, tmp_path / "sites", "too few"),
        (small, 2, Path("/dev/null/x/sites"), "cannot be made"),
    ]
    for data, clients, out, words in cases:
        with pytest.raises(UserError, match=words):
            partition(data, clients, 0, out)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_the_table_lines_up() -> None:
    lines = table(["a", "long name"], np.array([[1, 20], [300, 4]])).splitlines()
    assert len({len(line) for line in lines}) == 1


@given(
    labels=st.lists(st.integers(0, 3), min_size=12, max_size=80),
    copies=st.integers(1, 3),
    clients=st.integers(1, 4),
    alpha=st.sampled_from([0.0, 0.5, 5.0]),
    seed=st.integers(0, 5),
)
def test_dealing_is_complete_disjoint_and_keeps_copies_together(labels: list[int], copies: int, clients: int, alpha: float,
                                                                seed: int) -> None:
    contents = [str(index).encode() for index in range(len(labels))] * copies
    y = np.array(labels * copies)
    try:
        shares = deal(contents, y, clients, alpha, seed)
    except UserError:
        assert alpha > 0  # even shares are always possible here
        return
    assert sorted(np.concatenate(shares)) == list(range(len(y)))
    owners = [{contents[row] for row in share} for share in shares]
    assert sum(map(len, owners)) == len(labels)
    if alpha == 0:
        assert max(map(len, owners)) - min(map(len, owners)) <= 1


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=60), fraction=st.floats(0.01, 0.9), seed=st.integers(0, 5))
def test_validation_is_stratified_and_ignores_the_order(labels: list[int], fraction: float, seed: int) -> None:
    contents, y = [str(index).encode() for index in range(len(labels))], np.array(labels)
    mask = validation_mask(contents, y, fraction, seed)
    for label in set(labels):
        count, chosen = (y == label).sum(), mask[y == label].sum()
        assert chosen == (0 if count == 1 else min(count - 1, max(1, round(fraction * count))))
    shuffled = np.random.default_rng(0).permutation(len(labels))
    assert np.array_equal(validation_mask([contents[row] for row in shuffled], y[shuffled], fraction, seed), mask[shuffled])
