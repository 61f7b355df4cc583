"""DICOM: pixels as a viewer shows them, whatever the file stores; and not a word of a patient, whatever goes wrong."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from poweranger.client import decode, dicom, folder

pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")

from pydicom import config  # noqa: E402
from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.datadict import DicomDictionary  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.pixels import get_decoder  # noqa: E402
from pydicom.uid import (  # noqa: E402
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

RAMP = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None], 32, axis=0)
SECRET = "ZZPATIENT"


def dataset(values: np.ndarray, **elements: Any) -> Dataset:
    """An image of these values (one frame, or frames first when `NumberOfFrames` is given)."""
    colour = values.shape[-1] == 3
    rows, columns = values.shape[-3:-1] if colour else values.shape[-2:]
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.Rows, made.Columns, made.SamplesPerPixel = rows, columns, 3 if colour else 1
    made.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        made.PlanarConfiguration = 0
    bits = 8 * values.dtype.itemsize
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation = int(values.dtype.kind == "i")
    made.PixelData = values.tobytes()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def written(path: Path, values: np.ndarray, **elements: Any) -> Path:
    dataset(values, **elements).save_as(path, enforce_file_format=True)
    return path


def grey(path: Path, size: int = 32) -> np.ndarray:
    return decode.decode(str(path), size, 1)[..., 0]


def bundled(name: str) -> str:
    path = get_testdata_file(name, download=False)
    assert path, f"{name} does not come with pydicom any more"
    return str(path)


def reason(path: Path | str) -> str:
    with pytest.raises(decode.Unreadable) as caught:
        decode.decode(str(path), 32, 1)
    return str(caught.value)


def test_eight_bits_without_a_window_stay_as_they_are(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.dcm", RAMP)
    assert np.array_equal(grey(plain), RAMP)
    assert decode.read_header(str(plain)) == decode.Header("DICOM MONOCHROME2, 8 bit", 32, 32)
    assert not decode.inspect(str(plain))[1]
    assert np.array_equal(grey(written(tmp_path / "IM0001", RAMP)), RAMP)  # no suffix: the mark tells


def test_monochrome1_is_inverted_and_padding_is_black(tmp_path: Path) -> None:
    values = RAMP.copy()
    values[:4] = 7
    inverted = written(tmp_path / "a", values, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=7)
    assert np.array_equal(grey(inverted)[4:], 255 - RAMP[4:])
    assert grey(inverted)[:4].max() == 0
    ranged = written(tmp_path / "b", values, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=8, PixelPaddingRangeLimit=0)
    assert grey(ranged)[:4].max() == 0 and grey(ranged)[4:, :2].max() == 0 and np.array_equal(grey(ranged)[4:, 2:], 255 - RAMP[4:, 2:])


def test_rescale_and_the_first_window_are_applied(tmp_path: Path) -> None:
    stored = np.repeat(np.arange(0, 3200, 100, dtype=np.uint16)[None], 32, axis=0)
    window = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": [40, 500], "WindowWidth": [400, 1000]}
    hounsfield = stored[0].astype(float) - 1000
    expected = np.clip((hounsfield - 39.5) / 399 + 0.5, 0, 1) * 255  # PS3.3 C.11.2.1.2
    assert np.abs(grey(written(tmp_path / "a", stored, **window))[0] - expected).max() <= 0.5
    exact = written(tmp_path / "b", stored, **window, VOILUTFunction="LINEAR_EXACT")
    assert np.abs(grey(exact)[0] - np.clip((hounsfield - 40) / 400 + 0.5, 0, 1) * 255).max() <= 0.5
    empty = written(tmp_path / "d", stored, RescaleSlope=None, RescaleIntercept=None, WindowCenter=1600, WindowWidth=3200)
    assert np.abs(grey(empty)[0] - np.clip((stored[0] - 1599.5) / 3199 + 0.5, 0, 1) * 255).max() <= 0.5
    sigmoid = written(tmp_path / "c", stored, **window, VOILUTFunction="SIGMOID")
    assert np.abs(grey(sigmoid)[0] - 255 / (1 + np.exp(-4 * (hounsfield - 40) / 400))).max() <= 0.5


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_deep_values_without_a_window_are_stretched_but_for_the_outermost(tmp_path: Path, dtype: type) -> None:
    values = np.random.default_rng(0).integers(300, 1200, (64, 64)).astype(dtype) - (900 if dtype is np.int16 else 0)
    values[0, 0] = 30_000  # a burnt-in mark
    pixels = grey(written(tmp_path / "a", values), 64).astype(float)
    assert (pixels == 0).mean() == pytest.approx(0.005, abs=0.003) and (pixels == 255).mean() == pytest.approx(0.005, abs=0.003)
    assert np.corrcoef(pixels.ravel()[1:], values.ravel()[1:].astype(float))[0, 1] > 0.999


def test_a_lookup_table_counts_before_the_window(tmp_path: Path) -> None:
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [256, 0, 8])
    table.add_new("LUTData", "US", list(range(255, -1, -1)))
    path = written(tmp_path / "a", RAMP, VOILUTSequence=[table], WindowCenter=1, WindowWidth=1)
    assert np.array_equal(grey(path), 255 - RAMP)


def test_of_several_frames_the_middle_one_counts(tmp_path: Path) -> None:
    frames = np.stack([np.full((16, 16), value, np.uint8) for value in (10, 120, 240)])
    assert np.unique(grey(written(tmp_path / "a", frames, NumberOfFrames=3), 16)).tolist() == [120]
    groups = []
    for centre in (5, 120.5, 5):
        window, group = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = centre, 11
        group.FrameVOILUTSequence = [window]
        groups.append(group)
    path = written(tmp_path / "b", frames, NumberOfFrames=3, PerFrameFunctionalGroupsSequence=groups)
    assert np.unique(grey(path, 16)).tolist() == [128]  # its own window, and not the first frame's


def test_colour_and_palette(tmp_path: Path) -> None:
    red = np.tile(np.array([200, 30, 10], np.uint8), (16, 16, 1))
    path = written(tmp_path / "rgb", red)
    assert decode.inspect(str(path))[1] and decode.decode(str(path), 16, 3)[8, 8].tolist() == [200, 30, 10]
    deep = written(tmp_path / "deep", red.astype(np.uint16) * 257)
    assert decode.decode(str(deep), 16, 3)[8, 8].tolist() == [200, 30, 10]
    for name, tables, colour in (("palette", ((0, 200), (0, 30), (0, 10)), True), ("greys", ((0, 90),) * 3, False)):
        elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
        for channel, entries in zip(("Red", "Green", "Blue"), tables, strict=True):
            elements[f"{channel}PaletteColorLookupTableDescriptor"] = [2, 0, 8]
            elements[f"{channel}PaletteColorLookupTableData"] = bytes(entries)
        path = written(tmp_path / name, np.ones((16, 16), np.uint8), **elements)
        assert decode.inspect(str(path))[1] == colour
        assert decode.decode(str(path), 16, 3)[8, 8].tolist() == [entries[1] for entries in tables]


@pytest.mark.parametrize("name", ["MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "MR_small_bigendian", "MR_small_implicit"])
def test_every_lossless_way_of_storing_gives_the_same_image(name: str) -> None:
    assert np.array_equal(grey(Path(bundled(f"{name}.dcm")), 64), grey(Path(bundled("MR_small.dcm")), 64))


@pytest.mark.parametrize("name", [
    "SC_rgb_rle", "SC_rgb_jpeg_dcmtk", "SC_rgb_jpeg_gdcm", "SC_rgb_dcmtk_+eb+cy+s2", "SC_ybr_full_422_uncompressed", "SC_rgb_gdcm_KY",
    "SC_rgb_rle_16bit", "SC_rgb_jls_lossy_line",
])  # fmt: skip
def test_the_same_colours_in_every_colour_space_and_compression(name: str) -> None:
    reference = decode.decode(bundled("SC_rgb_dcmtk_+eb+cr.dcm"), 100, 3).astype(int)
    middles = np.s_[5::10, 5::10]  # ten bars; chroma is coarse at their edges
    assert np.abs(decode.decode(bundled(f"{name}.dcm"), 100, 3)[middles] - reference[middles]).max() <= 6


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_what_is_compressed_with_pylibjpeg_comes_back(tmp_path: Path, syntax: Any) -> None:
    values = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype(np.uint16)
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    plain = grey(written(tmp_path / "plain", values, **window))
    made = dataset(values, **window)
    made.compress(syntax, encoding_plugin="pylibjpeg")
    made.save_as(tmp_path / "compressed", enforce_file_format=True)
    assert get_decoder(syntax).is_available and np.array_equal(grey(tmp_path / "compressed"), plain)


@pytest.mark.parametrize(("name", "says"), [
    ("rtplan.dcm", "without an image"),
    ("MR_truncated.dcm", "cannot be decoded"),
    ("meta_missing_tsyntax.dcm", "header"),
    ("image_dfl.dcm", "deflated"),
    ("no_meta.dcm", "not a PNG"),
])
def test_what_cannot_be_used_has_a_reason(name: str, says: str) -> None:
    assert says in reason(bundled(name))


def test_a_header_that_claims_a_huge_image_is_not_believed(tmp_path: Path) -> None:
    assert "too many" in reason(written(tmp_path / "a", RAMP, Rows=65000, Columns=65000))
    assert "cannot be decoded" in reason(written(tmp_path / "b", RAMP, Rows=4000, Columns=4000))


@pytest.mark.parametrize("stream", ["jpeg 2000", "jpeg", "jpeg-ls"])
def test_compressed_pixels_that_claim_a_huge_image_are_not_decoded(tmp_path: Path, stream: str) -> None:
    if stream == "jpeg 2000":
        made, place, form = dataset(np.zeros((32, 32), np.uint8)), b"\xff\x51", "4x {0:08x}{0:08x}"
        made.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    else:
        name, place = ("SC_rgb_small_odd_jpeg", b"\xff\xc0") if stream == "jpeg" else ("MR_small_jpeg_ls_lossless", b"\xff\xf7")
        made, form = pydicom.dcmread(bundled(f"{name}.dcm")), "3x {0:04x}{0:04x}"
    skip, size = form.split("x ")
    pixels = bytearray(made.PixelData)
    at = pixels.index(place) + 2 + int(skip)
    claimed = bytes.fromhex(size.format(40_000))
    pixels[at : at + len(claimed)] = claimed
    made.PixelData = bytes(pixels)
    made.save_as(tmp_path / "a", enforce_file_format=True)
    assert "40000 x 40000 pixels are too many" in reason(tmp_path / "a")


def test_without_the_extra_it_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(RAMP).save(tmp_path / name / "x.png")
        for number in range(30):
            written(tmp_path / name / f"{number}.dcm", RAMP)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    lines: list[str] = []
    found = folder.scan(str(tmp_path), lines.append)
    assert len(found.files) == 2 and {why for _, why in found.unreadable} == {dicom.MISSING}
    folder.report_unreadable(found.unreadable, lines.append)
    assert lines == ["skipped 60 times a DICOM file: to read it, pip install 'federated-health[dicom]'"]


def marked(path: Path, values: np.ndarray, **elements: Any) -> Path:
    """An image that names its patient in every patient attribute, and in what is read of the pixels where `elements` say so."""
    made = dataset(values)
    of_patient = [(tag, vr) for tag, (vr, *_) in DicomDictionary.items() if tag >> 16 == 0x0010 and vr in ("PN", "LO", "SH", "LT", "DA", "AS", "CS", "TM", "UT")]
    assert len(of_patient) > 40
    for tag, vr in of_patient:
        made.add_new(tag, vr, SECRET)
    made.add_new("InstitutionName", "LO", SECRET)
    made.add_new("StudyDescription", "LO", SECRET)
    for name, value in elements.items():
        setattr(made, name, value)
    made.save_as(path, enforce_file_format=True)
    return path


# A client's answer to the server, and all it holds of a folder, with every warning and log line shown.
ASK = """
import logging, sys, time, warnings
logging.basicConfig(level=0); warnings.simplefilter("always")
from flwr.app import ConfigRecord, Context, Message, Metadata, RecordDict
from poweranger.client import client_app
from poweranger.run_config import KEYS
values = {key.name: key.default for key in KEYS if key.reader == "clients"} | {"channels": 0, "image-size": 32}
context = Context(1, 7, {"client-id": "C1", "data-dir": sys.argv[1], "strict-data": True, "cache-mb": 0}, RecordDict(), {})
message = Message(metadata=Metadata(1, "m", 1, 7, "", "", time.time(), 60.0, "query.describe"), content=RecordDict({"config": ConfigRecord(values)}))
reply = client_app.app(message, context)
print("REPLY", dict(reply.content.config_records["config"]))
data = client_app._sites["C1"].data
print("HELD", data.classes, data.unreadable, data.train.x.tobytes(), data.validation.x.tobytes())
"""


def test_no_word_of_a_patient_leaves_the_file_whatever_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.settings, "writing_validation_mode", config.IGNORE)
    noise = np.random.default_rng(0).integers(0, 4096, (12, 32, 32)).astype(np.uint16)
    site = tmp_path / "site"
    for name, images in (("a", noise[:6]), ("b", noise[6:])):
        (site / name).mkdir(parents=True)
        for number, image in enumerate(images):
            marked(site / name / f"good{number}.dcm", image)
    header = dicom.read_header(str(site / "a" / "good0.dcm"))
    assert {element.tag.group for element in header} == {0x0028}  # nothing else is even read
    bad = site / "a"
    marked(bad / "bad-size.dcm", noise[0], Rows=33)
    marked(bad / "bad-colour.dcm", noise[0], PhotometricInterpretation=SECRET)
    made = dataset(noise[0])
    made.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    whole = made.PixelData
    made.PixelData = whole[:40] + SECRET.encode() * 9 + whole[40 + 9 * len(SECRET) :]
    made.PatientName = SECRET
    made.save_as(bad / "bad-stream.dcm", enforce_file_format=True)
    for field, text in (("bad-frames", "NumberOfFrames"), ("bad-window", "WindowCenter"), ("bad-slope", "RescaleSlope")):
        extra = {"RescaleIntercept": 0} if text == "RescaleSlope" else {"WindowWidth": 9}
        path = marked(bad / f"{field}.dcm", noise[0], **{text: "12345678"}, **extra)
        path.write_bytes(path.read_bytes().replace(b"12345678", SECRET[:8].encode()))
    path = marked(bad / "bad-syntax.dcm", noise[0])
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", SECRET.encode().ljust(20, b"\0")))
    path = marked(bad / "bad-end.dcm", noise[0])
    path.write_bytes(path.read_bytes()[:-700])
    path = marked(bad / "bad-header.dcm", noise[0])
    path.write_bytes(path.read_bytes()[:600])

    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": os.getcwd(), "PYTHONWARNINGS": "always"}
    done = subprocess.run([sys.executable, "-c", ASK, str(site)], capture_output=True, text=True, env=environment, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert SECRET[:8] not in said
    assert "REPLY" in said and "'unreadable': 9" in said
    for path in bad.glob("bad-*"):
        assert f"skipped {path}: a DICOM file" in said
    assert not any((tmp_path / "cache").rglob("*.*"))  # the cache file has no name
