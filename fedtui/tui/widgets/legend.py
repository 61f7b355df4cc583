"""One or more lines above the charts: which colour is what on the left, how it is shown on the right."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.widget import Widget

from fedtui.tui.glyphs import glyph
from fedtui.tui.widgets.palette import line_style, signs, swatch


class Entry(NamedTuple):
    """A line's name, and what sets it apart; `colour` is its number in the palette."""

    name: str
    colour: int
    about: str = ""


class Legend(Widget):
    """As high as its entries need, `MOST` lines at most."""

    MOST = 4
    DEFAULT_CSS = "Legend { height: 1; width: 1fr; color: $foreground 80%; &:ansi { color: ansi_default; } }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: tuple[tuple[Entry, ...], str] = ((), "")

    def show(self, entries: Sequence[Entry], note: str = "") -> None:
        """Show these entries, with `note` at the right end of the first line."""
        shown = (tuple(entries), note)
        if shown != self._shown:
            self._shown = shown
            self.styles.height = self._height()
            self.refresh()

    def on_resize(self) -> None:
        """Other entries fit beside one another now."""
        self.styles.height = self._height()
        self.refresh()

    def render(self) -> Text:
        """The lines."""
        lines = self._lines()
        text = Text(no_wrap=True, end="")
        for number, line in enumerate(lines[: self.MOST]):
            text.append("\n" if number else "")
            if number == self.MOST - 1 and len(lines) > self.MOST:
                text.append(f"  and {sum(map(len, lines[number:]))} more")
            else:
                for entry in line:
                    self._append(text, entry)
            if number == 0 and (note := self._note()):
                text.append(" " * max(self.size.width - cell_len(text.plain) - cell_len(note) - 1, 1) + note)
        return text

    def _append(self, text: Text, entry: Entry) -> None:
        text.append(f" {swatch(signs(self.app), entry.colour)} ", line_style(self.app, entry.colour))
        text.append(entry.name)
        if entry.about:
            text.append(f"  {entry.about}", "dim")
        text.append(" ")

    def _height(self) -> int:
        return max(1, min(len(self._lines()), self.MOST))

    def _note(self) -> str:
        """The note, as long as the entries leave room for, but half a line at least."""
        (entries, note), width = self._shown, max(self.size.width, 20)
        room = max(width // 2, width - sum(5 + cell_len(entry.name) + cell_len(entry.about) for entry in entries) - 3)
        return note if cell_len(note) <= room else set_cell_size(note, room - 1) + glyph("more")

    def _lines(self) -> list[list[Entry]]:
        """The entries by line; those with something to say of them have a line each."""
        entries, _ = self._shown
        width = max(self.size.width, 20)
        lines: list[list[Entry]] = [[]]
        room = width - cell_len(self._note()) - 2
        for entry in entries:
            size = 5 + cell_len(entry.name) + (2 + cell_len(entry.about) if entry.about else 0)
            if size > room:
                about = set_cell_size(entry.about, max(room - 7 - cell_len(entry.name), 0)).rstrip()
                if not lines[-1]:
                    entry, size = entry._replace(about=about), room
                else:
                    lines.append([])
                    room = width
            lines[-1].append(entry)
            room -= size
        return lines
