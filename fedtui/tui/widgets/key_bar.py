"""The bottom line: the keys that work here, as many as fit, the way out always among them."""
from __future__ import annotations

from textual.binding import ActiveBinding
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

ALWAYS = ("help", "command_palette", "leave")


class KeyBar(Widget):
    """Reads the bindings that are active on its screen: those of the focused widget come first."""

    DEFAULT_CSS = "KeyBar { height: 1; dock: bottom; background: $panel; color: $foreground; }"

    def on_mount(self) -> None:
        """Follow the focus."""
        self.screen.bindings_updated_signal.subscribe(self, self._update)
        self._shown: Content | None = None

    def _update(self, _: Screen[object]) -> None:
        if self.screen.is_current and (content := self._content(self.size.width)) != self._shown:
            self._shown = content
            self.refresh()

    def render(self) -> Content:
        """The line."""
        self._shown = self._content(self.size.width)
        return self._shown

    def _content(self, width: int) -> Content:
        shown: dict[str, ActiveBinding] = {}
        for active in self.screen.active_bindings.values():
            if active.binding.show and active.enabled:
                shown.setdefault(active.binding.action, active)
        items = {action: self._item(active) for action, active in shown.items()}
        room = width - sum(len(items[action]) for action in ALWAYS if action in items)
        parts = []
        for action, item in items.items():
            if action not in ALWAYS and len(item) <= room:
                parts.append(item)
                room -= len(item)
        return Content.assemble(*parts, *(items[action] for action in ALWAYS if action in items))

    def _item(self, active: ActiveBinding) -> Content:
        return Content.assemble((f" {self.app.get_key_display(active.binding)}", "bold $accent"), f" {active.binding.description} ")
