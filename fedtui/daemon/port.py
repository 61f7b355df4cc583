"""Who holds a port: said before a server would fail on it."""
from __future__ import annotations

import ipaddress
import os
import pwd
import re
import shlex
import struct
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"


@dataclass(frozen=True)
class Holder:
    """The process that listens; `pid` 0 and no command when it is another user's and cannot be seen."""

    pid: int
    command: str
    uid: int

    @property
    def ours(self) -> bool:
        """Whether it is a server of this program and user."""
        return self.uid == os.getuid() and re.search(r"\bpoweranger[./]server", self.command) is not None

    def __str__(self) -> str:
        if self.pid:
            return f"pid {self.pid} ({self.command})"
        try:
            return f"a process of user {pwd.getpwuid(self.uid).pw_name}"
        except KeyError:
            return f"a process of uid {self.uid}"


def holder(host: str, port: int) -> Holder | None:
    """Who listens where `host:port` would; None when it is free. Every address of a name counts as loopback's."""
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            address, number = fields[1].split(":")
            if fields[3] == _LISTEN and int(number, 16) == port and _collide(host, _decode(address)):
                pid = _owner(fields[9])
                return Holder(pid, _command(pid), int(fields[7]))
    return None


def refusal(host: str, port: int) -> str:
    """One sentence that says who holds the port and what to do; "" when it is free."""
    found = holder(host, port)
    if not found:
        return ""
    other = "set another server-address in [tool.fedtui]"
    if found.ours:  # of another project, or started by hand: this project's daemon knows its own
        return f"port {port} is held by another server of yours, {found}: {other}; if nobody needs it, end it with `kill {found.pid}`"
    return f"port {port} is in use by {found}: end that program, or {other}"


def _collide(host: str, bound: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a listener on `bound` keeps `host` from being bound."""
    try:
        wanted = ipaddress.ip_address(host)
    except ValueError:
        wanted = ipaddress.ip_address("127.0.0.1")
    if isinstance(bound, ipaddress.IPv6Address) and bound.ipv4_mapped:
        bound = bound.ipv4_mapped
    if bound.version != wanted.version:
        return bound.version == 6 and bound.is_unspecified  # takes IPv4, too, by default
    return wanted == bound or wanted.is_unspecified or bound.is_unspecified


def _decode(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The kernel prints an address as 32-bit words in the machine's byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))


def _owner(inode: str) -> int:
    """The pid that has the socket open; 0 when it cannot be seen."""
    wanted = f"socket:[{inode}]"
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                folder = f"/proc/{name}/fd"
                if any(os.readlink(f"{folder}/{descriptor}") == wanted for descriptor in os.listdir(folder)):
                    return int(name)
            except OSError:
                continue
    return 0


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return shlex.join(word for word in words if word)[:300]
