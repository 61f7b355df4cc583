"""The help for where you are, made from the bindings, and the history of messages."""
from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.keys import key_to_character
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from fedtui.tui.glyphs import MUTED, colour, glyph
from fedtui.tui.store import Note

Keys = dict[tuple[str, str], dict[str, None]]  # by action and description
WIDE = 100
_NAMES = {"escape": "esc", "slash": "/", "plus": "+", "minus": "-", "hash": "#"}


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
    Sheet Static { height: auto; width: 1fr; margin: 1 0 0 0; }
    Sheet Horizontal, Sheet Vertical { height: auto; }
    """
    at_end: ClassVar[bool] = False

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def compose(self) -> ComposeResult:
        """The texts side by side in a frame, or one below the other where it is narrow."""
        with VerticalScroll() as frame:
            frame.border_title, frame.border_subtitle = self._title, "esc closes"
            with (Horizontal if self.app.size.width >= WIDE else Vertical)():
                for text in self.texts():
                    yield Static(text)

    def on_mount(self) -> None:
        """Begin where there is news."""
        frame = self.query_one(VerticalScroll)
        frame.focus()
        if self.at_end:
            frame.scroll_end(animate=False)

    def texts(self) -> list[Content]:
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

    def texts(self) -> list[Content]:
        """The keys of the place, then those that work everywhere; in each those of the bottom line first."""
        here: Keys = {}
        everywhere: Keys = {}
        for key, (node, binding, enabled, _) in sorted(self._active.items(), key=lambda item: not item[1].binding.show):
            if enabled and binding.description and not key.startswith(("super+", "ctrl+insert", "shift+insert")):
                group = everywhere if isinstance(node, (App, Screen)) else here
                spelt = self.app.get_key_display(binding) if len(key) == 1 else _spelt(key)
                group.setdefault((binding.action, binding.description), {})[spelt] = None
        about = "Actions are about the selected process, or about those marked with space. Nothing stops when you leave."
        return [
            *(_keys(title, group) for title, group in (("Here", here), ("Everywhere", everywhere)) if group),
            *([] if self.app.size.width >= WIDE else [Content.styled(about, MUTED)]),
        ]


def _spelt(key: str) -> str:
    """A key by its sign when it has one that can be seen."""
    sign = _NAMES.get(key) or key_to_character(key) or ""
    return sign if sign.strip() and sign.isprintable() else key


def _keys(title: str, group: Keys) -> Content:
    parts: list[str | tuple[str, str]] = [(f"{title}\n", "bold $accent")]
    for (_, description), keys in group.items():
        parts += [(f"  {' '.join(keys):<16} ", "bold"), f"{description}\n"]
    return Content.assemble(*parts)


class MessagesScreen(Sheet):
    """All messages since the interface was opened, the newest last."""

    at_end = True

    def __init__(self, notes: Sequence[Note]) -> None:
        super().__init__("Messages")
        self._notes = notes

    def texts(self) -> list[Content]:
        """A line or two a message."""
        if not self._notes:
            return [Content.styled("No messages yet: what is started, stopped or goes wrong is said here.", MUTED)]
        parts: list[str | tuple[str, str]] = []
        for note in self._notes:
            clock = datetime.datetime.fromtimestamp(note.time).strftime("%H:%M:%S")
            parts += [(f"{clock} ", MUTED), (f"{glyph(note.severity)} ", colour(note.severity)), f"{note.text}\n"]
            if note.remedy:
                parts += [(f"           {glyph('right')} {note.remedy}\n", MUTED)]
        return [Content.assemble(*parts)]
