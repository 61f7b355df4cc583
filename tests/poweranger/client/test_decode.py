"""Odd images: each becomes the bytes a person would expect, or a reason."""
from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, TiffImagePlugin

from poweranger.client.decode import MAX_PIXELS, Unreadable, decode, inspect, to_8_bit

GREY_RAMP = np.repeat(np.linspace(0, 255, 32).astype(np.uint8)[None], 32, axis=0)


def reason(path: Path) -> str:
    """Why the file cannot be used: found by its header or by its pixels."""
    with pytest.raises(Unreadable) as caught:
        inspect(str(path))
        decode(str(path), 32, 1)
    return str(caught.value)


def is_colour(path: Path) -> bool:
    return inspect(str(path))[1]


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.gif", "a.tif"])
def test_every_lossless_format_gives_the_same_pixels(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY_RAMP).save(tmp_path / name)
    assert np.array_equal(decode(str(tmp_path / name), 32, 1)[..., 0], GREY_RAMP)
    assert not is_colour(tmp_path / name)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F"])
def test_every_mode_keeps_its_brightness_in_grey_and_in_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(GREY_RAMP)
    if mode == "I;16":
        image = Image.fromarray(GREY_RAMP.astype(np.uint16) * 257)
    elif mode in ("RGBA", "CMYK"):
        image = image.convert("RGB").convert(mode)
    else:
        image = image.convert(mode)
    image.save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as saved:
        assert saved.mode == mode
    expected = np.asarray(image.convert("L")) if mode == "1" else GREY_RAMP
    for channels in (1, 3):
        pixels = decode(str(tmp_path / "a.tif"), 32, channels).astype(int)
        assert pixels.shape == (32, 32, channels)
        assert np.abs(pixels - expected[..., None]).max() <= 2
    assert is_colour(tmp_path / "a.tif") == (mode in ("RGB", "RGBA", "CMYK"))


def test_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), (200, 30, 30)).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert Image.open(tmp_path / "a.jpg").mode == "CMYK" and is_colour(tmp_path / "a.jpg")
    red, green, blue = decode(str(tmp_path / "a.jpg"), 20, 3)[10, 10]
    assert red > 180 and green < 60 and blue < 60


def test_16_bit_png_keeps_what_8_bits_can_hold(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 32).astype(np.uint16)
    Image.fromarray(np.repeat(values[None], 32, axis=0)).save(tmp_path / "a.png")
    assert not is_colour(tmp_path / "a.png")
    assert np.abs(decode(str(tmp_path / "a.png"), 32, 1)[0, :, 0].astype(int) - values // 257).max() <= 1


def test_a_16_bit_tiff_whose_white_is_zero_looks_as_one_of_8_bits(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[TiffImagePlugin.PHOTOMETRIC_INTERPRETATION] = 0
    Image.fromarray(GREY_RAMP).save(tmp_path / "8.tif", tiffinfo=tags)  # Pillow inverts 8 bits as it writes, 16 bits it does not
    Image.fromarray(65535 - GREY_RAMP.astype(np.uint16) * 257).save(tmp_path / "16.tif", tiffinfo=tags)
    for name in ("8.tif", "16.tif"):
        assert np.array_equal(decode(str(tmp_path / name), 32, 1)[..., 0], GREY_RAMP), name


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 100, 255], np.uint16), [0, 100, 255]),  # 8 bits in a 16-bit file
        (np.array([0, 2048, 4095], np.uint16), [0, 128, 255]),  # 12 bits
        (np.array([0, 2048, 3000], np.uint16), [0, 128, 187]),  # 12 bits, not all used: the same scale
        (np.array([0, 32768, 65535], np.uint16), [0, 128, 255]),
        (np.array([0, 0.5, 1], np.float32), [0, 128, 255]),
        (np.array([-1000, 0, 1000], np.int32), [0, 128, 255]),  # Hounsfield units
        (np.array([np.nan, 0, 1], np.float32), [0, 0, 255]),
        (np.array([7, 7], np.int32), [7, 7]),
        (np.array([-7, -7], np.int32), [0, 0]),
    ],
)
def test_deep_values_are_scaled_by_the_depth_they_need(values: np.ndarray, expected: list[int]) -> None:
    assert to_8_bit(values).tolist() == expected


