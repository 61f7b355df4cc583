"""The interface in a test: a screen of a given size, keys pressed, and what can be read on it."""
from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fedtui.project import Project
from fedtui.tui.app import FedApp
from fedtui.tui.store import Looker
from tests.fedtui.daemon.conftest import House, house, new_house

__all__ = ["House", "house", "new_house"]


class Screen:
    """What a user has before them."""

    def __init__(self, app: FedApp, pilot: Any) -> None:
        self.app, self.pilot = app, pilot

    @property
    def lines(self) -> list[str]:
        return [strip.text for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def row(self, name: str) -> str:
        """The row of the process table that begins with `name`; empty when there is none."""
        return next((line for line in self.lines if re.match(rf"[│|] .? ?{re.escape(name)} ", line)), "")

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.until(lambda: not self.app.has_keys, "the end of a key")
        await self.pilot.pause()

    async def type(self, text: str) -> None:
        await self.press(*({" ": "space", ".": "full_stop", "-": "minus"}.get(char, char) for char in text))

    async def until(self, condition: Callable[[], object], what: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what} did not come within {seconds:g} s:\n{self.text}"
            await self.pilot.pause(0.02)

    async def shows(self, *words: str) -> None:
        await self.until(lambda: all(word in self.text for word in words), f"{words}")

    async def hides(self, word: str) -> None:
        await self.until(lambda: word not in self.text, f"the end of {word!r}")


Script = Callable[[Screen], Awaitable[None]]


@pytest.fixture
def interface() -> Callable[..., FedApp]:
    """`interface(project, script)` opens the interface, lets `script(screen)` use it, and returns the application.

    With `live=False` it looks at nothing: the script gives the news.
    """

    def open_it(project: Project, script: Script, size: tuple[int, int] = (120, 40), *, live: bool = True, **options: Any) -> FedApp:
        app = FedApp(project, look=Looker(project).look if live else None, **options)

        async def run() -> None:
            async with app.run_test(size=size, notifications=True) as pilot:
                screen = Screen(app, pilot)
                await screen.until(lambda: app.pane is not None, "a place")
                await script(screen)

        asyncio.run(run())
        return app

    return open_it
