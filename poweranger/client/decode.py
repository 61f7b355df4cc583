"""One image file into a small square of bytes.

PNG, JPEG, BMP, GIF, TIFF and DICOM (see `dicom`) are read, nothing else: fewer parsers meet what a site finds in its
folders. Of an animation or a stack the first frame counts.

Every image becomes uint8, (size, size, channels):

- Grey and RGB as they are; CMYK, YCbCr and palettes converted to RGB; grey from colour by luminance (ITU-R 601).
- Transparency is laid over black: hidden pixels hold arbitrary values, and black is what surrounds most scans.
- More than 8 bits: see `to_8_bit`.
- The longer side is scaled to `size` (bilinear, averaging over all source pixels when it shrinks); the shorter side is
  centred and its border pixels repeated, so that no frame of an unrelated brightness is added to the statistics.
- What carries an EXIF orientation is turned upright.
"""
from __future__ import annotations

import hashlib
import os
import stat
import warnings
from dataclasses import dataclass
from io import BufferedReader

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from poweranger.client import dicom
from poweranger.client.unreadable import MAX_PIXELS, Unreadable

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF")
UPRIGHT = {  # what undoes each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
GREY_MODES = ("1", "L", "LA", "La")
DEEP_MODES = ("I", "F")  # and I;16 with its byte orders
DEPTHS = (255.0, 4095.0, 65535.0)  # 8, 12 and 16 bits
PHOTOMETRIC = TiffImagePlugin.PHOTOMETRIC_INTERPRETATION

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is stricter than Pillow's limit


@dataclass(frozen=True)
class Header:
    """What a file says of itself: its format with its kind of pixels, such as `PNG L`, and its size in pixels."""

    kind: str
    width: int
    height: int


def inspect(path: str) -> tuple[bytes, bool]:
    """A file's content hash, 16 bytes, and whether it has colour, without decoding it.

    A palette is colour when one of its entries is; an RGB or CMYK file is colour even if all its pixels are grey
    (finding out would mean decoding it; `channels = 1` brings such a federation to grey).

    Raises
    ------
    Unreadable
        When it is no regular file, cannot be opened, is no image, or is too large.
    """
    try:
        with _open_file(path) as file:
            content = hashlib.file_digest(file, _content_hash).digest()
            file.seek(0)
            if dicom.is_dicom(file):
                return content, dicom.has_colour(dicom.read_header(path))
            with _open_image(file) as image:
                return content, _has_colour(image)
    except Exception as error:  # the parsers raise anything on a broken file
        raise _unreadable(error) from None


def read_header(path: str) -> Header:
    """What the file says of itself; raises as `inspect` does."""
    try:
        with _open_file(path) as file:
            if dicom.is_dicom(file):
                header = dicom.read_header(path)
                return Header(f"DICOM {dicom.kind(header)}", header.Columns, header.Rows)
            with _open_image(file) as image:
                return Header(f"{image.format} {image.mode}", *image.size)
    except Exception as error:
        raise _unreadable(error) from None


def decode(path: str, size: int, channels: int) -> np.ndarray:
    """The image as uint8, (size, size, channels); raises `Unreadable` as `inspect` does, and on broken pixels."""
    try:
        with _open_file(path) as file:
            if dicom.is_dicom(file):
                return fit(Image.fromarray(dicom.read_pixels(path)), size, channels)
            with _open_image(file) as image:
                if image.format == "JPEG":
                    image.draft(None, (2 * size, 2 * size))  # large JPEGs: decode at a half, quarter or eighth
                return fit(_upright(image), size, channels)
    except Exception as error:
        raise _unreadable(error) from None


def fit(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """`image` in the form that the module describes: uint8, (size, size, channels)."""
    image = _plain(image, "L" if channels == 1 else "RGB")
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    pixels = np.asarray(image).reshape(height, width, channels)
    top, left = (size - height) // 2, (size - width) // 2
    if height == width == size:
        return pixels
    return np.pad(pixels, ((top, size - height - top), (left, size - width - left), (0, 0)), mode="edge")


def to_8_bit(values: np.ndarray) -> np.ndarray:
    """Scale deep pixels to uint8, the same way for every file of one kind.

    Values from 0 are divided by the smallest of 255, 4095 (12 bits, usual for scanners) and 65535 that holds them all,
    so that files of one device stay comparable; floating-point values up to 1 are multiplied by 255. Where values are
    negative (Hounsfield units) or larger, the file's own range is stretched to 0..255. What is not finite becomes the
    lowest value.
    """
    finite = np.isfinite(values)
    if not finite.any():
        raise Unreadable("no finite pixel")
    low, high = float(values[finite].min()), float(values[finite].max())
    if low >= 0 and high <= DEPTHS[-1]:
        low = 0.0
        unit = np.issubdtype(values.dtype, np.floating) and high <= 1
        high = 1.0 if unit else next(depth for depth in DEPTHS if high <= depth)
    scaled = (np.where(finite, values, low).astype(np.float32) - low) * (255 / (high - low or 1))
    return np.rint(scaled).astype(np.uint8)


def _content_hash() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _open_file(path: str) -> BufferedReader:
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block for ever
        raise Unreadable("not a regular file")
    return open(path, "rb")


def _open_image(file: BufferedReader) -> Image.Image:
    """Open lazily: header only."""
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise Unreadable(f"{image.width} x {image.height} pixels are too many (at most {MAX_PIXELS:,})")
    return image


def _upright(image: Image.Image) -> Image.Image:
    """`image` turned as its EXIF data tell; as it is when they tell nothing that can be read."""
    image.load()  # a TIFF is turned by this
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the pixels may be good all the same
        return image
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _has_colour(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        entries = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
        return bool((entries != entries[:, :1]).any())
    return not (image.mode in GREY_MODES or image.mode.startswith(DEEP_MODES))


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """`image` in mode L or RGB."""
    if image.mode.startswith(DEEP_MODES):
        pixels, tags = to_8_bit(np.asarray(image)), getattr(image, "tag_v2", {})
        white_is_zero = tags.get(PHOTOMETRIC) == 0  # of a TIFF; Pillow itself inverts up to 8 bits only
        image = Image.fromarray(255 - pixels if white_is_zero else pixels)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
    elif image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")  # a palette or CMYK has no direct way to grey
    return image.convert(mode)


def _unreadable(error: Exception) -> Unreadable:
    if isinstance(error, Unreadable):
        return error
    if isinstance(error, UnidentifiedImageError):
        return Unreadable("not a PNG, JPEG, BMP, GIF, TIFF or DICOM image")
    if isinstance(error, Image.DecompressionBombError):
        return Unreadable(f"too many pixels (at most {MAX_PIXELS:,})")
    if isinstance(error, OSError) and error.strerror:
        return Unreadable(error.strerror)
    return Unreadable(" ".join(str(error).split()) or type(error).__name__)
