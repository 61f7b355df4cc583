"""What is said of a folder before it is used, and that it is what a client then takes."""
from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poweranger.client import contact_sheet
from poweranger.client.data_loader import load_site
from poweranger.client.describe import describe, main
from poweranger.errors import UserError
from poweranger.run_config import resolve


def noise(seed: int, side: int = 20) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two classes of ten different grey images."""
    for number, name in enumerate(("healthy", "ill")):
        (tmp_path / "site" / name).mkdir(parents=True)
        for index in range(10):
            noise(100 * number + index).save(tmp_path / "site" / name / f"{index}.png")
    return tmp_path / "site"


def asked(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_counts_are_those_that_a_client_takes(shared_data: Path, tmp_path: Path) -> None:
    config = resolve({"image-size": 32, "seed": 3, "validation-fraction": 0.3})
    for data in (shared_data / "mednist6", shared_data / "breastmnist" / "breastmnist.npz"):
        found = describe(str(data), config, lambda line: None)
        taken = load_site(str(data), client_id="C1", image_size=32, channels=0, validation_fraction=0.3, seed=3, strict=True, cache_mb=64,
                          synthetic_examples=10, log=lambda line: None)
        assert list(found.classes) == taken.classes and found.channels == taken.channels
        for part, images in (("training", taken.train), ("validation", taken.validation)):
            assert [counts[part] for counts in found.classes.values()] == np.bincount(images.y).tolist()


def test_sizes_kinds_and_unreadable_files_are_told(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise(7, 90).convert("RGB").save(site / "ill" / "big.jpg")
    (site / "ill" / "empty\n.png").write_bytes(b"")
    broken = site / "healthy" / "broken.png"
    noise(8, 64).save(broken)
    broken.write_bytes(broken.read_bytes()[:-2000])
    out = tmp_path / "sheet.png"
    found = asked(capsys, site, "--out", out)
    assert found["kinds"] == {"PNG L": 20, "JPEG RGB": 1} and found["channels"] == 3
    assert found["sizes"] == [{"width": 20, "height": 20, "images": 20}, {"width": 90, "height": 90, "images": 1}]
    assert sorted(Path(bad["path"]).name for bad in found["unreadable"]) == ["broken.png", "empty\n.png"]
    assert main([str(site), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert r"empty\n.png" in said and "20 x 20 to 90 x 90, most often 20 x 20" in said and "unreadable: 2" in said


def test_copies_are_found_by_what_is_seen_also_across_splits_and_classes(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(10):  # the same pixels in another file: the split, which goes by files, does not keep them together
        noise(index).save(site / "healthy" / f"again {index}.bmp")
    noise(105).save(site / "healthy" / "mistaken.png")
    found = asked(capsys, site, "--out", tmp_path / "sheet.png")
    assert len(found["copies"]) == 11 and found["copies_across_classes"] == 1
    assert 1 <= found["copies_across_splits"] <= 5  # of ten pairs, 4 images are validated
    [mistaken] = [group for group in found["copies"] if {image["class"] for image in group} == {"healthy", "ill"}]
    assert {Path(image["name"]).name for image in mistaken} == {"mistaken.png", "5.png"}


def test_the_contact_sheet_shows_each_class_as_the_model_sees_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("dark", 40), ("light", 220)):
        (tmp_path / "site" / name).mkdir(parents=True)
        for index in range(12):
            pixels = np.full((30, 60), value, np.uint8)
            pixels[0, 0] = index
            Image.fromarray(pixels).save(tmp_path / "site" / name / f"{index}.png")
    out = tmp_path / "sheet.png"
    asked(capsys, tmp_path / "site", "--out", out, "--image-size", "32")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with Image.open(out) as sheet:
        grey = np.asarray(sheet.convert("L"))
    side, gap, line = 128, contact_sheet.GAP, contact_sheet.LINE
    assert grey.shape == (gap + 2 * (line + side + gap), gap + 8 * (side + gap))
    for row, value in enumerate((40, 220)):
        top = gap + row * (line + side + gap) + line
        for column in (0, 7):
            left = gap + column * (side + gap)
            assert abs(int(np.median(grey[top : top + side, left : left + side])) - value) <= 1
        assert grey[top - line : top].max() > 200  # the name


def test_what_cannot_be_used_is_said_and_nothing_is_overwritten(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="inside the data"):
        main([str(site), "--out", str(site / "ill" / "1.png")])
    with pytest.raises(UserError, match="No such file"):
        main([str(tmp_path / "nowhere")])
    for file in (site / "ill").iterdir():
        file.write_bytes(b"")
    with pytest.raises(UserError, match="one class only"):
        main([str(site), "--out", str(tmp_path / "sheet.png")])
    assert "unreadable: 10" in capsys.readouterr().out  # said all the same


def test_it_runs_as_a_program_without_tensorflow(site: Path, tmp_path: Path) -> None:
    script = "import runpy, sys; sys.argv = ['x', sys.argv[1]]; sys.modules['tensorflow'] = None\nrunpy.run_module('poweranger.client.data_loader', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", script, site], cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert done.returncode == 0 and "healthy" in done.stdout, done.stderr
    assert (tmp_path / "contact_sheet.png").is_file()
