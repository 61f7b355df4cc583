"""Loading a site: what counts as an image, which split it falls in, where it is kept, and what fails how."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from poweranger.client import cache, folder
from poweranger.client.data_loader import Images, SiteData, load_site
from poweranger.errors import UserError


def load(data_dir: Path | str | None, **changes: object) -> SiteData:
    wanted: dict = {"client_id": "C1", "image_size": 32, "channels": 0, "validation_fraction": 0.2, "seed": 0, "strict": True,
                    "cache_mb": 64, "synthetic_examples": 30, "log": lambda line: None} | changes
    return load_site(None if data_dir is None else str(data_dir), **wanted)


def noise(seed: int, size: tuple[int, int] = (20, 20), mode: str = "L") -> Image.Image:
    shape = (*size, 3) if mode == "RGB" else size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def contents(images: Images) -> Counter[tuple[int, bytes]]:
    return Counter((int(label), image.tobytes()) for label, image in zip(images.y, images.x, strict=True))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two classes of ten different grey images."""
    for number, name in enumerate(("healthy", "ill")):
        (tmp_path / "site" / name).mkdir(parents=True)
        for index in range(10):
            noise(100 * number + index).save(tmp_path / "site" / name / f"{index}.png")
    return tmp_path / "site"


def test_colour_images_of_many_sizes(shared_data: Path) -> None:
    site = load(shared_data / "bccd_cells")
    assert site.classes == ["Platelets", "RBC", "WBC"] and site.channels == 3
    assert site.train.x.shape[1:] == (32, 32, 3) and site.train.x.dtype == np.uint8 and site.train.y.dtype == np.int32
    assert np.bincount(site.validation.y).tolist() == [29, 94, 25]  # a fifth of 145, 471 and 123
    assert len(site.train.y) + len(site.validation.y) == 739 and site.unreadable == [] and not site.synthetic


def test_grey_images_stay_grey_or_become_rgb(shared_data: Path) -> None:
    grey, colour = load(shared_data / "mednist6"), load(shared_data / "mednist6", channels=3)
    assert (grey.channels, colour.channels) == (1, 3)
    assert np.bincount(grey.validation.y).tolist() == [50] * 6
    assert np.array_equal(np.repeat(grey.train.x, 3, axis=3), colour.train.x)


def test_pixel_stats_are_those_of_the_training_images(shared_data: Path) -> None:
    site = load(shared_data / "bccd_cells")
    pixels = site.train.x.reshape(-1, 3) / 255
    count, total, squares = site.pixel_stats()
    assert count == len(pixels)
    assert np.allclose(total, pixels.sum(0)) and np.allclose(squares, (pixels**2).sum(0))


def test_nested_files_count_for_their_top_folder_and_the_rest_is_noted(site: Path) -> None:
    (site / "ill" / "2024" / "März 1").mkdir(parents=True)
    noise(999).save(site / "ill" / "2024" / "März 1" / "bild ü.jpg")
    noise(998).save(site / "beside.png")
    noise(997).save(site / "ill" / ".hidden.png")
    (site / ".cache" / "x").mkdir(parents=True)
    (site / "nothing").mkdir()
    lines: list[str] = []
    loaded = load(site, log=lines.append)
    assert loaded.classes == ["healthy", "ill"] and loaded.unreadable == []
    assert np.bincount(np.concatenate([loaded.train.y, loaded.validation.y])).tolist() == [10, 11]
    assert [line for line in lines if "2 hidden; 1 beside the class folders; empty class folders: nothing" in line]


def test_bad_files_are_named_once_with_a_reason_and_counted(site: Path) -> None:
    (site / "ill" / "empty.png").write_bytes(b"")
    (site / "ill" / "notes.txt").write_text("not an image")
    (site / "ill" / "two\nlines.png").write_bytes(b"")
    broken = site / "ill" / "truncated.png"
    noise(5, (64, 64)).save(broken)
    broken.write_bytes(broken.read_bytes()[:-2000])
    lines: list[str] = []
    loaded = load(site, log=lines.append)
    assert len(loaded.train.y) + len(loaded.validation.y) == 20
    names = sorted(Path(path).name for path, _ in loaded.unreadable)
    assert names == ["empty.png", "notes.txt", "truncated.png", "two\nlines.png"]
    assert all(reason for _, reason in loaded.unreadable)
    for name in ("empty.png", "notes.txt", "truncated.png", r"two\nlines.png"):
        assert sum(name in line for line in lines) == 1
    assert not any("\n" in line for line in lines)


