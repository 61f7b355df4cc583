"""Follows a CSV file that a run writes: reads only what was appended, and begins anew when the file is another one.

The file is somebody else's and may be anything: no content raises. A row that is still being written waits for the
next poll; a cell that is no number, or is missing, is NaN.
"""
from __future__ import annotations

import copy
import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydantic_core import from_json

from fedtui.cleaning import clean

TEXT_COLUMNS = frozenset({"client_id", "phase", "outcome", "reason", "true_class"})
_INTEGER_COLUMNS = frozenset({"round", "num_examples"})
_CHUNK = 2 << 20  # bytes parsed at once; a longer line is skipped
_RECORD = 1 << 16  # a quoted field that goes on for longer was never closed
_CELL, _NAME = 200, 100  # characters kept of a text and of a column's name
_COLUMNS = 1000  # columns kept
_DISTINCT = 10_000  # different texts kept of a column; any further one is "…"
_PLAIN_WIDTH = 64  # a chunk with a longer text goes through the csv module
_NUMERIC = np.isin(np.arange(256), np.frombuffer(b"0123456789+-.eE,", np.uint8))
_COMMA, _LF, _ONE = b",\n1"

Cells = dict[str, np.ndarray]


class Table:
    """A CSV file as columns; `poll` brings them up to date.

    Attributes
    ----------
    path : the file; it need not exist.
    columns : the header's names, cleaned; empty as long as there is no header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] = ()
        self._file: tuple[int, ...] = ()
        self._reset()

    def __len__(self) -> int:
        return self._rows

    def poll(self) -> bool:
        """Read what is new; True when anything changed."""
        try:
            status = self.path.stat()
            seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if seen == self._seen:
                return False
            with self.path.open("rb") as file:
                changed = not self._continues(file)
                if changed:
                    self._reset()
                self._file, self._seen = seen[:2], seen
                return self._read(file) or changed
        except OSError:
            gone = self.columns != ()
            self._reset()
            return gone

    def copy(self) -> Table:
        """The table as it is now, for another thread: further polls of this one leave it alone."""
        twin = copy.copy(self)
        twin._chunks = {name: [self._column(name)] for name in self.columns}
        twin._texts = {name: dict(texts) for name, texts in self._texts.items()}
        return twin

    def numbers(self, name: str) -> np.ndarray:
        """A column as float64 of shape (rows,); NaN where there is no number. `KeyError` when there is no such column."""
        if name in TEXT_COLUMNS:
            raise KeyError(name)
        return self._column(name)

    def texts(self, name: str) -> list[str]:
        """A column of `TEXT_COLUMNS` as clean texts, one a row. `KeyError` when there is no such column."""
        texts = list(self._texts[name])
        return [texts[code] for code in self._column(name).tolist()]

    def rows(self, last: int | None = None) -> list[dict[str, float | int | str | None]]:
        """The rows, or only the `last` ones, by column name; None where a number is missing."""
        first = 0 if last is None else max(self._rows - last, 0)
        columns: list[list[float | int | str | None]] = []
        for name in self.columns:
            cells = self._column(name)[first:].tolist()
            if name in TEXT_COLUMNS:
                texts = list(self._texts[name])
                columns.append([texts[code] for code in cells])
            else:
                whole = name in _INTEGER_COLUMNS
                columns.append([None if cell != cell else int(cell) if whole and cell.is_integer() else cell for cell in cells])
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*columns, strict=True)]

    def _reset(self) -> None:
        self.columns: tuple[str, ...] = ()
        self._rows = 0
        self._chunks: dict[str, list[np.ndarray]] = {}
        self._texts: dict[str, dict[str, int]] = {}
        self._file = self._seen = ()
        self._offset = 0
        self._before = b""  # what stood before the offset, to tell an appended file from a rewritten one
        self._skipping = False

    def _continues(self, file: BinaryIO) -> bool:
        """Whether the open file is the one that was read so far, with nothing but more at its end."""
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != self._file or status.st_size < self._offset:
            return False
        file.seek(self._offset - len(self._before))
        return file.read(len(self._before)) == self._before

    def _read(self, file: BinaryIO) -> bool:
        changed = False
        while True:
            file.seek(self._offset)
            data = file.read(_CHUNK)
            end = _whole_rows(data)
            if not end and len(data) < _CHUNK:
                return changed
            changed = True
            data = data[:end] if end else data
            self._offset += len(data)
            self._before = data[-64:]
            if self._skipping:
                data = data.partition(b"\n")[2]
            self._skipping = not end
            if end and data:
                self._take(data)

    def _take(self, data: bytes) -> None:
        """Take whole rows in; the first one ever is the header."""
        data = data.replace(b"\0", b"").replace(b"\r\n", b"\n")
        if not self.columns:
            data = data.removeprefix(b"\xef\xbb\xbf")
            end = next(_row_ends(data), len(data))
            self.columns = _names(data[:end])
            data = data[end:]
            self._texts = {name: {} for name in self.columns if name in TEXT_COLUMNS}
            self._chunks = {name: [] for name in self.columns}
        if data:
            cells = self._plain(data)
            for name, chunk in (self._quoted(data) if cells is None else cells).items():
                self._chunks[name].append(chunk)
            self._rows = sum(map(len, self._chunks[self.columns[0]]))

    def _plain(self, data: bytes) -> Cells | None:
        """Parse rows without quotes, all of the header's width, fast; None when they are not like that.

        A JSON parser reads the numbers: it is three times faster than NumPy's own.
        """
        if b'"' in data or b"\r" in data:
            return None
        width = len(self.columns)
        octets = np.frombuffer(data, np.uint8).copy()
        ends = np.flatnonzero((octets == _COMMA) | (octets == _LF))
        if len(ends) % width:
            return None
        starts = np.concatenate([[0], ends[:-1] + 1]).reshape(-1, width)
        ends = ends.reshape(starts.shape)
        if (octets[ends[:, :-1]] != _COMMA).any() or (octets[ends[:, -1]] != _LF).any():
            return None
        cells: Cells = {}
        for index, name in enumerate(self.columns):
            if name in TEXT_COLUMNS:
                lengths = ends[:, index] - starts[:, index]
                longest = int(lengths.max())
                if longest > _PLAIN_WIDTH:
                    return None
                places = starts[:, index, None] + np.arange(longest + 1)
                inside = np.arange(longest + 1) < lengths[:, None]
                places[~inside] = 0
                words = np.where(inside, octets[places], 0).astype(np.uint8).view(f"S{longest + 1}").ravel()
                distinct, codes = np.unique(words, return_inverse=True)
                cells[name] = self._codes(name, distinct.tolist())[codes]
                octets[places[inside]] = _ONE  # for the number parser
        octets[ends[:, -1]] = _COMMA
        if not _NUMERIC[octets].all():
            return None
        line = b"," + octets.tobytes()
        if (starts == ends).any():
            if width == 1:  # a blank row
                return None
            line = line.replace(b",,", b",NaN,").replace(b",,", b",NaN,")
        try:
            values = np.fromiter(from_json(b"[" + line[1:-1] + b"]"), np.float64, count=ends.size).reshape(-1, width)
        except (ValueError, OverflowError):
            return None
        for index, name in enumerate(self.columns):
            if name not in TEXT_COLUMNS:
                cells[name] = _finite(values[:, index])
        return cells

    def _quoted(self, data: bytes) -> Cells:
        """Parse any rows by the csv module: short ones are filled up, blank ones left out."""
        columns: list[list[str]] = [[] for _ in self.columns]
        begin = 0
        for end in _row_ends(data):
            row = _cells(data[begin:end])
            begin = end
            if row:
                for index, column in enumerate(columns):
                    column.append(row[index] if index < len(row) else "")
        return {
            name: self._codes(name, column) if name in TEXT_COLUMNS else _finite(np.array([_number(cell) for cell in column], np.float64))
            for name, column in zip(self.columns, columns, strict=True)
        }

    def _codes(self, name: str, words: Iterable[bytes | str]) -> np.ndarray:
        known = self._texts[name]
        codes = []
        for word in words:
            text = clean(word.decode("utf-8", "replace") if isinstance(word, bytes) else word, _CELL)
            if text not in known and len(known) >= _DISTINCT:
                text = "…"
            codes.append(known.setdefault(text, len(known)))
        return np.array(codes, np.int32)

    def _column(self, name: str) -> np.ndarray:
        chunks = self._chunks[name]
        if len(chunks) != 1:
            chunks[:] = [np.concatenate(chunks) if chunks else np.empty(0, np.int32 if name in TEXT_COLUMNS else np.float64)]
        return chunks[0]


def _whole_rows(data: bytes) -> int:
    """The length of the whole rows at the begin of `data`."""
    return max(_row_ends(data), default=0) if b'"' in data else data.rfind(b"\n") + 1


def _row_ends(data: bytes) -> Iterator[int]:
    """The offsets behind the rows: a newline within quotes ends none, unless the quotes seem never to be closed."""
    begin = end = 0
    quoted = False
    while newline := data.find(b"\n", begin) + 1:
        quoted ^= data.count(b'"', begin, newline) % 2 == 1
        begin = newline
        if not quoted or newline - end > _RECORD:
            end, quoted = newline, False
            yield end


def _cells(row: bytes) -> list[str]:
    """The cells of one row; none when the csv module refuses it, such as for a field beyond its limit."""
    try:
        return next(csv.reader([row.decode("utf-8", "replace")]), [])
    except csv.Error:
        return []


def _names(header: bytes) -> tuple[str, ...]:
    """The names in a header: clean, none empty, each once."""
    names: dict[str, None] = {}
    for number, cell in enumerate(_cells(header)[:_COLUMNS] or [""], 1):
        name = base = clean(cell, _NAME).strip() or f"column {number}"
        copy = 2
        while name in names:
            name, copy = f"{base} ({copy})", copy + 1
        names[name] = None
    return tuple(names)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)