def test_a_palette_image_has_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.save(tmp_path / "a.png")
    assert is_colour(tmp_path / "a.png")
    assert decode(str(tmp_path / "a.png"), 16, 3)[8, 8].tolist() == [10, 200, 30]


def test_transparent_pixels_become_black_whatever_they_hide(tmp_path: Path) -> None:
    image = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (8, 0, 16, 16))
    image.save(tmp_path / "a.png")
    pixels = decode(str(tmp_path / "a.png"), 16, 1)
    assert pixels[:, :8].max() == 0 and pixels[:, 8:].min() == 255


@pytest.mark.parametrize("name", ["a.gif", "a.tif"])
def test_the_first_frame_of_several_counts(tmp_path: Path, name: str) -> None:
    frames = [Image.new("L", (16, 16), value) for value in (50, 150, 250)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    assert Image.open(tmp_path / name).n_frames == 3
    assert np.unique(decode(str(tmp_path / name), 16, 1)).tolist() == [50]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_carries_an_exif_orientation_is_turned_upright(tmp_path: Path, name: str, orientation: int) -> None:
    upright = np.zeros((32, 48), np.uint8)
    upright[:16, :24] = 200  # one corner, and not a square: every turn and flip shows
    upright[:8, 24:] = 90
    lying = {  # EXIF 2.3, 4.6.4 A: where the first row and column of what is stored belong
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T, 6: upright.T[::-1],
        7: upright.T[::-1, ::-1], 8: upright.T[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(lying)).save(tmp_path / name, exif=exif, quality=100)
    pixels = decode(str(tmp_path / name), 48, 1)[8:40, :, 0].astype(int)
    assert np.abs(pixels - upright).max() < 12


def test_broken_exif_data_do_not_spoil_an_image(tmp_path: Path) -> None:
    Image.fromarray(GREY_RAMP).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(decode(str(tmp_path / "a.png"), 32, 1)[..., 0], GREY_RAMP)


def test_aspect_is_kept_and_the_border_repeated(tmp_path: Path) -> None:
    pixels = np.full((20, 40), 200, np.uint8)
    pixels[:, 10:30] = 100
    Image.fromarray(pixels).save(tmp_path / "a.png")
    out = decode(str(tmp_path / "a.png"), 40, 1)[..., 0]
    assert np.array_equal(out[10:30], pixels)
    assert np.array_equal(out[0], pixels[0]) and np.array_equal(out[39], pixels[0])


def test_shrinking_averages_instead_of_picking(tmp_path: Path) -> None:
    board = np.indices((512, 512)).sum(0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "a.png")
    assert np.abs(decode(str(tmp_path / "a.png"), 32, 1).astype(int) - 127).max() < 10


def test_a_line_of_pixels_survives(tmp_path: Path) -> None:
    Image.new("L", (3000, 1), 90).save(tmp_path / "a.png")
    assert np.unique(decode(str(tmp_path / "a.png"), 32, 3)).tolist() == [90]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that claims to be large and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [8_000, 11_000, 60_000])  # below, between and above Pillow's own limits
def test_a_decompression_bomb_is_not_decoded(tmp_path: Path, side: int) -> None:
    (tmp_path / "a.png").write_bytes(png_of_size(side, side))
    assert side**2 > MAX_PIXELS
    assert "pixels" in reason(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.gif", "a.tif"])
def test_a_truncated_file_has_a_reason(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1500])
    assert reason(tmp_path / name)


def test_what_is_no_image_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a PNG" in reason(tmp_path / "empty.png")
    assert "not a PNG" in reason(tmp_path / "text.jpg")
    assert "No such file" in reason(tmp_path / "lost.png")
    assert "regular" in reason(tmp_path / "pipe.png")
    with pytest.raises(Unreadable, match="regular"):  # `predict` looks at no header first; to open a pipe would block
        decode(str(tmp_path / "pipe.png"), 32, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_has_a_reason(tmp_path: Path) -> None:
    Image.fromarray(GREY_RAMP).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    assert "Permission" in reason(tmp_path / "a.png")
