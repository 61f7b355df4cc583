"""The log of one process: read by offsets that never go back, rotated under its writer."""
from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from fedtui.daemon.rotate import Rotation, old
from fedtui.daemon.state import Record
from fedtui.logs import clean
from poweranger.files import make_private_folder

TAIL = 1 << 16  # bytes from the end in which the last lines are looked for
LINE = 500  # characters kept of each


class LogFile:
    """`record.log_base` is what rotation has taken out so far: an offset in the file plus that is an offset here."""

    def __init__(self, path: Path, record: Record) -> None:
        self.path, self._record = path, record

    @property
    def size(self) -> int:
        """Bytes in the file; 0 when there is none."""
        return _size(self.path)

    def open_for_writing(self) -> int:
        """A descriptor for a new process; its output begins here."""
        make_private_folder(self.path.parent)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._record.log_start = self._record.log_base + os.fstat(descriptor).st_size
        return descriptor

    def last_lines(self, count: int) -> list[str]:
        """The last lines of the present or last start, cleaned and capped."""
        size = self.size
        begin = max(self._record.log_start - self._record.log_base, size - TAIL, 0)
        try:
            with self.path.open("rb") as file:
                file.seek(begin)
                lines = file.read(TAIL).decode("utf-8", "replace").split("\n")
        except OSError:
            return []
        return [clean(line, LINE) for line in lines if line.strip()][-count:]

    def read(self, offset: int, limit: int) -> dict[str, Any]:
        """At most `limit` bytes from `offset`, a negative one counting from the end.

        Returns
        -------
        dict
            `text`; the `offset` at which it begins and the `next` one; `size`, the offset of the log's end;
            `rotated`: what was asked for is no longer in the present file. If the newest rotated log still has it, it
            is read from there; if not, reading goes on at the present file's begin.
        """
        base, size = self._record.log_base, self.size
        asked = max(base + size + offset, base) if offset < 0 else offset
        rotated = not base <= asked <= base + size
        path, begin, at = self.path, base, asked
        if rotated:
            path, begin = old(self.path, 1), base - _size(old(self.path, 1))
            if not begin <= asked < base:
                path, begin, at = self.path, base, base
        data = b""
        with contextlib.suppress(OSError), path.open("rb") as file:
            file.seek(at - begin)
            data = file.read(min(limit, base - at) if path != self.path else limit)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = decoder.decode(data, final=len(data) < 4)
        pending = len(decoder.getstate()[0])  # a character cut in two is for the next call
        return {"offset": at, "next": at + len(data) - pending, "size": base + size, "text": text, "rotated": rotated}

    async def rotate_over(
        self, limit: int, keep: int, held: Callable[[], AbstractAsyncContextManager[bool]], save: Callable[[], None]
    ) -> None:
        """Rotate a log over `limit` bytes; `held` holds the writer still, `save` saves the record.

        A writer that has gone far over it, within the second between two looks, is not only held for the end of the copy:
        it would write faster than it is copied. Raises `OSError`, such as for a full disk.
        """
        rotation, record = Rotation(self.path, keep), self._record

        def cutting(size: int) -> None:
            record.cutting = size
            save()

        if self.size < 2 * limit:
            await asyncio.to_thread(rotation.copy)
        else:
            rotation.need_room()  # before it is held: else it would be, at each look
        record.held = True
        save()
        try:
            async with held() as still:
                if still:
                    await asyncio.to_thread(rotation.copy)
                    record.log_base += rotation.cut(cutting)
                    record.cutting = 0
                else:
                    rotation.discard()
        finally:
            record.held = False
            save()

    def recover(self) -> bool:
        """Set the record right when the daemon died in the middle of `rotate`; True when the writer was held."""
        record = self._record
        if record.cutting and self.size < record.cutting:  # the cut itself had been done
            record.log_base += record.cutting
        held, record.cutting, record.held = record.held, 0, False
        return held


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
