"""DICOM files: the pixels as a viewer would show them, and nothing else of the file.

Only the elements that describe pixels are read at all (`_wanted_tags`), none that identifies a patient. What pydicom
says of a file it cannot read may quote the file, so that neither its exceptions' texts nor its warnings and log lines
go anywhere: a reason given here is one of ours.

The steps are those of DICOM PS3.3 C.7.6.3, C.11.1 and C.11.2:

- Of several frames the middle one counts: one file is one image, so that no frame is validated whose neighbour was
  trained on.
- Grey: modality LUT or rescale, then VOI LUT, else the first window. Without both, 8-bit values stay as they are, and
  deeper ones are stretched from the 0.5th to the 99.5th percentile. MONOCHROME1 is inverted; padding becomes black.
- Colour: RGB, YBR_FULL, YBR_FULL_422, YBR_ICT, YBR_RCT and palettes become RGB.
"""
from __future__ import annotations

import importlib.util
import logging
import os
import struct
import warnings
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from poweranger.client.unreadable import MAX_PIXELS, Unreadable

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MISSING = "a DICOM file: to read it, pip install 'federated-health[dicom]'"
MARK = b"DICM"  # behind a preamble of 128 bytes
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
PALETTE = "PALETTE COLOR"
PERCENTILES = (0.5, 99.5)  # what is outside is often a burnt-in mark or the edge of a collimator
DEFLATED = "1.2.840.10008.1.2.1.99"  # inflated as a whole before its size is known
SHARED, PER_FRAME = 0x52009229, 0x52009230  # functional groups of an enhanced multi-frame object

