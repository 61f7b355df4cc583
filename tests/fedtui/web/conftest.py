"""`fedtui web` as a user has it: a process of its own, and the address that it prints."""
from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import httpx
import psutil
import pyte
import pytest

from tests.fedtui.conftest import Fedtui


@dataclass
class Served:
    """A running web server."""

    process: subprocess.Popen[bytes]
    address: str
    base: str = field(init=False)
    token: str = field(init=False)
    cookie: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        self.base, self.token = f"{parts.scheme}://{parts.netloc}", parse_qs(parts.query)["token"][0]
        self.cookie = dict(self.get(self.address.removeprefix(self.base)).cookies)

    def get(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        """One answer, without following it."""
        return httpx.request(method, self.base + path, verify=False, **options)

    def tabs(self) -> list[int]:
        """The processes of its tabs."""
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def visit(self, script: Callable[[Page], Awaitable[None]], **options: Any) -> None:
        """Open a tab as a browser does, let `script` use it, and close it."""

        async def go() -> None:
            async with self.session() as session, self.open(session, **options) as socket:
                await script(Page(socket))

        asyncio.run(go())

    def session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(cookies=self.cookie, cookie_jar=aiohttp.CookieJar(unsafe=True), connector=aiohttp.TCPConnector(ssl=False))

    def open(self, session: aiohttp.ClientSession, **options: Any) -> Any:
        return session.ws_connect(self.base + "/ws?width=120&height=40", **{"origin": self.base, **options})


class Page:
    """A tab that a test reads and types into."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._screen = pyte.Screen(120, 40)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def text(self) -> str:
        return "\n".join(self._screen.display)

    async def shows(self, *words: str) -> None:
        async with asyncio.timeout(60):
            while not all(word in self.text for word in words):
                message = await self.socket.receive()
                assert message.type is aiohttp.WSMsgType.BINARY, f"{message}\n{self.text}"
                self._stream.feed(message.data)

    async def type(self, keys: str) -> None:
        await self.socket.send_json(["stdin", keys])

    async def is_closed(self) -> None:
        async with asyncio.timeout(60):
            while (await self.socket.receive()).type is aiohttp.WSMsgType.BINARY:
                pass


@pytest.fixture
def serve(alone: Fedtui) -> Iterator[Callable[..., Served]]:
    """`serve(*words)` is `fedtui web` on a free port, in a project that has nothing yet."""
    servers, folders = [], {alone.folder}

    def start(*words: object, folder: Path = alone.folder) -> Served:
        folders.add(folder)
        process = Fedtui(folder).start("web", "--port", 0, *words)
        servers.append(process)
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        assert address, process.communicate()
        return Served(process, address)

    yield start
    for process in servers:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
    for folder in folders - {alone.folder}:  # that one's daemon is ended by its own fixture
        Fedtui(folder)("down")


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    """`fedtui web`."""
    return serve()
