"""The interface in a browser: `web`."""
from __future__ import annotations

import ssl
import sys
from pathlib import Path
from typing import Annotated

import click
import typer

from fedtui.cli.context import project
from fedtui.cli.output import say, write
from poweranger.errors import UserError


def web(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Listen here. Other than loopback needs TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Listen on this port; 0 is any free one.")] = 5000,
    read_only: Annotated[bool, typer.Option("--read-only", help="A viewer: it starts, stops and changes nothing.")] = False,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate (PEM), with what is between it and the CA's.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's private key (PEM).")] = None,
    without_tls: Annotated[
        bool, typer.Option("--without-tls", help="Listen also beyond loopback without TLS: whoever is on the way can read the token, and use it.")
    ] = False,
) -> None:
    """Serve the interface to browsers, until Ctrl+C. Only the address that is printed opens it: it has a token."""
    from fedtui.web.address import is_loopback, tunnel

    here = project()
    local = is_loopback(host)
    tls = _tls(tls_cert, tls_key)
    if not (local or tls or without_tls):
        raise UserError(
            f"--host {host} is beyond this machine: give --tls-cert and --tls-key (or --without-tls, and everybody on the way can read the token); "
            f"simpler and as safe as SSH: `fedtui web` here, and on your machine `{tunnel('127.0.0.1', port or 5000)}`"
        )
    options = click.get_current_context().find_root().params
    switches = {"--read-only": read_only or options["read_only"], "--no-mouse": options["no_mouse"], "--ascii": options["ascii"]}
    words = [sys.executable, "-m", "fedtui.web.inside", "--project", str(here.root), *(switch for switch, given in switches.items() if given)]

    from fedtui.web.server import WebServer

    def tell(address: str, port: int) -> None:
        write(address)
        if local:
            say(f"open it in a browser on this machine; on another one, run this there first: {tunnel(host, port)}")
        elif tls is None:
            say("without TLS: whoever is on the way can read this address, and use it", "yellow")
        may = "look on" if switches["--read-only"] else "do all that you can do with fedtui"
        say(f"whoever has this address may {may}; Ctrl+C ends the server, and what runs goes on")

    raise typer.Exit(WebServer(words, host, port, f"fedtui: {here.root.name}", tls).run(tell))


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """TLS with these files; none without them."""
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UserError("TLS needs both files: give --tls-cert and --tls-key")
    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise UserError(f"{option} {path}: {error.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        reason = "the key is another certificate's" if error.reason == "KEY_VALUES_MISMATCH" else "they are no PEM certificate and key"
        raise UserError(f"--tls-cert {certificate} and --tls-key {key}: {reason}") from None
    return context
