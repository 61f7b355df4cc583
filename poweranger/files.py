"""Writing files that others read: replaced atomically, readable by their owner only."""
from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO


def make_private_folder(path: Path) -> Path:
    """Create `path` and what is missing above it, 0700; an existing folder is left as it is."""
    for folder in reversed([path, *path.parents]):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    return path


def write_new(path: Path, content: bytes) -> None:
    """Make a file, 0600; where the disk does not take all of it, none. `FileExistsError` where there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except BaseException:
        path.unlink()
        raise


def replace_file(path: Path, write: Callable[[BinaryIO], object], *, durable: bool = True) -> None:
    """Let `write` fill a new file, 0600, and put it in the place of `path` in one step.

    A reader sees the old content or the new, never a part. `durable` also survives a power cut (costs an fsync);
    without it the content may be lost then, which suits what is only of interest while the process lives.
    """
    replace_files([(path, write)], durable=durable)


def replace_files(files: Sequence[tuple[Path, Callable[[BinaryIO], object]]], *, durable: bool = True) -> None:
    """`replace_file` for several: all are written, and on the disk, before the first takes its place; they do so in order.

    The disk is waited for once: it takes them together.
    """
    beside = [path.with_name(f".{path.name}.{os.getpid()}") for path, _ in files]
    try:
        with contextlib.ExitStack() as stack:
            opened = []
            for path, (_, write) in zip(beside, files, strict=True):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                file = stack.enter_context(os.fdopen(descriptor, "wb"))
                write(file)
                file.flush()
                opened.append(file.fileno())
            if durable and len(opened) == 1:
                os.fsync(opened[0])
            elif durable:
                with ThreadPoolExecutor(len(opened)) as pool:
                    list(pool.map(os.fsync, opened))
        for new, (path, _) in zip(beside, files, strict=True):
            os.replace(new, path)
        if durable:
            for folder in dict.fromkeys(path.parent for path, _ in files):
                _sync(folder)
    except BaseException:
        for new in beside:
            new.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    """Have the disk keep the names of the files in a folder, too, where its file system knows of that."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left beside the files it was replacing, here and below."""
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\..+\.\d+", path.name) and path.is_file():
            path.unlink()


def replace_link(link: Path, target: Path) -> None:
    """Point the symbolic link `link` at `target` (relative to the link's folder) in one step."""
    beside = link.with_name(f".{link.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    beside.symlink_to(os.path.relpath(target, link.parent))
    os.replace(beside, link)
