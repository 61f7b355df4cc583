"""A table that grows by whole rows while others read it."""
from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from poweranger.files import replace_file

Row = Mapping[str, object]


class Table:
    """A CSV file (RFC 4180) with one column a metric; a row stands in it whole or not at all."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self._columns = list(columns)
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                self._columns = next(csv.reader(file), self._columns)

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows; a metric that is new widens the header by rewriting the file atomically."""
        new = list(dict.fromkeys(name for row in rows for name in row if name not in self._columns))
        if new or not self.path.exists():
            old = self.read() if self.path.exists() else []
            self._columns += new
            self._rewrite(old)
        data = self._lines(rows)
        if not data:
            return
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            try:
                written = os.write(descriptor, data)
            except OSError:
                written = 0
            if written != len(data):  # a full disk: no half row stays behind
                os.ftruncate(descriptor, size)
                raise OSError(f"{self.path}: the disk is full, the rows of this round could not be written")
        finally:
            os.close(descriptor)

    def read(self) -> list[dict[str, str]]:
        """All whole rows as text; empty when the file is absent."""
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1].decode("utf-8")  # a power cut may have left a part of a row
        return [row for row in csv.DictReader(io.StringIO(whole, newline="")) if None not in row.values()]

    def cut_after(self, last_round: int) -> None:
        """Drop the rows of rounds after `last_round`."""
        if self.path.exists():
            self._rewrite([row for row in self.read() if row["round"].isdigit() and int(row["round"]) <= last_round])

    def _rewrite(self, rows: Iterable[Row]) -> None:
        header = self._lines([dict(zip(self._columns, self._columns, strict=True))])
        data = header + self._lines(rows)
        replace_file(self.path, lambda file: file.write(data))

    def _lines(self, rows: Iterable[Row]) -> bytes:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="")
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        return text.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> object:
    """An unknown number is an empty cell."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return value


def as_number(value: object) -> float | None:
    """A cell's finite number, also one that was read as text; else None."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
