"""What `fedtui web` costs: the server, each tab's process, and the time to a tab's first paint.

    python -m benchmarks.web [--tabs 4] [--seconds 20]

The real daemon supervises nothing. Tabs are websockets as a browser opens them, one after the other; what the browser itself
takes is not counted.
"""
from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import psutil

from benchmarks.common import Verdict, machine, processes

PAINTED = 2000  # bytes after which a screen is there
SETTLED_S = 8.0


@dataclass(frozen=True)
class Costs:
    """Seconds to each tab's first paint; MB of the server and of each tab (PSS), and a tab's own (USS); idle: bytes and CPU seconds a tab."""

    paints: list[float]
    server: float
    tabs: list[float]
    own: list[float]
    sent: float
    cpu: float


class Tab:
    """A websocket whose bytes are counted."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.seen, self.painted = 0, asyncio.Event()
        self._reading = asyncio.create_task(self._read(socket))

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            self.seen += len(message.data)
            if self.seen >= PAINTED:
                self.painted.set()


async def measure(address: str, server: psutil.Process, count: int, seconds: float) -> Costs:
    """Open tabs, then watch them idle."""
    base = "{0.scheme}://{0.netloc}".format(urlsplit(address))
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        await (await session.get(address)).read()
        tabs, paints = [], []
        for _ in range(count):
            began = time.monotonic()
            tabs.append(Tab(await session.ws_connect(f"{base}/ws?width=120&height=40", origin=base)))
            await asyncio.wait_for(tabs[-1].painted.wait(), 60)
            paints.append(time.monotonic() - began)
            await asyncio.sleep(SETTLED_S)  # the place, and the first look at the daemon
        inside = server.children()
        seen, cpu = sum(tab.seen for tab in tabs), cpu_seconds(inside)
        await asyncio.sleep(seconds)
        sent, used = (sum(tab.seen for tab in tabs) - seen) / count, (cpu_seconds(inside) - cpu) / count
        memory = [process.memory_full_info() for process in inside]
        return Costs(paints, server.memory_full_info().pss / 1e6, [m.pss / 1e6 for m in memory], [m.uss / 1e6 for m in memory], sent, used)


def cpu_seconds(of: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in of)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tabs", type=int, default=4, help="how many (default %(default)d)")
    parser.add_argument("--seconds", type=float, default=20, help="to watch them idle (default %(default)g)")
    wanted = parser.parse_args()
    with processes() as programs:
        (programs.folder / "pyproject.toml").write_text('[tool.flwr.app]\npublisher = "benchmark"\n')
        state = {"XDG_STATE_HOME": str(programs.folder / "state")}
        server = programs.spawn("web", sys.executable, "-m", "fedtui", "web", "--port", 0, **state)
        address = programs.see("web", r"http://\S+token=\S+").group()
        costs = asyncio.run(measure(address, psutil.Process(server.pid), wanted.tabs, wanted.seconds))
        subprocess.run([sys.executable, "-m", "fedtui", "down"], cwd=programs.folder, env=programs.environment() | state, capture_output=True, check=True)
    print(f"{machine()}; {wanted.tabs} tabs of 120x40, nothing runs\n")
    verdict = Verdict()
    verdict.at_most("first paint of a tab", statistics.median(costs.paints), 0.8, " s", f"from {min(costs.paints):.2f} to {max(costs.paints):.2f} s")
    verdict.at_most("the server (PSS)", costs.server, 60, " MB")
    verdict.at_most("a tab (PSS)", statistics.median(costs.tabs), 70, " MB", f"{statistics.median(costs.own):.0f} MB of its own")
    verdict.at_most("to the browser, idle, a tab", costs.sent / wanted.seconds, 300, " B/s")
    verdict.at_most("CPU, idle, a tab", 100 * costs.cpu / wanted.seconds, 3, " %", "of a core")
    return 0 if verdict.reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
