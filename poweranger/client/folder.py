"""A folder of class folders: which images it holds, without decoding them."""
from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from poweranger.client import cache, decode, dicom
from poweranger.errors import UserError

MAX_NAMED = 20  # unreadable files that are named in the log


@dataclass(frozen=True)
class ImageFile:
    """A file that opens as an image: its class, content hash, and whether it has colour."""

    path: str
    label: int
    content: bytes
    colour: bool


@dataclass
class Folder:
    """What a folder holds: class names, files in the order of their content, and the files that are no image."""

    classes: list[str]
    files: list[ImageFile]
    unreadable: list[tuple[str, str]]


def scan(data_dir: str, log: Callable[[str], None]) -> Folder:
    """Look through a folder as `image_dataset_from_directory` does: each folder in it is a class, with all files below.

    Hidden files and folders, files beside the class folders and empty class folders are ignored with one note. Links
    are followed, each folder once in a class, so that a loop of links ends.

    Raises
    ------
    UserError
        When there is no class folder, or one whose name cannot be shown.
    OSError
        When the folder itself cannot be listed.
    """
    entries = sorted(os.listdir(data_dir))
    tops = [name for name in entries if os.path.isdir(os.path.join(data_dir, name)) and not name.startswith(".")]
    if not tops:
        raise UserError(f"{shown(data_dir)} has no class folders: put the images of each class in a folder of its own")
    hidden = [name for name in entries if name.startswith(".")]
    beside = len(entries) - len(tops) - len(hidden)
    found: list[tuple[str, str]] = []  # class name, path
    unreadable: list[tuple[str, str]] = []
    empty = []
    for top in tops:
        name = unicodedata.normalize("NFC", top)  # one class whatever system wrote the folder
        if not name.isprintable():
            raise UserError(f"{shown(data_dir)}: the class folder {top!a} has unprintable characters in its name: rename it")
        before = len(found)
        found += [(name, path) for path in files_below(os.path.join(data_dir, top), hidden, unreadable)]
        if len(found) == before:
            empty.append(shown(top))
    _note_ignored(data_dir, len(hidden), beside, empty, log)

    images: list[tuple[str, str, bytes, bool]] = []
    inspected = cache.in_parallel(_try_inspect, [path for _, path in found], "looking through the folder", log)
    for (name, path), result in zip(found, inspected, strict=True):
        if isinstance(result, str):
            unreadable.append((path, result))
        else:
            images.append((name, path, *result))
    classes = sorted({name for name, *_ in images})
    number = {name: label for label, name in enumerate(classes)}
    files = [ImageFile(path, number[name], content, colour) for name, path, content, colour in images]
    return Folder(classes, sorted(files, key=lambda file: (file.content, file.path)), unreadable)


def report_unreadable(unreadable: list[tuple[str, str]], log: Callable[[str], None]) -> None:
    """Name the files that were skipped and why, the first twenty of them; what one installation mends is said once."""
    named = [(path, reason) for path, reason in unreadable if reason != dicom.MISSING]
    if len(named) < len(unreadable):
        log(f"skipped {len(unreadable) - len(named)} times {dicom.MISSING}")
    for path, reason in named[:MAX_NAMED]:
        log(f"skipped {shown(path)}: {reason}")
    if len(named) > MAX_NAMED:
        log(f"skipped {len(named) - MAX_NAMED} more files that are no usable image")


def shown(name: str) -> str:
    """A file's name, or another text from outside, for a line of the log: control characters and undecodable bytes escaped."""
    return name if name.isprintable() else ascii(name)


def files_below(top: str, hidden: list[str], unreadable: list[tuple[str, str]]) -> Iterator[str]:
    """All files below `top`, sorted, each folder once; names left out because hidden, and folders that cannot be listed, are added."""
    def failed(error: OSError) -> None:
        unreadable.append((str(error.filename), error.strerror or "cannot be listed"))

    for root, folders, files in walk(top, failed):
        hidden += [name for name in folders + files if name.startswith(".")]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(root, name) for name in sorted(files) if not name.startswith("."))


def walk(top: str, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` that follows links, and comes to each folder once, so that a loop of links ends."""
    seen: set[str] = set()
    for root, folders, files in os.walk(top, onerror=onerror, followlinks=True):
        if os.path.realpath(root) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(root))
        yield root, folders, files


def _try_inspect(path: str) -> tuple[bytes, bool] | str:
    try:
        return decode.inspect(path)
    except decode.Unreadable as error:
        return str(error)


def _note_ignored(data_dir: str, hidden: int, beside: int, empty: list[str], log: Callable[[str], None]) -> None:
    parts = []
    if hidden:
        parts.append(f"{hidden} hidden")
    if beside:
        parts.append(f"{beside} beside the class folders")
    if empty:
        parts.append("empty class folders: " + ", ".join(empty))
    if parts:
        log(f"ignored in {shown(data_dir)}: " + "; ".join(parts))
