"""A tab: one process of the interface, and what goes between it and its browser."""
from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence

from aiohttp import web
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from fedtui.cli.output import say

LEAVE_S = 5.0  # the interface needs milliseconds, on a busy machine perhaps a second
CELLS = 1000  # no window has more in a line or column
OF_THE_TERMINAL = ("TMUX", "STY", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")  # that the server was started in; a tab is in none


class Tab(AppService):
    """Starts the interface, passes on what it draws and what is typed, and ends it.

    Parameters
    ----------
    words : the interface's command line.
    socket : the browser's end; it is closed when the interface ends.
    """

    def __init__(self, words: Sequence[str], socket: web.WebSocketResponse) -> None:
        super().__init__(
            "", write_bytes=socket.send_bytes, write_str=socket.send_str, close=self._close, download_manager=DownloadManager()
        )
        self._words, self._socket = words, socket

    async def _close(self) -> None:
        await self._socket.close()

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        environment = super()._build_environment(width, height) | {"TERM": "xterm-256color"}
        return {name: value for name, value in environment.items() if name not in OF_THE_TERMINAL}

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        """Start it without a shell, and in a session of its own: Ctrl+C in the terminal is the server's alone."""
        environment = self._build_environment(*(min(max(size, 1), CELLS) for size in (width, height)))
        self._process = process = await asyncio.create_subprocess_exec(
            *self._words, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment, start_new_session=True
        )
        self._stdin = process.stdin
        return process

    async def run(self) -> None:
        """Pass on what the interface draws until it ends; what it says then is said here."""
        assert self._process is not None and self._process.stdout is not None and self._process.stderr is not None
        words = asyncio.create_task(self._process.stderr.read())
        draws = self._process.stdout
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await draws.readuntil(b"__GANGLION__\n")
            while True:
                kind, size = await draws.readexactly(1), await draws.readexactly(4)
                packet = await draws.readexactly(int.from_bytes(size, "big"))
                if kind == b"D":
                    await self.on_data(packet)
                elif kind == b"M":
                    await self.on_meta(packet)
        await self.remote_close()
        for line in (await words).decode("utf-8", "replace").splitlines():
            say(line)

    async def set_terminal_size(self, width: int, height: int) -> None:
        """Tell the interface the window's size, in cells."""
        await super().set_terminal_size(*(min(max(int(size), 1), CELLS) for size in (width, height)))

    async def stop(self) -> None:
        """Let the interface save where it is and end; one that does not is killed."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._task is not None:  # passes on its last words; but who has inherited its pipes may hold them open
            await asyncio.wait([self._task], timeout=LEAVE_S)
            self._task.cancel()
