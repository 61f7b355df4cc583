"""Replaces `pyproject.toml`, which stays the user's own file: links, mode and owner are kept, nobody's change is lost.

Edits of one project are made one after another, each as a whole: the file is read, changed and replaced under a lock,
and left alone when anybody else has written it meanwhile.
"""
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from fedtui.project import Project, read_document
from poweranger.errors import UserError
from poweranger.files import replace_file

_BOM = b"\xef\xbb\xbf"
_LOCK_WAIT_S = 10.0


def fingerprint(project: Project) -> str:
    """Tells one content of the file from another."""
    return hashlib.sha256(_read(project.pyproject)).hexdigest()


def edit(project: Project, change: Callable[[str], str], fingerprint: str | None = None) -> None:
    """Replace the text of `pyproject.toml` by what `change` makes of it.

    Raises
    ------
    UserError
        When the file does not parse, is read-only, or was changed by somebody else meanwhile (or since `fingerprint`).
    """
    target = project.pyproject.resolve()  # a link stays a link
    with _locked(project):
        read_document(target)  # says line and column when it does not parse
        content = _read(target)
        if fingerprint is not None and hashlib.sha256(content).hexdigest() != fingerprint:
            raise UserError(f"{target} was changed by somebody else since it was read: look at it again, then repeat the change")
        bom = _BOM if content.startswith(_BOM) else b""
        old = content[len(bom) :].decode()
        new = change(old)
        if new == old:
            return
        try:
            encoded = bom + new.encode()
        except UnicodeEncodeError:
            raise UserError("the value holds bytes that are no UTF-8 text: pyproject.toml cannot hold them") from None
        _replace(target, content, encoded)


def _replace(target: Path, old: bytes, new: bytes) -> None:
    """Exchange the file's content in one step; it keeps its mode and owner."""
    status = target.stat()
    if not status.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise UserError(f"{target} is read-only: allow writing with `chmod u+w {target}`, or edit it as its owner")

    def write(file: BinaryIO) -> None:
        os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.fchmod(file.fileno(), status.st_mode & 0o7777)
        file.write(new)
        if _read(target) != old:
            raise UserError(f"{target} was changed by somebody else at this moment: look at it again, then repeat the change")

    try:
        replace_file(target, write)
    except PermissionError:
        raise UserError(f"{target} cannot be replaced without changing its owner: its folder or the file belongs to another user") from None
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror}): make room, or allow writing to its folder") from None


@contextlib.contextmanager
def _locked(project: Project) -> Iterator[None]:
    path = project.state / "config.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise UserError(f"another command has been editing {project.pyproject} for {_LOCK_WAIT_S:g} s: end it, then try again") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
