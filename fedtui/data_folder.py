"""How many images of each class lie in a client's data, told by names: of files only DICOM's mark is read, where a name tells nothing."""
from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from poweranger.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".dcm")


@dataclass(frozen=True)
class ClassCounts:
    """What was found so far.

    Attributes
    ----------
    classes : images by class; for an `.npz` by class number.
    others : files in class folders that by their name are no images.
    complete : whether all has been counted.
    """

    classes: dict[str, int] = field(default_factory=dict)
    others: int = 0
    complete: bool = False

    @property
    def total(self) -> int:
        """All images."""
        return sum(self.classes.values())


def count(path: Path, found: Callable[[ClassCounts], bool] = lambda counts: True) -> ClassCounts:
    """Count a folder of class folders, or an `.npz` file.

    Parameters
    ----------
    found : told after each class; False as its answer ends the counting.

    Raises
    ------
    UserError
        When it is neither, or holds no images.
    """
    try:
        counts = _count_folder(path, found) if path.is_dir() else _count_npz(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    if counts.complete and not counts.total:
        raise UserError(f"{path} holds no images: it takes class folders with PNG, JPEG, BMP, GIF, TIFF or DICOM files in them")
    return counts


def subfolders(path: Path) -> list[str]:
    """The names of the folders and `.npz` files in a folder, sorted; hidden ones are left out. Empty when it cannot be listed."""
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and (entry.name.lower().endswith(".npz") or entry.is_dir())]
    except OSError:
        return []
    return sorted(names)


def _count_folder(path: Path, found: Callable[[ClassCounts], bool]) -> ClassCounts:
    tops = [name for name in subfolders(path) if (path / name).is_dir()]
    if not tops:
        raise UserError(f"{path} has no class folders: put the images of each class in a folder of its own")
    counts = ClassCounts()
    for top in tops:
        if not top.isprintable():
            raise UserError(f"{path}: the class folder {top!a} has unprintable characters in its name: rename it")
        files = [_is_image(file) for file in _files_below(path / top)]
        counts = ClassCounts({**counts.classes, top: sum(files)}, counts.others + len(files) - sum(files))
        if not found(counts):
            return counts
    return replace(counts, classes={name: images for name, images in counts.classes.items() if images}, complete=True)


def _is_image(path: str) -> bool:
    """Whether the name says so; one without a suffix, or with a number for one, is DICOM when it has the mark (PS3.10, 7.1)."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix and not suffix[1:].isdecimal():
        return suffix in SUFFIXES
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _files_below(top: Path) -> Iterator[str]:
    """The paths of the files that a client would look at: no hidden ones, links followed, each folder once."""
    seen: set[str] = set()
    for root, folders, files in os.walk(top, followlinks=True):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(root, name) for name in files if not name.startswith("."))


def _count_npz(path: Path) -> ClassCounts:
    if path.suffix.lower() != ".npz" or not path.exists():
        raise UserError(f"{path} is no folder and no .npz file" if path.exists() else f"{path} does not exist")
    import zlib

    import numpy as np

    classes: dict[int | str, int] = {}
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as archive:  # np.load by itself takes a single array, too
            for split in ("train", "val"):  # a client uses no others
                if f"{split}_labels" in archive:
                    numbers, sizes = np.unique(archive[f"{split}_labels"], return_counts=True)
                    for number, size in zip(numbers.tolist(), sizes.tolist(), strict=True):
                        classes[number] = classes.get(number, 0) + size
    except (ValueError, KeyError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:  # RuntimeError: encrypted
        raise UserError(f"{path} is no readable .npz file: {error}") from None
    return ClassCounts({str(number): classes[number] for number in sorted(classes, key=lambda number: (isinstance(number, str), number))}, complete=True)
