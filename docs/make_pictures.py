"""Make the pictures of the interface in README.md, from a real run: a server and three clients on made-up images.

    python docs/make_pictures.py

The run is as long as the pictures need. What differs from one making to the next are times and memory; images, models and figures
come from the seed.
"""
from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
PICTURES = PROJECT / "docs" / "pictures"
SIZE = (132, 40)
ROUNDS = 120
SETTINGS = {"image-size": 32, "synthetic-examples": 90, "fraction-fit": 1.0, "fraction-evaluate": 1.0, "min-available-clients": 3,
            "learning-rate": 0.004}  # fmt: skip
SITES = ("aachen", "bonn", "cologne")
LARGEST = 200_000  # bytes of a picture


def make_project(folder: Path) -> Path:
    """A project with three clients."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    root = folder / "three-sites"
    (root / "results").mkdir(parents=True)
    roster = "".join(f"\n[tool.fedtui.clients.{name}]\n" for name in SITES)
    (root / "pyproject.toml").write_text((PROJECT / "pyproject.toml").read_text() + f'\n[tool.fedtui]\nserver-address = "{address}"\n{roster}')
    return root


async def photograph(root: Path) -> None:
    """Open the interface without a terminal, look at each place while the run goes on, and save what is seen."""
    from fedtui.project import Project
    from fedtui.tui.app import FedApp
    from fedtui.tui.store import Looker

    project = Project.find(root)
    app = FedApp(project, look=Looker(project).look)
    async with app.run_test(size=SIZE, notifications=False) as pilot:

        async def until(condition: Callable[[], Any], what: str, seconds: float = 180) -> None:
            end = time.monotonic() + seconds
            while not condition():
                if time.monotonic() > end:
                    raise RuntimeError(f"{what} did not come within {seconds:g} s")
                await pilot.pause(0.1)

        async def take(name: str, *keys: str) -> None:
            await pilot.press(*keys)
            await pilot.pause(2.5)  # two looks
            write(name, app.export_screenshot(title=f"fedtui: {project.root.name}"))

        await until(lambda: str(app.store.progress.get("run")).endswith("baseline") and app.store.progress["round"] >= 30 and len(app.store.active) == 4, "round 30")
        await take("overview", "j", "j")
        await take("metrics", "2", *["left"] * 3)
        await take("rounds", "3", "right")
        await take("logs", "4", "slash", *"round 2", "enter")
        await take("memory", "5")
        await take("config", "6", *["j"] * 7)
        await until(lambda: app.store.progress.get("outcome") == "finished", "the end of the run")
        await take("runs", "7", "space")


def write(name: str, svg: str) -> None:
    """Save a picture without what it would load from elsewhere: readers have a font with fixed widths."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "Menlo, Consolas, DejaVu Sans Mono, monospace")
    svg = svg.replace("&#160;", "\u00a0")  # a third of its size
    svg = re.sub(r' clip-path="url\(#terminal-\d+-line-\d+\)"', "", svg)  # nothing is wider than its cells
    svg = re.sub(r'<clipPath id="terminal-\d+-line-\d+">.*?</clipPath>\s*', "", svg, flags=re.DOTALL)
    svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)  # some programs take leading spaces away otherwise
    svg = re.sub(r"terminal-\d+-", f"{name}-", svg)  # the same names each time
    if "http" in svg.replace("http://www.w3.org/", "").replace("https://www.textualize.io", ""):
        raise RuntimeError(f"{name} refers to something elsewhere")
    if (size := len(svg.encode())) > LARGEST:
        raise RuntimeError(f"{name} is too large: {size} bytes")
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.svg").write_text(svg)
    print(f"{name}.svg  {size // 1000} kB", flush=True)


def main() -> None:
    """Two runs, so that there is something to compare: the first one is short."""
    folder = Path(tempfile.mkdtemp(prefix="pictures-"))
    os.environ["XDG_STATE_HOME"], os.environ["PYTHONPATH"] = str(folder / "state"), str(PROJECT)
    sys.path.insert(0, str(PROJECT))
    from fedtui.client import DaemonClient
    from fedtui.project import Project

    client = DaemonClient(Project.find(make_project(folder)))
    try:
        client.up(set={**SETTINGS, "num-server-rounds": 30, "learning-rate": 0.01}, run_name="pilot")
        wait_for_the_end(client)
        client.up(set={**SETTINGS, "num-server-rounds": ROUNDS}, run_name="baseline")
        asyncio.run(photograph(client.project.root))
    finally:
        client.shutdown(stop=True)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_the_end(client: Any) -> None:
    """Until the run is over and its server has ended."""
    end = time.monotonic() + 120
    while client.progress().get("outcome") != "finished" or any(process["name"] == "server" and process["state"] != "exited" for process in client.processes()):
        if time.monotonic() > end:
            raise RuntimeError("the run does not end")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
