"""A framed sheet of cells to write styled texts on, before they become the strips of a widget."""
from __future__ import annotations

from itertools import groupby

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

_LIGHT, _HEAVY = "╭─╮│╰╯", "┏━┓┃┗┛"


class Sheet:
    """Cells to write on, framed."""

    def __init__(self, width: int, height: int, frame: Style, *, heavy: bool = False) -> None:
        self.width, self.height = width, height
        self._chars = [[" "] * width for _ in range(height)]
        self._styles = [[Style.null()] * width for _ in range(height)]
        corners = _HEAVY if heavy else _LIGHT
        for y in range(height):
            left, right = (0, 2) if y == 0 else (4, 5) if y == height - 1 else (3, 3)
            self.text(0, y, corners[left] + (corners[1] * (width - 2) if y in (0, height - 1) else ""), frame)
            self.text(width - 1, y, corners[right], frame)

    def put(self, x: int, y: int, char: str, style: Style, over: str = "") -> None:
        """One cell; with `over`, only if that stands there."""
        if 0 <= x < self.width and 0 <= y < self.height and (not over or self._chars[y][x] == over):
            self._chars[y][x], self._styles[y][x] = char, style

    def text(self, x: int, y: int, text: str, style: Style) -> int:
        """A text of any characters; where it ends."""
        for char in text:
            width = cell_len(char)
            if width and x + width <= self.width:
                self.put(x, y, char, style)
                for rest in range(x + 1, x + width):
                    self.put(rest, y, "", style)
            x += width
        return x

    def strips(self) -> list[Strip]:
        """The rows, neighbours of one style as one segment."""
        rows = []
        for chars, styles in zip(self._chars, self._styles, strict=True):
            segments, x = [], 0
            for style, group in groupby(styles):
                count = len(list(group))
                segments.append(Segment("".join(chars[x : x + count]), style))
                x += count
            rows.append(Strip(segments, self.width))
        return rows
