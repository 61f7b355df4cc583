"""With `--read-only` nothing is started, stopped or written, whatever key is pressed and whatever the palette is asked for."""
from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedtui.tui.commands import commands
from poweranger.results import Run
from tests.fedtui.daemon.conftest import House
from tests.fedtui.tui.conftest import Screen

Interface = Callable[..., Any]
LEAVES = {"q", "ctrl+q", "ctrl+c", "ctrl+z"}


def contents(*folders: Path) -> dict[Path, bytes]:
    """All files that an interface could write, but for what the daemon and its processes write."""
    own = {"daemon.log", "processes.json", "memory.json", "lock", "parts.json"}
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name not in own and path.suffix != ".log"]
    return {path: path.read_bytes() for path in files}


def test_no_key_and_no_command_changes_anything(house: House, interface: Interface) -> None:
    run = Run.create(house.project.results, "old", {"num-server-rounds": 5, "image-size": 96})
    run.commit_round(1, {"eval_metrics": [{"round": 1, "loss": 0.5, "accuracy": 0.7}]}, None)
    run.close("stopped")
    house.post("/v1/processes/C1/start")
    house.reach("running", "C1")
    pids = {name: process["pid"] for name, process in house.ps().items()}
    files = contents(house.root, house.project.state)
    pressed, asked, done = set(), set(), set()  # keys, titles in the palette, actions

    async def settle(screen: Screen) -> None:
        """Say yes to what is asked, with what is written, and leave it."""
        for key in ("y", "enter", "ctrl+s"):
            if len(screen.app.screen_stack) > 1:
                await screen.press(key)
        while len(screen.app.screen_stack) > 1:
            await screen.press("escape")

    async def script(screen: Screen) -> None:
        app = screen.app
        await screen.shows("read-only", "1 of 3 run")
        for place in app.places:
            await app.action_go(place)
            await screen.pilot.pause()
            for key, binding in list(app.screen.active_bindings.items()):
                if key not in LEAVES and (what := (binding.node.__class__, binding.binding.action)) not in done:
                    await app.action_go(place)
                    await screen.press(key)
                    await settle(screen)
                    done.add(what)
                    pressed.add(key)
            await app.action_go(place)
            for title, _, act in list(commands(app, app.screen)):
                if title not in asked and title != "Quit" and not title.startswith(f"{app.places[place]}: "):  # these do what keys do
                    if inspect.isawaitable(doing := act()):
                        await doing
                    await screen.pilot.pause()
                    await settle(screen)
                    asked.add(title)
        for thread in threading.enumerate():
            if "(run)" in thread.name:  # of `in_background`
                thread.join(10)

    interface(house.project, script, read_only=True)
    assert {"s", "x", "X", "u", "D", "a", "e", "space"} <= pressed
    assert asked >= {"All up", "All down", "Demo", "Simulation", "Stop C1", "Kill C1", "Start C2"}
    assert {name: process["pid"] for name, process in house.ps().items()} == pids
    assert contents(house.root, house.project.state) == files
    os.kill(pids["C1"], 0)
