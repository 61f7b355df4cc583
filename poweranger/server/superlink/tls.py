"""TLS of the public port: as usual, and a client that breaks it off is known by its address and reason."""
from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

NOT_TLS = ("HTTP_REQUEST", "WRONG_VERSION_NUMBER")
PLAIN = "it does not speak TLS: give it the CA certificate (--root-certificates)"
MISTRUST = (
    "it does not trust this server's certificate ({}): the site has another CA certificate, the certificate does not name the "
    "address that the site calls, or it has expired"
)


class HandshakeFailed(Exception):
    """A TLS handshake that the client broke off. No OSError: event loops keep those to themselves."""


class _Speaker(ssl.SSLObject):
    """One connection's TLS."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            raise HandshakeFailed(_in_words(error.reason or str(error))) from None


def report_failures(context: ssl.SSLContext) -> ssl.SSLContext:
    """Let the handshakes of a server's context fail with `HandshakeFailed`."""
    context.sslobject_class = _Speaker
    return context


def handler(say: Callable[[str, str], None]) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """An event loop's exception handler that calls `say` with address and reason of each failed handshake."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failure, transport = context.get("exception"), context.get("transport")
        if not isinstance(failure, HandshakeFailed):
            loop.default_exception_handler(context)
            return
        peer = transport.get_extra_info("peername") if transport else None
        say(peer[0] if peer else "?", str(failure))

    return handle


def _in_words(reason: str) -> str:
    if reason in NOT_TLS:
        return PLAIN
    if "ALERT" in reason:  # a client says so in an alert: unknown CA, bad certificate, ...
        return MISTRUST.format(reason.partition("ALERT_")[2].replace("_", " ").lower())
    return f"TLS failed ({reason.replace('_', ' ').lower()})"
