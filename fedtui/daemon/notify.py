"""Receives what supervised processes report by sd_notify; the kernel vouches for the sender's pid.

asyncio's datagram protocol drops ancillary data, so the socket is read with `add_reader` and `recvmsg`.
"""
from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

_CREDENTIALS = struct.Struct("iii")  # pid, uid, gid
_BATCH = 64  # datagrams at a time: the loop has others to serve


class NotifySocket:
    """Calls `receive(pid, fields)` for every datagram of this user, such as `(4711, {"READY": "1"})`."""

    def __init__(self, path: Path, receive: Callable[[int, dict[str, str]], None]) -> None:
        self._path, self._receive = path, receive
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        path.unlink(missing_ok=True)
        self._socket.bind(os.fspath(path))
        path.chmod(0o600)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        """Receive no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _read(self) -> None:
        for _ in range(_BATCH):
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(8192, socket.CMSG_SPACE(_CREDENTIALS.size))
            except OSError:
                return
            for level, kind, value in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and not flags & socket.MSG_TRUNC:
                    pid, uid, _ = _CREDENTIALS.unpack(value[: _CREDENTIALS.size])
                    if uid == os.getuid() and pid:
                        pairs = (line.split("=", 1) for line in data.decode("utf-8", "replace").split("\n") if "=" in line)
                        self._receive(pid, dict(pairs))