for _name in ("pydicom", "pylibjpeg", "libjpeg", "openjpeg", "rle"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False
warnings.filterwarnings("ignore", module=r"(pydicom|pylibjpeg|libjpeg|openjpeg|rle|poweranger\.client\.dicom)(\.|$)")


def is_dicom(file: BinaryIO) -> bool:
    """Whether the file has DICOM's mark; leaves it at its start."""
    head = file.read(132)
    file.seek(0)
    return head[128:] == MARK


def read_header(path: str) -> Dataset:
    """What the file says of its pixels, checked: they are there, of a known kind, not too many, and can be decoded.

    Raises
    ------
    Unreadable
        When they are not, or the extra `dicom` is not installed.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise Unreadable(MISSING)
    try:
        return _read(path)
    except (Unreadable, OSError):
        raise
    except Exception:  # its text may quote the file
        raise Unreadable("a DICOM file whose header is broken or incomplete") from None


def has_colour(header: Dataset) -> bool:
    """Whether the image has colour; a palette of greys has none."""
    if header.PhotometricInterpretation != PALETTE:
        return bool(header.PhotometricInterpretation in COLOUR)
    tables = [header.get(f"{name}PaletteColorLookupTableData") for name in ("Red", "Green", "Blue")]
    return not tables[0] == tables[1] == tables[2]


def kind(header: Dataset) -> str:
    """The kind of image in words: `MONOCHROME2, 12 bit`."""
    return f"{header.PhotometricInterpretation}, {header.BitsStored} bit"


def read_pixels(path: str) -> np.ndarray:
    """The image as it is to be seen: uint8, (rows, columns) when it is grey, else (rows, columns, 3).

    Raises
    ------
    Unreadable
        As `read_header` does, and when the pixels are broken.
    """
    header = read_header(path)
    try:
        _check_stream(path, header)
        return _pixels(path, header)
    except Unreadable:
        raise
    except Exception as error:
        name = type(error).__name__
        raise Unreadable(f"a DICOM file whose pixels cannot be decoded ({name})") from None


def _read(path: str) -> Dataset:
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info
    from pydicom.pixels import get_decoder

    syntax = read_file_meta_info(path).TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise Unreadable("a DICOM file whose pixels are stored in an unknown way, or as video") from None
    if syntax == DEFLATED:
        raise Unreadable("a deflated DICOM file: store it without deflation")
    if not decoder.is_available:
        raise Unreadable(f"a DICOM file compressed as {syntax.name}: to read it, pip install 'federated-health[dicom]'")
    header = dcmread(path, specific_tags=_wanted_tags(), stop_before_pixels=True)
    if "Rows" not in header or "Columns" not in header:
        raise Unreadable("a DICOM file without an image")
    _check_size(header.Columns, header.Rows)
    if header.PhotometricInterpretation not in (*GREY, *COLOUR, PALETTE):
        raise Unreadable("a DICOM file of a colour space that is not read here")
    if header.Rows * header.Columns == 0 or header.BitsStored < 1:
        raise ValueError
    return header


def _wanted_tags() -> list[Any]:
    """Group 0028, which describes pixels, and the functional groups, which do so for each frame."""
    from pydicom.datadict import DicomDictionary

    return [SHARED, PER_FRAME, *(tag for tag in DicomDictionary if tag >> 16 == 0x0028)]


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unreadable(f"{width} x {height} pixels are too many (at most {MAX_PIXELS:,})")


def _check_stream(path: str, header: Dataset) -> None:
    """Refuse compressed pixels that claim to be more than the header says: their decoder believes them and takes the memory."""
    from pydicom import dcmread
    from pydicom.encaps import get_frame

    if not header.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    with open(path, "rb") as file:
        dcmread(file, specific_tags=[], stop_before_pixels=True)
        file.seek(12, os.SEEK_CUR)  # tag, VR and length of the pixel data
        stream = get_frame(file, _middle(header), number_of_frames=int(header.get("NumberOfFrames") or 1))
    _check_size(*_stream_size(stream))


def _stream_size(stream: bytes) -> tuple[int, int]:
    """Width and height that a JPEG, JPEG-LS or JPEG 2000 stream claims; (0, 0) when it is none of them."""
    start = stream.find(b"\xff\x4f\xff\x51")  # JPEG 2000, ISO 15444-1 A.5.1: SOC and SIZ
    if start >= 0:
        width, height = struct.unpack_from(">II", stream, start + 8)
        return width, height
    at = 2
    while stream[:2] == b"\xff\xd8" and at + 9 <= len(stream):  # JPEG, ISO 10918-1 B.2: segments up to the frame header
        marker, length, _, height, width = struct.unpack_from(">HHBHH", stream, at)
        if marker == 0xFFF7 or (0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC)):
            return width, height
        at += 1 if marker == 0xFFFF else 2 + length
    return 0, 0


def _middle(header: Dataset) -> int:
    return int(header.get("NumberOfFrames") or 1) // 2


def _pixels(path: str, header: Dataset) -> np.ndarray:
    from pydicom.pixels import apply_color_lut, pixel_array

    frame = _middle(header)
    values = pixel_array(path, index=frame)
    if header.PhotometricInterpretation in GREY:
        return _grey(values, header, frame)
    if header.PhotometricInterpretation == PALETTE:
        values = apply_color_lut(values, header)
        depth = 8 * values.dtype.itemsize
    else:
        depth = header.BitsStored
    return values.astype(np.uint8) if depth == 8 else _to_bytes(values, 0, 2**depth - 1)


def _grey(values: np.ndarray, header: Dataset, frame: int) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, apply_voi

    _flatten_groups(header, frame)
    padded = _padded(values, header)
    plain = header.BitsStored <= 8 and not header.PixelRepresentation
    if header.get("ModalityLUTSequence"):
        values, plain = apply_modality_lut(values, header), False
    elif header.get("RescaleSlope") is not None and header.get("RescaleIntercept") is not None:  # some are there and empty
        slope, intercept = float(header.RescaleSlope), float(header.RescaleIntercept)
        plain = plain and (slope, intercept) == (1, 0)
        values = values.astype(np.float32) * slope + intercept

    if header.get("VOILUTSequence"):
        depth = header.VOILUTSequence[0].LUTDescriptor[2]
        pixels = _to_bytes(apply_voi(np.rint(values).astype(np.int64), header), 0, 2**depth - 1)
    elif (window := _window(header)) is not None:
        pixels = _to_bytes(_in_window(values, *window), 0, 1)
    elif plain:
        pixels = _to_bytes(values, 0, 2**header.BitsStored - 1)
    else:
        seen = values[~padded & np.isfinite(values)]
        low, high = np.percentile(seen, PERCENTILES) if seen.size else (0.0, 0.0)
        if low == high and seen.size:  # nearly all pixels are alike: a mask
            low, high = seen.min(), seen.max()
        pixels = _to_bytes(values, float(low), float(high))
    if header.PhotometricInterpretation == "MONOCHROME1":
        pixels = 255 - pixels
    pixels[padded] = 0
    return pixels


def _padded(values: np.ndarray, header: Dataset) -> np.ndarray:
    """Which of the stored values are padding: one value, or all of a range (PS3.3 C.7.5.1.1.2)."""
    value = header.get("PixelPaddingValue")
    if value is None:
        return np.zeros(values.shape, bool)
    limit = header.get("PixelPaddingRangeLimit")
    low, high = sorted((value, value if limit is None else limit))
    return (values >= low) & (values <= high)


def _flatten_groups(header: Dataset, frame: int) -> None:
    """Bring what an enhanced object says of this frame, or of all, to where others have it (PS3.3 C.7.6.16)."""
    of_frame = header[PER_FRAME].value[frame : frame + 1] if PER_FRAME in header else []
    for group in (*(header[SHARED].value if SHARED in header else ()), *of_frame):
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(name) or ():
                header.update({element.tag: element for element in item})


def _window(header: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window; None when there is none that has a width."""
    centre, width = (header.get(name) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return None
    first_centre, first_width = (float(np.atleast_1d(value)[0]) for value in (centre, width))
    function = str(header.get("VOILUTFunction") or "LINEAR").upper()
    return None if first_width < (1 if function == "LINEAR" else 1e-9) else (first_centre, first_width, function)


def _in_window(values: np.ndarray, centre: float, width: float, function: str) -> np.ndarray:
    """The values brought to 0..1 (PS3.3 C.11.2.1.2 and C.11.2.1.3); beyond it where they are outside."""
    values = values.astype(np.float32)
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -60, 60)))
    if function == "LINEAR":  # in whole numbers: the first and the last pixel of the width are 0 and 1
        centre, width = centre - 0.5, max(width - 1, 1e-6)
    return (values - centre) / width + 0.5


def _to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Stretch `low`..`high` to 0..255; what is not finite becomes black."""
    scaled = (values.astype(np.float32) - low) * (255 / (high - low or 1))
    return np.rint(np.nan_to_num(scaled, nan=0.0).clip(0, 255)).astype(np.uint8)
