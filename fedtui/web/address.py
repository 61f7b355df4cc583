"""Addresses: which are this machine's alone, by which names a server is known, and how to reach it from elsewhere."""
from __future__ import annotations

import getpass
import ipaddress
import os
import shlex
import socket
from urllib.parse import urlsplit

from poweranger.errors import UserError


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine reaches `host`, in all that the name stands for.

    Raises
    ------
    UserError
        When it is no address and no known name.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise UserError(f"--host {host}: no such address; 127.0.0.1 is this machine alone") from None
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def is_known(host: str, names: frozenset[str]) -> bool:
    """Whether a request's `Host`, with or without a port, is a number or one of `names` (lower case).

    A page elsewhere can let a name of its own stand for this machine (DNS rebinding); it cannot do so with numbers.
    """
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname or "", parts.port  # a port that is none raises, too
        return name in names or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def names_of(host: str) -> frozenset[str]:
    """The names, beside all numbers, by which a server that listens on `host` is asked."""
    return frozenset({"localhost", host.lower(), socket.gethostname().lower()})


def spell(host: str) -> str:
    """`host` as it stands in an address: IPv6 in brackets, and for all addresses of this machine its name."""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return host
    if number.is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if number.version == 6 else host


def tunnel(host: str, port: int) -> str:
    """The command that, on another machine, makes the port of a loopback address here one there.

    `SSH_CONNECTION` (client's address and port, server's address and port) tells by which address this one was reached.
    """
    _, _, here, ssh_port = (os.environ.get("SSH_CONNECTION", "").split() + [""] * 4)[:4]
    other_port = f"-p {ssh_port} " if ssh_port not in ("", "22") else ""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for the user's number
        user = "USER"
    return f"ssh -N {other_port}-L {port}:{spell(host)}:{port} {shlex.quote(f'{user}@{here or socket.gethostname()}')}"