def test_many_bad_files_do_not_flood_the_log(site: Path) -> None:
    for index in range(50):
        (site / "ill" / f"bad {index}.png").write_bytes(b"")
    lines: list[str] = []
    assert len(load(site, log=lines.append).unreadable) == 50
    assert len(lines) == folder.MAX_NAMED + 1 and "30 more" in lines[-1]


def test_a_broken_image_leaves_no_hole(site: Path) -> None:
    whole = load(site)
    for name in ("healthy", "ill"):
        bad = noise(5, (64, 64))
        for index in range(7):
            bad.putpixel((0, 0), index)
            bad.save(site / name / f"bad{index}.png")
            (site / name / f"bad{index}.png").write_bytes((site / name / f"bad{index}.png").read_bytes()[:-2000])
    patched = load(site)
    assert len(patched.unreadable) == 14
    assert contents(patched.train) == contents(whole.train) and contents(patched.validation) == contents(whole.validation)


def test_a_class_of_broken_images_is_no_class(site: Path) -> None:
    (site / "broken").mkdir()
    noise(5, (64, 64), "RGB").save(site / "broken" / "a.png")
    (site / "broken" / "a.png").write_bytes((site / "broken" / "a.png").read_bytes()[:-2000])
    loaded = load(site)
    assert loaded.classes == ["healthy", "ill"] and set(loaded.train.y) == {0, 1}
    assert loaded.channels == 1 and loaded.train.x.shape[3] == 1  # the only colour was in the broken one
    assert contents(loaded.train) == contents(load(site, channels=1).train)


