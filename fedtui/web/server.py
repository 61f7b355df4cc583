"""The web server: textual-serve's, behind a guard, with a page of ours, and no process left behind."""
from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import ssl
from collections.abc import Callable, Sequence

from aiohttp import WSCloseCode, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger
from textual_serve.server import Server, to_int

from fedtui.cli.output import say
from fedtui.daemon.port import holder
from fedtui.web.address import names_of, spell
from fedtui.web.guard import Guard
from fedtui.web.page import FOCUS, page
from fedtui.web.tab import Tab
from poweranger.errors import PortInUse, UserError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HEARTBEAT_S = 15.0  # a browser that has not answered for so long is gone, with its machine or its network
CLOSE_S = 2.0  # for its answer to the end of the websocket


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether an error is ours to tell, rather than that somebody speaks no HTTP: with that anybody could fill the terminal."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


class WebServer(Server):
    """Gives each websocket an interface of its own.

    Parameters
    ----------
    words : the interface's command line.
    host, port : where to listen; port 0 is any free one.
    title : of the page.
    tls : with it the server speaks TLS only.
    """

    def __init__(self, words: Sequence[str], host: str, port: int, title: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__("", host=host, port=port, title=title)
        self._words, self._tls = words, tls
        self._guard = Guard(names_of(host), tls=tls is not None)
        self._open: set[web.WebSocketResponse] = set()

    def run(self, tell: Callable[[str, int], object]) -> int:
        """Serve until a signal; `tell` gets the address with the token, and the port. Returns 128 + the signal's number.

        Raises
        ------
        PortInUse
            When somebody else listens there.
        UserError
            When that address cannot be listened on.
        """
        return asyncio.run(self._run(tell))

    async def _run(self, tell: Callable[[str, int], object]) -> int:
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def end(number: int) -> None:
            if not ended.done():
                ended.set_result(number)

        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        server_logger.addFilter(_is_ours)
        runner = web.AppRunner(await self._make_app(), access_log=None)
        await runner.setup()
        try:
            port = await self._listen(runner)
            tell(f"http{'s' if self._tls else ''}://{spell(self.host)}:{port}/?token={self._guard.token}", port)
            return 128 + await ended
        finally:
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> int:
        try:
            await web.TCPSite(runner, self.host, self.port, ssl_context=self._tls).start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                found = holder(self.host, self.port)
                raise PortInUse(f"port {self.port} is in use{f' by {found}' if found else ''}: choose another one with --port") from None
            raise UserError(f"cannot listen on {self.host}:{self.port}: {os.strerror(error.errno or 0)}") from None
        return int(runner.addresses[0][1])

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.router.add_get("/focus.js", self.handle_focus)
        app.middlewares.append(self._guard.check)
        app.on_response_prepare.append(self._guard.protect)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Say nothing: `run` tells the address when it is open."""

    async def on_shutdown(self, app: web.Application) -> None:
        """Close every tab; each then ends its interface, and the server waits for that."""
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._open))

    async def handle_index(self, request: web.Request) -> web.Response:  # type: ignore[override]
        """Answer with the page, which knows itself by the address that the browser used."""
        websocket = f"ws{'s' if self._tls else ''}://{request.host}/ws"
        return web.Response(text=page(self.title, websocket), content_type="text/html")

    async def handle_focus(self, request: web.Request) -> web.Response:
        """Answer with the page's own script."""
        return web.Response(text=FOCUS, content_type="text/javascript")

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Be one tab: start the interface, pass messages on, and end it with the tab."""
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, timeout=CLOSE_S)
        await socket.prepare(request)
        tab = Tab(self._words, socket)
        self._open.add(socket)
        try:
            await tab.start(*(to_int(request.query.get(name, ""), usual) for name, usual in (("width", 80), ("height", 24))))
            with contextlib.suppress(ConnectionError, ValueError, LookupError, TypeError, AttributeError, AssertionError):  # no page of ours sends such
                await self._process_messages(socket, tab)
        except OSError as error:
            say(f"a tab cannot be opened: {error.strerror}")
        finally:
            await tab.stop()
            self._open.discard(socket)
        await socket.close()
        return socket
