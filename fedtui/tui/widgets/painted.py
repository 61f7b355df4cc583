"""A widget that paints itself in one go; only rows that differ from the last painting go to the terminal."""
from __future__ import annotations

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
        elif changed := [y for y, row in enumerate(self._rows) if row != old[y]]:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

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
