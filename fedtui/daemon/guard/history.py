"""Every decision of the guard as a line of `memory-guard.jsonl`, which only grows."""
from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

LINE_BYTES = 1 << 12  # for each decision that is read back so much of the file's end at first: with many clients they are longer


class History:
    """Appends decisions and reads back the last ones."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, entry: dict[str, Any]) -> None:
        """A line, whole or not at all. Raises OSError."""
        line = json.dumps(entry).encode() + b"\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a crash cut the last one off: it takes this one with it else
                line = b"\n" + line
            if os.write(descriptor, line) < len(line):  # the disk is full
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        finally:
            os.close(descriptor)

    def last(self, count: int) -> list[dict[str, Any]]:
        """The last `count` decisions, oldest first; a line cut off by a crash is left out."""
        try:
            with self.path.open("rb") as file:
                size, end = file.seek(0, os.SEEK_END), count * LINE_BYTES
                while True:
                    file.seek(max(size - end, 0))
                    found = _decisions(file.read())
                    if len(found) >= count or end >= size:
                        return found[-count:]
                    end *= 4
        except OSError:
            return []


def _decisions(text: bytes) -> list[dict[str, Any]]:
    """Its whole lines."""
    found = []
    for line in text.split(b"\n"):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found
