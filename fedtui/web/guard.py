"""Who is let in: whoever has the token, under a name of this server's, from no other page than its own."""
from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web

from fedtui.web.address import is_known

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """Stands before every answer of the server.

    The token comes once, in the address that is printed; from then on a cookie of this browser speaks for it. A refused
    request gets nothing but a sentence.

    Parameters
    ----------
    names : by which the server may be asked, beside its numbers; see `address.is_known`.
    tls : whether it is asked over TLS.
    """

    def __init__(self, names: frozenset[str], *, tls: bool) -> None:
        self.token = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)
        self._names, self._tls = names, tls

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer what may be answered; for the token give the cookie, and an address without it."""
        if not is_known(request.host, self._names):
            raise web.HTTPForbidden(text="This server does not go by that name: open the address that was printed, or start it with --host and the name.\n")
        own = f"{'https' if self._tls else 'http'}://{request.host}"
        asked_by = request.headers.get("Origin", "" if request.path == "/ws" else own)  # browsers tell it of every websocket
        if asked_by.lower() != own.lower():
            raise web.HTTPForbidden(text="Another page may not ask this server.\n")
        cookie = _cookie(request.host)
        if request.path == "/" and _same(request.query.get("token", ""), self.token):
            answer = web.HTTPSeeOther("/")
            answer.set_cookie(cookie, self._session, httponly=True, samesite="Strict", secure=self._tls)
            raise answer
        if not _same(request.cookies.get(cookie, ""), self._session):
            raise web.HTTPForbidden(text="Open the address that fedtui web printed when it was started: it has the token.\n")
        return await handler(request)

    async def protect(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Tell the browser, with every answer, to take nothing from elsewhere, show it in no other page and keep nothing."""
        answer.headers.update({
            "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
            f"img-src 'self' data:; connect-src 'self'{self._websocket(request)}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
            "Server": "fedtui",
        })  # fmt: skip

    def _websocket(self, request: web.Request) -> str:
        """The websocket by its address: older Safaris do not count it as `'self'`."""
        return f" ws{'s' if self._tls else ''}://{request.host}" if is_known(request.host, self._names) else ""


def _cookie(host: str) -> str:
    """The cookie's name, with the port that the browser sees: cookies belong to a host with all its ports."""
    return f"fedtui-{urlsplit(f'//{host}').port or 'default'}"


def _same(given: str, secret: str) -> bool:
    """Compare in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())
