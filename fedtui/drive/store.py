"""What an upload has to know the next time, in the project's state folder: who may upload, and what was interrupted.

    drive/client.json     the client secret, as the user gave it
    drive/token.json      the permission: a refresh token
    drive/sessions.json   an unfinished upload's address by file; whoever has it may go on with that upload
"""
from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poweranger.errors import UserError
from poweranger.files import make_private_folder, replace_file

CLIENT, TOKEN, SESSIONS = "client.json", "token.json", "sessions.json"


class Store:
    """The files of `<state>/drive`, 0600 in a folder of mode 0700."""

    def __init__(self, state: Path) -> None:
        self.folder = make_private_folder(state / "drive")

    def read(self, name: str) -> dict[str, Any]:
        """The content of a file; empty when it is absent or damaged."""
        try:
            value = json.loads((self.folder / name).read_bytes())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Replace a file."""
        replace_file(self.folder / name, lambda file: file.write(json.dumps(value).encode()))

    def forget_permission(self) -> None:
        """Remove the token, and the unfinished uploads into its account."""
        for name in (TOKEN, SESSIONS):
            (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Held while uploading: two at once would upload everything twice.

        Raises
        ------
        UserError
            When another process holds it.
        """
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError("another upload of this project is going on: wait for its end") from None
            yield
        finally:
            os.close(lock)
