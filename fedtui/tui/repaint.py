"""Sends only the cells that have changed.

Textual repaints a line's widget from its left edge up to the changed cell, once for each changed cell: in a table where age
and memory change, most of the bytes of an idle interface. This replaces that one private function of Textual.
"""
from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual import _compositor


def send_only_changes() -> None:
    """From now on, in this process."""
    _compositor.ChopsUpdate.render_segments = _changed_cells  # type: ignore[method-assign]


def _changed_cells(self: _compositor.ChopsUpdate, console: Console) -> str:
    """What to write for the changed stretches of lines, `spans` of (line, from, to): each is cut out of the strips there."""
    parts = []
    for y, x1, x2 in self.spans:
        for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
            begin, stop = max(x, x1), min(end, x2)
            if strip is not None and begin < stop:
                parts += [Control.move_to(begin, y).segment.text, strip.crop(begin - x, stop - x).render(console)]
    return "".join(parts)
