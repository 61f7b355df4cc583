"""The top line: the places with their keys, where you are, and how the daemon is."""
from __future__ import annotations

from collections.abc import Mapping

from textual import events
from textual.content import Content
from textual.widget import Widget

from fedtui.cleaning import clean
from fedtui.tui.glyphs import MUTED, glyph
from fedtui.tui.store import Store


class TopBar(Widget):
    """`places` by name, each with its key and title."""

    DEFAULT_CSS = "TopBar { height: 1; dock: top; background: $panel; color: $foreground 70%; }"

    def __init__(self, places: Mapping[str, str]) -> None:
        super().__init__()
        self._places = places
        self._here, self._right = "", Content("")

    def show(self, store: Store, here: str) -> None:
        """Bring it up to date."""
        right = _right(store)
        if (here, right) != (self._here, self._right):
            self._here, self._right = here, right
            self.refresh()

    async def on_click(self, event: events.Click) -> None:
        """Go to the place that was clicked on."""
        x = 0
        for name in self._places:
            if x <= event.x < (x := x + len(self._places[name]) + 2):
                await self.app.run_action(f"app.go('{name}')")
                return

    def render(self) -> Content:
        """Places to the left, the project and its daemon to the right, as far as there is room."""
        left = Content.assemble(*map(self._place, self._places))
        room = self.size.width - left.cell_length
        right = self._right if self._right.cell_length <= room else self._right.truncate(max(room, 0), ellipsis=True)
        return Content.assemble(left, " " * (room - right.cell_length), right)

    def _place(self, name: str) -> Content:
        return Content.styled(f" {self._places[name]} ", "bold reverse" if name == self._here else "")


def _right(store: Store) -> Content:
    parts: list[str | Content | tuple[str, str]] = []
    if store.read_only:
        parts.append(("read-only ", "$warning"))
    if not store.loaded:
        parts.append(("connecting… ", "$warning"))
    elif not store.daemon_ok:
        parts.append((f"{glyph('failed')} daemon lost, trying again ", "bold $error"))
    elif (store.memory.get("guard") or {}).get("step", "calm") != "calm":
        parts.append((f"{glyph('warning')} memory is short ", "$warning"))
    if store.site_of:
        parts.append((f"site of {store.site_of} ", "$accent"))
    parts.append((f"{clean(store.project.root.name)} ", MUTED))
    return Content.assemble(*parts)
