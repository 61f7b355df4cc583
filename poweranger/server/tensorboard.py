"""A run's figures as TensorBoard event files, written without TensorFlow.

    results/runs/<run>/tensorboard/all/        figures over all clients, `fit/loss`, `eval/accuracy`, ...
    results/runs/<run>/tensorboard/client_C1/  those of one client, under the same names

An event file is a row of records (length, its checksum, data, their checksum), each one an `Event` in protocol buffers
of which three fields are needed: tensorflow/core/lib/io/record_writer.h and tensorflow/core/util/event.proto.
"""
from __future__ import annotations

import os
import shutil
import struct
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

from poweranger.files import make_private_folder
from poweranger.results import EVAL, FIT, Run, snapshots
from poweranger.table import Row, as_number

SOURCES = {f"{phase}{whose}_metrics": phase for phase in (FIT, EVAL) for whose in ("", "_client")}  # table -> first part of a tag
NO_FIGURE = ("round", "client_id", "num_examples")
LARGEST = 3.4e38  # of the format's floats
LONGEST = 200  # characters of a folder's name; what a client is called is its own choice


class EventFiles:
    """The event files of one run. What they say follows from the run's tables: they are made anew at every start.

    A round of an earlier start gets the time at which its snapshot was written.
    """

    def __init__(self, run: Run) -> None:
        self._folder = run.path / "tensorboard"
        self._name = f"events.out.tfevents.{run.info['start'].timestamp():.0f}.poweranger"
        shutil.rmtree(self._folder, ignore_errors=True)
        rounds: dict[int, dict[str, list[Row]]] = {}
        for table in SOURCES:
            for row in run.tables[table].read():
                rounds.setdefault(int(row["round"]), {}).setdefault(table, []).append(row)
        written = {number: path.stat().st_mtime for number, path in snapshots(run.path).items()}
        for number, rows in sorted(rounds.items()):
            self.add(number, rows, written.get(number, time.time()))

    def add(self, number: int, rows: Mapping[str, Sequence[Row]], moment: float | None = None) -> None:
        """Append the figures in a round's table rows, at `moment` (seconds since 1970; None: now)."""
        figures: dict[str, dict[str, float]] = {}
        for table, phase in SOURCES.items():
            for row in rows.get(table, ()):
                # The prefix also keeps a client from being called `all` or `..`.
                whose = "client_" + urllib.parse.quote(str(row["client_id"]), safe=" ") if "client_id" in row else "all"
                known = {f"{phase}/{name}": as_number(value) for name, value in row.items() if name not in NO_FIGURE}
                found = {tag: value for tag, value in known.items() if value is not None and abs(value) < LARGEST}
                figures.setdefault(whose[:LONGEST], {}).update(found)
        moment = time.time() if moment is None else moment
        for whose, values in figures.items():
            path = make_private_folder(self._folder / whose) / self._name
            head = b"" if path.exists() else _record(_event(moment, version=b"brain.Event:2"))
            _append(path, head + _record(_event(moment, number, values)))


def _append(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _event(moment: float, step: int = 0, values: Mapping[str, float] | None = None, version: bytes = b"") -> bytes:
    """An `Event`: wall_time = 1 (double), step = 2, and either file_version = 3 or summary = 5."""
    event = b"\x09" + struct.pack("<d", moment) + b"\x10" + _varint(step)
    if version:
        return event + _field(3, version)
    # Summary: value = 1, of tag = 1 and simple_value = 2 (float)
    summary = b"".join(_field(1, _field(1, tag.encode("utf-8", "replace")) + b"\x15" + struct.pack("<f", value)) for tag, value in (values or {}).items())
    return event + _field(5, summary)


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes: strings and messages."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    """CRC-32C (Castagnoli), masked as the format wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF)


def _crc_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC = [_crc_entry(byte) for byte in range(256)]
