"""Which logs are shown: the processes in a row."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from fedtui.tui.glyphs import glyph


class LogPicker(Widget, can_focus=True):
    """The names of logs, each with the state of its process; those that are shown stand out."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"log-picker--chosen", "log-picker--cursor", "log-picker--failed"}
    DEFAULT_CSS = """
    LogPicker {
        height: 1; background: $surface; color: $text-muted;
        & > .log-picker--chosen { color: $text; text-style: bold; background: $primary 50%; }
        & > .log-picker--cursor { text-style: reverse; }
        & > .log-picker--failed { color: $text-error; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(-1)", "left", show=False),
        Binding("right", "move(1)", "right", show=False),
        Binding("space", "merge", "merge"),
        Binding("enter", "only", "only this"),
    ]

    class Chosen(Message):
        """Other logs shall be shown."""

        def __init__(self, names: tuple[str, ...]) -> None:
            super().__init__()
            self.names = names

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.names: tuple[str, ...] = ()
        self.chosen: tuple[str, ...] = ()
        self._states: tuple[str, ...] = ()
        self._cursor = 0

    def show(self, states: Sequence[tuple[str, str]], chosen: Iterable[str]) -> None:
        """Show names with their states; those `chosen` are shown in the log."""
        shown = (tuple(name for name, _ in states), tuple(state for _, state in states), tuple(chosen))
        if shown == (self.names, self._states, self.chosen):
            return
        at = self.names[self._cursor] if self.names else ""
        if not self.has_focus and self.chosen != shown[2] and shown[2]:  # else it stays with the log that its user put it on
            at = shown[2][-1]
        self.names, self._states, self.chosen = shown
        self._cursor = self.names.index(at) if at in self.names else max(min(self._cursor, len(self.names) - 1), 0)
        self.refresh()

    def step(self, step: int) -> None:
        """Choose the next log, or the one before."""
        if self.names:
            at = self.names.index(self.chosen[-1]) if self.chosen and self.chosen[-1] in self.names else -step
            self._cursor = (at + step) % len(self.names)
            self.action_only()

    def action_move(self, step: int) -> None:
        """Move the cursor."""
        self._cursor = max(min(self._cursor + step, len(self.names) - 1), 0)
        self.refresh()

    def action_merge(self) -> None:
        """Show the log under the cursor, too, or no more."""
        if self.names:
            name = self.names[self._cursor]
            wanted = set(self.chosen) ^ {name}
            self._choose(tuple(other for other in self.names if other in wanted) or (name,))

    def action_only(self) -> None:
        """Show the log under the cursor."""
        if self.names:
            self._choose((self.names[self._cursor],))

    def on_click(self, event: events.Click) -> None:
        """A click shows one; with ctrl it is merged with the others."""
        x = -self._scrolled()
        for place, width in enumerate(self._widths()):
            if x <= event.x < x + width:
                self._cursor = place
                self.action_merge() if event.ctrl else self.action_only()
            x += width

    def on_focus(self) -> None:
        """Show the cursor."""
        self.refresh()

    def on_blur(self) -> None:
        """Show none."""
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """The row, scrolled so that the cursor is in sight."""
        segments = []
        for place, (name, state) in enumerate(zip(self.names, self._states, strict=True)):
            style = self.rich_style
            if state in ("failed", "backoff"):
                style += self._look("failed")
            if name in self.chosen:
                style += self._look("chosen")
            if place == self._cursor and self.has_focus:
                style += self._look("cursor")
            segments.append(Segment(self._label(name, state), style))
        begin = self._scrolled()
        return Strip(segments).crop_extend(begin, begin + self.size.width, self.rich_style)

    def _look(self, look: str) -> Style:
        return self.get_component_rich_style(f"log-picker--{look}", partial=True)

    def _label(self, name: str, state: str) -> str:
        return f" {glyph('selected') if name in self.chosen else glyph('unselected')} {name} {glyph(state) if state else ''} "

    def _widths(self) -> list[int]:
        return [cell_len(self._label(name, state)) for name, state in zip(self.names, self._states, strict=True)]

    def _scrolled(self) -> int:
        widths = self._widths()
        return max(sum(widths[: self._cursor + 1]) - self.size.width, 0)

    def _choose(self, names: tuple[str, ...]) -> None:
        self.post_message(self.Chosen(names))
