"""What each screen shows in typical moments, at three sizes: text files in `snapshots/`, one a screen, a moment and a size.

`UPDATE_SNAPSHOTS=1 pytest tests/fedtui/tui/test_snapshots.py` writes them anew; the difference is then to be read before
it is committed. With `SNAPSHOT_PICTURES=DIR` each is also saved there as a picture (SVG).
"""
from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedtui.project import Project
from fedtui.tui.app import FedApp
from tests.fedtui.tui.conftest import Screen
from tests.fedtui.tui.scenes import NOW, SCENES, Scene

SNAPSHOTS = Path(__file__).parent / "snapshots"
UPDATE = bool(os.environ.get("UPDATE_SNAPSHOTS"))
PICTURES = os.environ.get("SNAPSHOT_PICTURES")
SIZES = ((80, 24), (120, 40), (200, 50))
PLACES = ("overview", "metrics", "rounds", "logs", "memory", "config", "runs")
STILL_S = 1.0  # a screen that has not changed for so long is done; only when snapshots are written
Script = Callable[[Screen], Any]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project of which nothing depends on the hour, the place or the machine."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)  # no GPU
    monkeypatch.setattr(time, "time", lambda: NOW)
    time.tzset()
    (tmp_path / "hospital").mkdir()
    (tmp_path / "hospital" / "pyproject.toml").write_text("[tool.flwr.app]\n")
    yield Project.find(tmp_path / "hospital")
    monkeypatch.undo()
    time.tzset()


def open_scene(project: Project, scene: Scene, script: Script, size: tuple[int, int] = SIZES[0], **options: Any) -> None:
    """Open the interface on a scene and let `script(screen)` use it."""
    app = FedApp(project, look=None, **options)
    scene.fill(app.store)

    async def run() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            app.show_news(scene.look(app.store))
            await script(Screen(app, pilot))

    asyncio.run(run())


async def go(screen: Screen, scene: Scene, place: str) -> None:
    """To a place, with the news that it wants."""
    await screen.app.action_go(place)
    await screen.pilot.pause()
    screen.app.show_news(scene.look(screen.app.store))
    screen.app.clear_notifications()
    await screen.pilot.pause()


async def expect(screen: Screen, name: str) -> None:
    """The screen becomes the snapshot."""
    path = SNAPSHOTS / f"{name}-{screen.app.size.width}x{screen.app.size.height}.txt"

    def seen() -> str:
        return "\n".join(line.rstrip() for line in screen.lines) + "\n"

    if UPDATE:
        text, since = "", time.monotonic()  # monotonic: the hour stands still here
        while time.monotonic() < since + STILL_S:
            await asyncio.sleep(0.15)
            if seen() != text:
                text, since = seen(), time.monotonic()
        path.write_text(text, encoding="utf-8")
    if PICTURES:
        screen.app.save_screenshot(f"{path.stem}.svg", PICTURES)
    end = time.monotonic() + 5
    wanted = path.read_text(encoding="utf-8") if path.exists() else ""
    while (text := seen()) != wanted and time.monotonic() < end:
        await asyncio.sleep(0.05)
    assert text == wanted, f"{path.name} shows another screen; UPDATE_SNAPSHOTS=1 writes it anew"


@pytest.mark.parametrize("moment", SCENES)
def test_each_place_at_each_size(project: Project, moment: str) -> None:
    scene = SCENES[moment](project)

    async def script(screen: Screen) -> None:
        for size in SIZES:
            await screen.pilot.resize_terminal(*size)
            for place in PLACES:
                await go(screen, scene, place)
                await expect(screen, f"{place}-{moment}")

    open_scene(project, scene, script)


SHEETS = {  # what opens over a place, by the keys that open it
    "help": ("overview", "question_mark"), "messages": ("overview", "m"), "quit": ("overview", "q"), "kill": ("overview", "X"), "palette": ("overview", "colon"),
    "overlay": ("metrics", "o"), "help-logs": ("logs", "question_mark"), "search": ("logs", "slash"), "new-client": ("config", "a"),
    "save": ("config", "j", "delete", "w"), "edit": ("config", "enter"), "new-run": ("runs", "j", "n"), "resume": ("runs", "j", "j", "r"),
    "evaluate": ("runs", "v"), "export": ("runs", "w"), "address": ("config", "tab", "g", "enter"),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES[:2], ids="{0[0]}x{0[1]}".format)
def test_each_sheet(project: Project, size: tuple[int, int]) -> None:
    scene = SCENES["running"](project)

    async def script(screen: Screen) -> None:
        screen.app.say("C3 has failed: ValueError: bad image", "warning", "it is started again by itself")
        await screen.pilot.pause()
        for name, (place, *keys) in SHEETS.items():
            await go(screen, scene, place)
            await screen.press(*keys)
            await expect(screen, f"sheet-{name}")
            await screen.press("escape", "escape")

    open_scene(project, scene, script, size)


def test_runs_laid_over_one_another(project: Project) -> None:
    scene = SCENES["running"](project)

    async def script(screen: Screen) -> None:
        screen.app.store.picked = {run.name for run in scene.runs}
        for size in SIZES:
            await screen.pilot.resize_terminal(*size)
            for place in ("metrics", "runs"):
                await go(screen, scene, place)
                await expect(screen, f"{place}-overlay")

    open_scene(project, scene, script)


def test_ascii_is_all_that_a_terminal_without_unicode_gets(project: Project) -> None:
    scene = SCENES["names"](project)

    async def script(screen: Screen) -> None:
        for place in PLACES:
            await go(screen, scene, place)
            await expect(screen, f"{place}-ascii")
            assert screen.text.isascii()

    open_scene(project, scene, script, SIZES[1], ascii=True)


def colours(screen: Screen) -> set[tuple[Any, Any]]:
    """All pairs of colour and background on the screen."""
    return {(style.color, style.bgcolor) for strip in screen.app.screen._compositor.render_strips() for _, style, _ in strip if style}


def test_a_light_theme_says_the_same_in_other_colours(project: Project) -> None:
    scene = SCENES["running"](project)
    seen: dict[str, dict[str, set[tuple[Any, Any]]]] = {"fedtui-dark": {}, "fedtui-light": {}}

    async def script(screen: Screen) -> None:
        for theme, found in seen.items():
            screen.app.theme = theme
            for place in PLACES:
                await go(screen, scene, place)
                await expect(screen, f"{place}-running")
                found[place] = colours(screen)

    open_scene(project, scene, script)
    dark, light = seen.values()
    assert {place: dark[place] & light[place] for place in PLACES} == {place: set() for place in PLACES}


def test_without_colour_words_and_signs_say_it_all(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    scene = SCENES["failed"](project)

    async def script(screen: Screen) -> None:
        for place in PLACES:
            await go(screen, scene, place)
            await expect(screen, f"{place}-no-colour")
            shades = {colour.triplet for pair in colours(screen) for colour in pair if colour is not None and colour.triplet}
            assert all(len(set(shade)) == 1 for shade in shades), "there is a colour"

    open_scene(project, scene, script, SIZES[1])
