"""Keys one at a time: what a key does, such as opening a line to type in, is done before the next key is looked at.

Textual hands each key at once to the widget that has the focus when it arrives. Over a slow connection, and from a fast typist,
several arrive together: of `/restart` the `/` would open the search, and the `r` restart the server.
"""
from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

from textual import events
from textual.app import App
from textual.message import Message
from textual.timer import Timer

PATIENCE_S = 1.0  # the widget that had a key may be gone before it can say that it is done


class KeyDone(Message):
    """Follows a key on its way up from the focused widget: when it arrives at the app, the key has been handled."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class TypingAhead(App[int]):
    """An app that takes keys, and what is pasted, one after the other."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._typed: deque[events.Event] = deque()
        self._taken = 0  # keys so far
        self._patience: Timer | None = None  # while a key is under way

    @property
    def has_keys(self) -> bool:
        """Whether there are keys that have not been handled yet."""
        return self._patience is not None

    async def on_event(self, event: events.Event) -> None:
        """Let keys wait for the one before them."""
        if not isinstance(event, events.Key | events.Paste) or event.is_forwarded:
            await super().on_event(event)
            return
        self._typed.append(event)
        if not self.has_keys:
            await self._take_key()

    def on_key_done(self, message: KeyDone) -> None:
        """The next one; but what the last one has set going in this app, such as a change of the focus, comes first."""
        self.call_later(self._done, message.number)

    async def _done(self, number: int) -> None:
        if number == self._taken and self._patience is not None:
            self._patience.stop()
            self._patience = None
            await self._take_key()

    async def _take_key(self) -> None:
        if self._typed:
            self._taken += 1
            self._patience = self.set_timer(PATIENCE_S, partial(self.call_later, self._done, self._taken))
            target = self.focused or self.screen
            await super().on_event(self._typed.popleft())
            target.post_message(KeyDone(self._taken))
