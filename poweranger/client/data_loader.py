"""A site's images, decoded once and kept as bytes: what the client trains and validates on.

`DATA_DIR` is a folder of class folders or a MedMNIST-style `.npz`. Without it, or when it cannot be used, the client
makes up images and says so; a folder or file that is there but holds nothing to learn from is a mistake and fails.
As a program, `python -m poweranger.client.data_loader DIR`, it describes them (see `describe`).
"""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from poweranger.client import cache, decode, split, synthetic
from poweranger.client.folder import ImageFile, report_unreadable, scan, shown
from poweranger.client.npz import Npz
from poweranger.errors import UserError, run_program

Log = Callable[[str], None]


@dataclass
class Images:
    """One split of a site's images.

    Attributes
    ----------
    x : uint8 (N, size, size, channels); a `numpy.memmap` when the cache is a file. N may be 0.
    y : int32 (N,), index into the site's classes.
    """

    x: np.ndarray
    y: np.ndarray


@dataclass
class SiteData:
    """All that a client holds.

    Attributes
    ----------
    classes : sorted names of the class folders with usable images; "0", "1", ... for an `.npz`.
    channels : 1 (grey) or 3 (RGB), of `train.x` and `validation.x`.
    unreadable : path and reason of each file that was skipped. Stays at the site.
    synthetic : True when the images are made up; `synthetic_reason` says why, without naming a path.
    """

    classes: list[str]
    channels: int
    train: Images
    validation: Images
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    synthetic: bool = False
    synthetic_reason: str = ""

    def pixel_stats(self) -> tuple[int, list[float], list[float]]:
        """Number of pixels, sum and sum of squares per channel, of the training images scaled to 0..1.

        Counted as a histogram: exact, whatever the order of the images, and in bounded memory.
        """
        histogram = np.zeros((self.channels, 256), dtype=np.int64)
        step = max(1, 2**20 // max(1, self.train.x[:1].size))
        for start in range(0, len(self.train.x), step):
            for channel in range(self.channels):
                pixels = self.train.x[start : start + step, :, :, channel].ravel()
                histogram[channel] += np.bincount(pixels, minlength=256)
        value = np.arange(256) / 255
        self.release()
        return int(histogram[0].sum()), (histogram @ value).tolist(), (histogram @ value**2).tolist()

    def release(self) -> None:
        """Give back the memory that a cache file's touched pages count for; to call when a pass over them is done."""
        cache.release(self.train.x)


class Unusable(Exception):
    """Why there is no data to use; names no path, because the reason goes to the server."""


@dataclass(frozen=True)
class _Wanted:
    """What `load_site` was asked for."""

    image_size: int
    channels: int
    validation_fraction: float
    seed: int
    cache_mb: int
    partition: tuple[int, int] | None
    dirichlet_alpha: float
    log: Log

    def share(self, contents: Sequence[bytes], labels: np.ndarray) -> np.ndarray:
        """Indices of this client's images."""
        if self.partition is None:
            return np.arange(len(labels))
        index, clients = self.partition
        return split.deal(contents, labels, clients, self.dirichlet_alpha, self.seed)[index]

    def is_validation(self, contents: Sequence[bytes], labels: np.ndarray) -> np.ndarray:
        """Which images are for validation."""
        return split.validation_mask(contents, labels, self.validation_fraction, self.seed)


def load_site(data_dir: str | None, *, client_id: str, image_size: int, channels: int, validation_fraction: float,
              seed: int, strict: bool, cache_mb: int, synthetic_examples: int, partition: tuple[int, int] | None = None,
              dirichlet_alpha: float = 0.0, log: Log = print) -> SiteData:
    """Load a site's images, or make some up.

    Parameters
    ----------
    image_size : side of the square that every image is brought to, in pixels.
    channels : 1 or 3 as the federation decided; 0 for the site's own: 3 when any of its usable images has colour.
    validation_fraction : share of the images kept for validation (an `.npz` with a `val` split keeps that one).
    strict : refuse to make up images.
    cache_mb : decoded images stay in memory up to this many MiB, else in a private file.
    synthetic_examples : number of images to make up.
    partition : (index, count) takes one virtual client's share of the data; `classes` stays that of the whole.
    dirichlet_alpha : skew of the shares' classes; 0 deals them out evenly.

    Raises
    ------
    UserError
        When `data_dir` is there but holds no usable image or one class only; when it cannot be used and `strict`
        is set; when the cache does not fit on the disk.
    """
    wanted = _Wanted(image_size, channels, validation_fraction, seed, cache_mb, partition, dirichlet_alpha, log)
    try:
        site = _load(data_dir, wanted)
        site.release()
        return site
    except Unusable as unusable:
        reason, where = str(unusable), f" ({shown(data_dir)})" if data_dir else ""
    if strict:
        raise UserError(f"{reason}{where}: give a folder of class folders or an .npz file, or set strict-data = false")
    log(f"SYNTHETIC DATA: {client_id} trains on made-up images, because {reason}{where}")
    return _make_up(client_id, synthetic_examples, reason, wanted)


def load_npz_split(path: str, name: str, image_size: int, channels: int) -> Images:
    """One split (`train`, `val` or `test`) of an `.npz`, in memory; `channels` 0 keeps the file's own.

    Training never reads `test`: this is for `evaluate` and for benchmarks.
    """
    file = Npz(path)
    y = file.labels(name)
    x = np.empty((len(y), image_size, image_size, channels or file.shape(name)[3]), dtype=np.uint8)
    file.read_into(name, x, np.arange(len(y)))
    return Images(x, y)


def _load(data_dir: str | None, wanted: _Wanted) -> SiteData:
    if not data_dir:
        raise Unusable("DATA_DIR is not set")
    if not os.path.exists(data_dir):
        raise Unusable("DATA_DIR does not exist")
    is_npz = data_dir.lower().endswith(".npz") and os.path.isfile(data_dir)
    try:
        if is_npz:
            with open(data_dir, "rb"):
                return _load_npz(data_dir, wanted)
        os.listdir(data_dir)
    except OSError as error:
        raise Unusable(f"DATA_DIR cannot be read ({error.strerror})") from None
    return _load_folder(data_dir, wanted)


def _load_folder(data_dir: str, wanted: _Wanted) -> SiteData:
    folder = scan(data_dir, wanted.log)
    check_classes(data_dir, folder.classes, folder.unreadable)
    labels = np.array([file.label for file in folder.files], dtype=np.int32)
    share = wanted.share([file.content for file in folder.files], labels)
    files, y = [folder.files[row] for row in share], labels[share]
    channels = wanted.channels or (3 if any(file.colour for file in folder.files) else 1)

    x = cache.allocate((len(files), wanted.image_size, wanted.image_size, channels), wanted.cache_mb)
    decode_row = partial(_decode_row, files, x)
    reasons = list(cache.in_parallel(decode_row, range(len(files)), "decoding", wanted.log))
    broken = [(file.path, reason) for file, reason in zip(files, reasons, strict=True) if reason]
    unreadable = folder.unreadable + broken
    report_unreadable(unreadable, wanted.log)

    usable = np.array([not reason for reason in reasons])
    classes = folder.classes if usable.any() else []
    if wanted.partition is None:
        used, y[usable] = np.unique(y[usable], return_inverse=True)
        classes = [classes[label] for label in used]
        check_classes(data_dir, classes, unreadable)
        if not wanted.channels and not any(file.colour for file, good in zip(files, usable, strict=True) if good):
            x, channels = x[..., :1], 1  # what made it colour was broken: all channels are alike
    elif not classes:
        check_classes(data_dir, classes, unreadable)

    validation = np.zeros(len(y), dtype=bool)
    contents = [file.content for file, good in zip(files, usable, strict=True) if good]
    validation[usable] = wanted.is_validation(contents, y[usable])
    return SiteData(classes, channels, *_part(x, y, usable & ~validation, validation), unreadable)


def _load_npz(path: str, wanted: _Wanted) -> SiteData:
    file = Npz(path)
    splits = [name for name in ("train", "val") if name == "train" or file.has(name)]
    labels = [file.labels(name) for name in splits]
    y = np.concatenate(labels)
    classes = [str(label) for label in range(int(y.max(initial=-1)) + 1)]
    if len(np.unique(y)) < 2:
        raise UserError(f"{path} has images of fewer than two classes: a classifier needs two or more")
    contents: list[bytes] = []
    if wanted.partition or len(splits) == 1:  # only then they are needed
        contents = [split.content_hash(row.tobytes()) for name in splits for piece in file.pieces(name) for row in piece]
    share = wanted.share(contents, y)
    validation = share >= len(labels[0])
    if len(splits) == 1:
        validation = wanted.is_validation([contents[row] for row in share], y[share])

    rows = np.concatenate([share[~validation], share[validation]])
    channels = wanted.channels or file.shape("train")[3]
    x = cache.allocate((len(rows), wanted.image_size, wanted.image_size, channels), wanted.cache_mb)
    slots = np.full(len(y), -1)
    slots[rows] = np.arange(len(rows))
    for name, part in zip(splits, np.split(slots, [len(labels[0])]), strict=False):
        file.read_into(name, x, part)
    train = len(rows) - int(validation.sum())
    y = y[rows]
    return SiteData(classes, channels, Images(x[:train], y[:train]), Images(x[train:], y[train:]))


def _make_up(client_id: str, examples: int, reason: str, wanted: _Wanted) -> SiteData:
    if wanted.partition is None:
        labels = synthetic.labels_of(client_id, examples, wanted.seed)
    else:  # one pool for all virtual clients, dealt out like real data
        labels = np.arange(examples * wanted.partition[1], dtype=np.int32) % len(synthetic.CLASSES)
    contents = [split.content_hash(str(index).encode()) for index in range(len(labels))]
    share = wanted.share(contents, labels)
    y, channels = labels[share], wanted.channels or 1
    x = cache.allocate((len(share), wanted.image_size, wanted.image_size, channels), wanted.cache_mb)
    for row, index in enumerate(share):
        x[row] = synthetic.phantom(client_id, int(index), int(labels[index]), wanted.image_size, wanted.seed)[..., None]
    validation = wanted.is_validation([contents[index] for index in share], y)
    return SiteData(synthetic.CLASSES, channels, *_part(x, y, ~validation, validation), synthetic=True,
                    synthetic_reason=reason)


def _decode_row(files: list[ImageFile], x: np.ndarray, row: int) -> str:
    """Decode one file into its row of `x`; the reason when that fails, else nothing."""
    try:
        x[row] = decode.decode(files[row].path, x.shape[1], x.shape[3])
    except decode.Unreadable as error:
        return str(error)
    return ""


def _part(x: np.ndarray, y: np.ndarray, train: np.ndarray, validation: np.ndarray) -> tuple[Images, Images]:
    """The rows of the two masks as two parts of `x`, which is reordered in place."""
    count = int(train.sum())
    order = cache.move_to_front(x, train)
    order[count:] = order[count:][cache.move_to_front(x[count:], validation[order[count:]])]
    end = count + int(validation.sum())
    return Images(x[:count], y[order[:count]]), Images(x[count:end], y[order[count:end]])


def check_classes(data_dir: str, classes: list[str], unreadable: list[tuple[str, str]]) -> None:
    """Refuse, as a `UserError`, what holds no usable image or only one class of them."""
    if not classes:
        first = f" (the first of {len(unreadable)}: {shown(unreadable[0][0])}: {unreadable[0][1]})" if unreadable else ""
        raise UserError(f"{shown(data_dir)} holds no usable image{first}: put PNG, JPEG, BMP, GIF, TIFF or DICOM files into "
                        f"its class folders")
    if len(classes) == 1:
        raise UserError(f"{shown(data_dir)} has usable images of one class only ({classes[0]}): a classifier needs two or "
                        f"more class folders")


if __name__ == "__main__":
    from poweranger.client.describe import main

    run_program("data_loader", main)
