"""The signs that stand beside words, and what becomes of them, and of all else, on a terminal that knows only ASCII.

Every sign here is one cell wide. Widgets always write Unicode; with `--ascii` the filter `Ascii` turns all that the
interface draws into ASCII on its way to the terminal, borders, charts and foreign names included.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_GLYPHS = {
    # of processes
    "stopped": "○", "starting": "◔", "ready": "◉", "running": "●", "stopping": "◌", "exited": "✓", "failed": "✗", "backoff": "↻", "held": "‖", "connected": "◉",
    # of runs
    "finished": "✓", "interrupted": "◌",
    # of a client's part in a round
    "ok": "✓", "fit": "▲", "eval": "◆", "waiting": "·", "late": "◷", "excluded": "⊘", "straggler": "!",
    # of everything else
    "best": "★", "cursor": "▸", "up": "↑", "down": "↓", "left": "←", "right": "→", "selected": "■", "unselected": "□", "line": "━",
    "between": "·", "more": "…", "warning": "▲", "error": "✗", "information": "●", "edited": "✎", "up to date": "✓",
}  # fmt: skip
_BARS = "▁▂▃▄▅▆▇█"
_COLOURS = {
    "running": "$success", "ready": "$success", "connected": "$success", "finished": "$success", "ok": "$success", "starting": "$warning", "stopping": "$warning",
    "backoff": "$warning", "held": "$warning", "late": "$warning", "interrupted": "$warning", "warning": "$warning", "failed": "$error",
    "error": "$error", "excluded": "$error", "information": "$accent", "best": "$accent",
}  # fmt: skip
MUTED = "$foreground 55%"  # the style of what is of less concern; `$text-muted` does not work within `Content`

_ASCII = {
    "○": "o", "◔": "~", "◉": "O", "●": "*", "◌": "~", "✓": "+", "✗": "x", "↻": "@", "‖": "=", "▲": "^", "▼": "v", "◆": "#", "·": ".",
    "◷": "!", "⊘": "%", "★": "*", "▸": ">", "↑": "^", "↓": "v", "←": "<", "→": ">", "■": "#", "□": ".", "━": "=", "…": ".", "✎": "*",
    "▁": "_", "▂": "_", "▃": ".", "▄": "-", "▅": "=", "▆": "+", "▇": "*", "█": "#", "░": ".", "▒": ":", "▓": "#", "▏": "|", "▎": "|",
    "▍": "|", "▌": "|", "▋": "|", "▊": "#", "▉": "#", "▐": "|", "▕": "|", "▔": "-", "▀": "-", "─": "-", "═": "=", "│": "|", "┃": "|",
    "║": "|", "╌": "-", "╎": "|", "┄": "-", "┆": "|", "‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "×": "x", "µ": "u",
    "±": "~", "≥": ">", "≤": "<", "−": "-", "⏎": "<", "⭘": "o", "•": "*",
}  # fmt: skip


def glyph(name: str) -> str:
    """The sign for a state, an outcome or a thing; a middle dot for what has none."""
    return _GLYPHS.get(name, "·")


def colour(name: str) -> str:
    """The theme variable of a state, an outcome or a severity, such as `$error`; `MUTED` for what is of no concern."""
    return _COLOURS.get(name, MUTED)


def sparkline(values: Sequence[float], width: int, low: float | None = None, high: float | None = None) -> str:
    """The last `width` values as bars from `low` to `high` (of the values themselves), right-aligned."""
    values = values[-width:] if width else []
    if not values:
        return " " * width
    low = min(values) if low is None else low
    span = (max(values) if high is None else high) - low
    places = (min(max((value - low) / span, 0.0), 1.0) if span > 0 else 0.0 for value in values)
    return "".join(_BARS[round(place * 7)] for place in places).rjust(width)


def bar(fraction: float, width: int) -> str:
    """A horizontal bar, `width` cells wide, filled to `fraction`."""
    full = round(min(max(fraction, 0.0), 1.0) * width)
    return "█" * full + "░" * (width - full)


@lru_cache(4096)
def to_ascii(text: str) -> str:
    """`text` in ASCII, as many cells wide: signs and lines by their nearest likeness, any other character as `?`."""
    return text if text.isascii() else "".join(char if char.isascii() else _likeness(char) for char in text)


class Ascii(LineFilter):
    """Lets nothing but ASCII through to the terminal."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Turn the text of all segments into ASCII."""
        return [Segment(to_ascii(text), style, control) for text, style, control in segments]


def _likeness(char: str) -> str:
    if char in _ASCII:
        return _ASCII[char]
    if "\u2500" <= char <= "\u257f":  # corners and crossings of lines
        return "+"
    if "\u2800" <= char <= "\u28ff":  # Braille, of charts: by how full the cell is
        return " .:-=+*##"[(ord(char) - 0x2800).bit_count()]
    return "?" * cell_len(char)
