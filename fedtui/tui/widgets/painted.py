"""A widget that paints itself in one go; only what differs from the last painting goes to the terminal."""
from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


class Painted(Widget):
    """Subclasses implement `paint`, and call `redraw` when what it shows has changed."""

    DEFAULT_CSS = "Painted { height: 1fr; width: 1fr; }"

    _rows: tuple[Strip, ...] | list[Strip] = ()

    def paint(self) -> list[Strip]:
        """All rows, for the present size; empty when nothing can be painted yet."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Paint as things are now."""
        if not self.is_mounted or not self.size.area:
            return
        old, self._rows = self._rows, self.paint()
        if len(old) != len(self._rows):
            self.refresh()
        elif changed := [_difference(y, old[y], row) for y, row in enumerate(self._rows) if row != old[y]]:
            self.refresh(*changed)

    def on_mount(self) -> None:
        """Paint what was there before there was a size."""
        self.redraw()

    def on_resize(self) -> None:
        """Paint for the new size."""
        self.redraw()

    def notify_style_update(self) -> None:
        """Paint in the colours of a new theme, or with another focus."""
        super().notify_style_update()
        if self.is_mounted:
            self.call_next(self.redraw)

    def render_line(self, y: int) -> Strip:
        """One row of the painting."""
        base = self.rich_style
        if y < len(self._rows):
            return self._rows[y].apply_style(base).adjust_cell_length(self.size.width, base)
        return Strip.blank(self.size.width, base)


def _difference(y: int, old: Strip, new: Strip) -> Region:
    """The stretch of row `y` outside of which both begin and end with the same segments."""
    left, right = _alike(zip(old, new, strict=False)), _alike(zip(reversed([*old]), reversed([*new]), strict=False))
    width = max(old.cell_length, new.cell_length)
    right = right if old.cell_length == new.cell_length else 0
    return Region(left, y, max(width - left - right, 1), 1)


def _alike(pairs: Iterable[tuple[Segment, Segment]]) -> int:
    """The cells of the equal segments that the pairs begin with."""
    return sum(old.cell_length for old, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
