"""The help for where you are, made from the bindings, and the history of messages."""
from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from fedtui.tui.glyphs import colour, glyph
from fedtui.tui.store import Note

_NAMES = {"question_mark": "?", "colon": ":", "escape": "esc", "slash": "/", "plus": "+", "minus": "-"}


class Sheet(ModalScreen[None]):
    """Something to read over the screen; escape closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,m", "dismiss", "close", key_display="esc"),
        Binding("j,down", "scroll(1)", "down", show=False),
        Binding("k,up", "scroll(-1)", "up", show=False),
        Binding("g,home", "ends(True)", "begin", show=False),
        Binding("G,end", "ends(False)", "end", show=False),
    ]
    DEFAULT_CSS = """
    Sheet { align: center middle; background: $background 60%; }
    Sheet VerticalScroll { width: 90%; max-width: 110; height: auto; max-height: 90%; border: round $accent; background: $surface; padding: 0 2; border-title-color: $accent; border-title-style: bold; border-subtitle-color: $text-muted; }
    .-ascii Sheet VerticalScroll { border: ascii $accent; }
    Sheet Static { height: auto; }
    """
    at_end: ClassVar[bool] = False

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def compose(self) -> ComposeResult:
        """The text in a frame."""
        with VerticalScroll() as frame:
            frame.border_title, frame.border_subtitle = self._title, "esc closes"
            yield Static(self.text())

    def on_mount(self) -> None:
        """Begin where there is news."""
        frame = self.query_one(VerticalScroll)
        frame.focus()
        if self.at_end:
            frame.scroll_end(animate=False)

    def text(self) -> Content:
        """What there is to read."""
        raise NotImplementedError

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def action_ends(self, begin: bool) -> None:
        """To the begin or the end."""
        frame = self.query_one(VerticalScroll)
        frame.scroll_home(animate=False) if begin else frame.scroll_end(animate=False)


class HelpScreen(Sheet):
    """All keys that work now: `bindings` are those of the screen below."""

    def __init__(self, bindings: Mapping[str, ActiveBinding], place: str) -> None:
        super().__init__(f"Help: {place}" if place else "Help")
        self._active = bindings

    def text(self) -> Content:
        """The keys of the place first, then those that work everywhere."""
        groups: dict[str, dict[tuple[str, str], list[str]]] = {"Here": {}, "Everywhere": {}}
        for key, (node, binding, enabled, _) in self._active.items():
            if enabled and binding.description and not key.startswith(("super+", "ctrl+insert", "shift+insert")):
                group = groups["Everywhere" if isinstance(node, (App, type(self.app.screen_stack[0]))) else "Here"]
                group.setdefault((binding.action, binding.description), []).append(_NAMES.get(key, self.app.get_key_display(binding) if len(key) == 1 else key))
        parts: list[Content | str | tuple[str, str]] = []
        for title, group in groups.items():
            if group:
                parts.append((f"\n{title}\n", "bold $accent"))
                for (_, description), keys in group.items():
                    parts += [(f"  {' '.join(dict.fromkeys(keys)):<22}", "bold"), f"{description}\n"]
        parts.append(("\nActions are about the selected process, or those marked with space. Nothing stops when you leave.\n", "$text-muted"))
        return Content.assemble(*parts)


class MessagesScreen(Sheet):
    """All messages since the interface was opened, the newest last."""

    at_end = True

    def __init__(self, notes: Sequence[Note]) -> None:
        super().__init__("Messages")
        self._notes = notes

    def text(self) -> Content:
        """A line or two a message."""
        if not self._notes:
            return Content.styled("\nNo messages yet: what is started, stopped or goes wrong is said here.\n", "$text-muted")
        parts: list[Content | str | tuple[str, str]] = ["\n"]
        for note in self._notes:
            clock = datetime.datetime.fromtimestamp(note.time).strftime("%H:%M:%S")
            parts += [(f"{clock} ", "$text-muted"), (f"{glyph(note.severity)} ", colour(note.severity)), f"{note.text}\n"]
            if note.remedy:
                parts += [(f"           {glyph('right')} {note.remedy}\n", "$text-muted")]
        return Content.assemble(*parts)
