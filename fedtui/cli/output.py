"""What commands print: data on stdout, talk on stderr, colour only on a terminal that wants it, outside text cleaned."""
from __future__ import annotations

import datetime
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from fedtui.cleaning import clean

COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "bold": "1", "dim": "2"}
STATES = {
    "ready": "green", "running": "green", "connected": "green", "finished": "green", "ok": "green",
    "starting": "yellow", "stopping": "yellow", "backoff": "yellow", "held": "yellow", "warn": "yellow", "interrupted": "yellow",
    "failed": "red", "fail": "red", "stopped": "dim", "exited": "dim",
}  # fmt: skip


def coloured(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that wants colour (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, colour: str | None, stream: TextIO | None = None) -> str:
    """`text` in a colour of `COLOURS`, where `stream` (stdout) wants colour."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if colour and coloured(stream or sys.stdout) else text


def say(text: object, colour: str | None = None) -> None:
    """Talk to the user: a line on stderr."""
    print(paint(clean(str(text)), colour, sys.stderr), file=sys.stderr, flush=True)


def write(text: str, colour: str | None = None) -> None:
    """A line of data on stdout."""
    print(paint(clean(text), colour), flush=True)


def write_json(value: object) -> None:
    """`value` as JSON on stdout: ASCII, so that no character of it can act on a terminal; a number that is none is null."""
    print(json.dumps(_plain(value), indent=2), flush=True)


def write_table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str], empty: str = "") -> None:
    """Rows as aligned columns; `columns` maps a row's key to its heading. Nothing but talk (`empty`) when there is no row.

    On a terminal the last column is cut at its edge; a column named `state` or `outcome` is coloured by its word.
    """
    if not rows:
        say(empty)
        return
    cells = [[clean(_spell(row.get(key))) for key in columns] for row in rows]
    headings = list(columns.values())
    widths = [max(width(line[i]) for line in [headings, *cells]) for i in range(len(headings))]
    right = [all(isinstance(row.get(key), (int, float, type(None))) for row in rows) for key in columns]
    room = _columns() - sum(widths[:-1]) - 2 * (len(widths) - 1)
    if 0 < room < widths[-1]:
        widths[-1] = room
    colour_of = {"state", "outcome"}
    for number, line in enumerate([headings, *cells]):
        parts = []
        for key, text, size, to_right in zip(columns, line, widths, right, strict=True):
            text = cut(text, size)
            space = " " * (size - width(text))
            colour = "bold" if number == 0 else STATES.get(text) if key in colour_of else None
            parts.append(space + paint(text, colour) if to_right else paint(text, colour) + space)
        print("  ".join(parts).rstrip())
    sys.stdout.flush()


def width(text: str) -> int:
    """Terminal cells that `text` takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, size: int) -> str:
    """`text` in at most `size` cells; what was cut off is marked."""
    if width(text) <= size:
        return text
    from rich.cells import set_cell_size

    return set_cell_size(text, size - 1).rstrip() + "…"


def seconds(value: float | None) -> str:
    """A duration in the two units that matter: `1.4 s`, `3 min 20 s`, `2 h 5 min`."""
    if value is None or not math.isfinite(value):
        return ""
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _columns() -> int:
    """Width of the terminal that stdout is; where it is none nothing is cut."""
    return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else sys.maxsize


def _spell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    return str(value)


def _plain(value: object) -> Any:
    """`value` in what JSON knows: a number that is none is null, a moment is ISO 8601, anything else is text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