def test_links_are_followed_and_loops_end(site: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    noise(500).save(tmp_path / "elsewhere" / "a.png")
    (site / "ill" / "linked").symlink_to(tmp_path / "elsewhere")
    (site / "ill" / "loop").symlink_to(site / "ill")
    (site / "ill" / "self.png").symlink_to(site / "ill" / "self.png")
    loaded = load(site)
    assert len(loaded.train.y) + len(loaded.validation.y) == 21
    assert len(loaded.unreadable) == 1


def test_one_colour_image_makes_the_site_rgb(site: Path) -> None:
    noise(7, mode="RGB").save(site / "ill" / "colour.png")
    assert load(site).channels == 3
    assert load(site, channels=1).train.x.shape[3] == 1


def test_a_restart_and_renamed_files_and_folders_change_nothing(site: Path, tmp_path: Path) -> None:
    first = load(site)
    moved = tmp_path / "moved"
    for path in site.glob("*/*"):
        target = moved / path.parent.name / "deeper" / f"{path.stem[::-1]}0 {path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for again in (load(site), load(moved)):
        assert np.array_equal(first.train.x, again.train.x) and np.array_equal(first.train.y, again.train.y)
        assert np.array_equal(first.validation.x, again.validation.x)
    assert contents(first.validation) != contents(load(site, seed=1).validation)


def test_copies_stay_on_one_side(site: Path) -> None:
    for path in list(site.glob("*/*")):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    loaded = load(site)
    assert not {image for _, image in contents(loaded.train)} & {image for _, image in contents(loaded.validation)}
    assert set(contents(loaded.train).values()) == set(contents(loaded.validation).values()) == {2}


def test_a_class_of_two_has_one_for_validation_and_a_class_of_one_none(site: Path) -> None:
    for name, count in (("pair", 2), ("single", 1)):
        (site / name).mkdir()
        for index in range(count):
            noise(1000 + 10 * count + index).save(site / name / f"{index}.png")
    loaded = load(site, validation_fraction=0.01)
    assert loaded.classes == ["healthy", "ill", "pair", "single"]
    assert np.bincount(loaded.validation.y, minlength=4).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("source", ["mednist6", "breastmnist/breastmnist.npz"])
def test_virtual_clients_share_the_images_out(shared_data: Path, source: str) -> None:
    whole = load(shared_data / source)
    for alpha in (0.0, 0.3):
        shares = [load(shared_data / source, partition=(index, 4), dirichlet_alpha=alpha) for index in range(4)]
        together = sum((contents(part) for share in shares for part in (share.train, share.validation)), Counter())
        assert together == contents(whole.train) + contents(whole.validation)
        assert all(share.classes == whole.classes and len(share.train.y) > 5 for share in shares)


def test_the_cache_file_holds_the_same_and_has_no_name(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    in_memory = load(site)
    assert not (tmp_path / "cache").exists()
    mapped = load(site, cache_mb=0)
    assert isinstance(mapped.train.x, np.memmap) and not isinstance(in_memory.train.x, np.memmap)
    assert np.array_equal(in_memory.train.x, mapped.train.x) and np.array_equal(in_memory.validation.x, mapped.validation.x)
    assert in_memory.pixel_stats() == mapped.pixel_stats()
    assert list((tmp_path / "cache" / "poweranger").iterdir()) == []  # while it is in use
    assert oct((tmp_path / "cache" / "poweranger").stat().st_mode)[-3:] == "700"


def test_a_released_cache_file_costs_no_memory_and_keeps_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    size = 64 * 2**20
    rows = cache.allocate((64, size // 64), 0)
    rows[:] = np.arange(64, dtype=np.uint8)[:, None]
    resident = psutil.Process().memory_info().rss
    cache.release(rows)
    assert psutil.Process().memory_info().rss < resident - size // 2
    assert np.array_equal(rows[:, -1], np.arange(64))


def test_a_full_disk_is_one_sentence(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"20,480 bytes in .*poweranger \(No space left"):
        load(site, cache_mb=0)
    assert list((tmp_path / "cache" / "poweranger").iterdir()) == []


def test_rows_move_to_the_front_in_place() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        wanted = rng.random(30) < rng.random()
        rows = np.arange(30)[:, None] * np.ones((1, 4), int)
        order = cache.move_to_front(rows, wanted)
        assert wanted[order][: wanted.sum()].all() and sorted(order) == list(range(30))
        assert np.array_equal(rows[:, 0], order)


def test_a_long_load_says_how_far_it_is(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(cache, "BATCH", 8)
    lines: list[str] = []
    load(site, log=lines.append)
    assert lines[-3:] == ["decoding: 8 of 20 images", "decoding: 16 of 20 images", "decoding: 20 of 20 images"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [(None, "DATA_DIR is not set"), ("", "DATA_DIR is not set"), ("nowhere", "DATA_DIR does not exist"),
     ("file.txt", "DATA_DIR cannot be read (Not a directory)")],
)
def test_an_unusable_data_dir_falls_back_loudly_or_fails(tmp_path: Path, name: str | None, reason: str) -> None:
    (tmp_path / "file.txt").write_text("")
    data_dir = str(tmp_path / name) if name else name
    lines: list[str] = []
    made_up = load(data_dir, strict=False, log=lines.append)
    assert made_up.synthetic and made_up.synthetic_reason == reason and len(made_up.train.y) > 20
    assert [line for line in lines if line.startswith("SYNTHETIC DATA") and reason in line and "C1" in line]
    assert str(tmp_path) not in made_up.synthetic_reason  # it goes to the server
    with pytest.raises(UserError) as caught:
        load(data_dir)
    assert reason in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_data_dir_falls_back(site: Path) -> None:
    site.chmod(0)
    try:
        assert "Permission denied" in load(site, strict=False).synthetic_reason
    finally:
        site.chmod(0o700)


@pytest.mark.parametrize("strict", [True, False])
def test_a_folder_without_two_classes_of_images_fails(tmp_path: Path, strict: bool) -> None:
    data = tmp_path / "site"
    data.mkdir()
    with pytest.raises(UserError, match="has no class folders"):
        load(data, strict=strict)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xe4ser\x1b"))
    odd.mkdir()
    with pytest.raises(UserError, match=r"gr\\udce4ser\\x1b' has no class folders"):  # else no log in UTF-8 could hold it
        load(odd, strict=strict)
    for name in ("healthy", "ill"):
        (data / name).mkdir()
        (data / name / "notes.txt").write_text("not an image")
    with pytest.raises(UserError, match=r"holds no usable image .*notes.txt"):
        load(data, strict=strict)
    noise(1).save(data / "ill" / "a.png")
    with pytest.raises(UserError, match=r"one class only \(ill\)"):
        load(data, strict=strict)


def test_loading_needs_no_tensorflow() -> None:
    code = "import sys, poweranger.client.data_loader, poweranger.client.partition; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
