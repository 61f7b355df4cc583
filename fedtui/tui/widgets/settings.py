"""The keys of the run configuration as a list, and all that is to be said of the one under the cursor."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from fedtui.tui.draft import Draft
from fedtui.tui.glyphs import MUTED, glyph
from fedtui.tui.widgets.listing import Cell, Column, Listing, Row
from poweranger.run_config import Key, Value

VALUE = 2  # the column that is edited
READERS = {"server": "server", "clients": "clients", "site": "each site"}
READER_WORDS = {
    "server": "the server, when it starts",
    "clients": "the clients, to whom the server sends it",
    "site": "each client, when it starts",
}
COLUMNS = (
    Column("", 1, 1), Column("KEY", 24), Column("VALUE", 18, 8), Column("DEFAULT", 12), Column("IN THE RUN", 14, beyond=104),
    Column("TYPE", 7), Column("ALLOWED", 22, beyond=60), Column("READ BY", 9, beyond=90), Column("WHAT IT DOES", least=30),
)  # fmt: skip


def spell(value: Value | None) -> str:
    """A value as it is typed; an empty text as two quotes."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else f"{value:.15g}" if isinstance(value, float) else str(value) or '""'


def allowed(key: Key) -> str:
    """The allowed values in few words."""
    if key.choices:
        return ", ".join(map(spell, key.choices))
    if isinstance(key.default, bool):
        return "true, false"
    if isinstance(key.default, str):
        return "any"
    if key.high is None:
        return "any" if key.low is None else f"at least {_number(key.low)}"
    return f"{_number(key.low)} to {_number(key.high)}"


class Settings(Listing):
    """A row a key. What is edited, wrong, or counts from the next run only has a mark and a tone."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "open", "edit")]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(COLUMNS, "no key has this in its name or description\nesc shows all of them", id=id)

    def show(self, draft: Draft, running: Mapping[str, Value], later: Iterable[str], needle: str) -> None:
        """Show the keys that `needle` is found in.

        Parameters
        ----------
        running : the configuration of the run that is looked at; empty when there is none.
        later : the keys whose saved value something that runs does not go by yet.
        """
        later = set(later)
        rows = []
        for name, entry in draft.file.entries.items():
            key = entry.key
            if needle.lower() not in f"{name} {key.help}".lower():
                continue
            value = draft.value(name)
            wrong, edited = entry.wrong and name not in draft.changes, name in draft.changes
            mark = ("failed", "error") if wrong else ("edited", "accent") if edited else ("backoff", "warning") if name in later else None
            tone = "error" if wrong else "accent" if edited else "strong" if value != key.default else ""
            in_run = running.get(name)
            cells: tuple[Cell, ...] = (
                (glyph(mark[0]), mark[1]) if mark else "", (name, "strong" if edited else ""), ("not allowed" if wrong else spell(value), tone),
                (spell(key.default), "muted"), (spell(in_run), "warning" if in_run is not None and in_run != value else "muted"),
                (key.kind, "muted"), (allowed(key), "muted"), (READERS[key.reader], "muted"), key.help,
            )  # fmt: skip
            rows.append(Row(name, cells))
        self.put(rows)


class SettingDetail(Widget):
    """What the key under the cursor is for, and how its value stands."""

    DEFAULT_CSS = "SettingDetail { height: 5; }"
    _content = Content("")

    def show(self, key: Key | None, message: str, tone: str) -> None:
        """Show a key with a message in a colour such as `$error`; nothing without a key."""
        content = Content("") if key is None else _describe(key, message, tone)
        if content != self._content:
            self._content = content
            self.refresh()

    def render(self) -> Content:
        """The lines."""
        return self._content


def _describe(key: Key, message: str, tone: str) -> Content:
    variable = f" · environment variable {key.environment} wins over the file" if key.environment else ""
    return Content.assemble(
        (key.name, "bold"), (f"  {key.allowed} · default {spell(key.default)}", MUTED), "\n", (f"{message}\n" if message else "", tone),
        key.help, "\n", (f"read by {READER_WORDS[key.reader]}{variable}", MUTED),
    )  # fmt: skip


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}".replace(",", " ") if value >= 100_000 else f"{value:g}"
