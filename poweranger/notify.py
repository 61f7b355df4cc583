"""What a process says of itself: lines in its log, and by sd_notify to whoever supervises it.

The protocol of sd_notify is systemd's (https://www.freedesktop.org/software/systemd/man/sd_notify.html):
one datagram of `KEY=value` lines to the socket named by `NOTIFY_SOCKET`.
"""
from __future__ import annotations

import contextlib
import os
import socket
import time

from poweranger.errors import escaped

MAX_VALUE = 500  # characters of a value; a datagram stays far below the socket's limit


def say(name: str, text: str) -> None:
    """Lines in the log, with the time. Never raises: where a full disk takes no line, training goes on all the same.

    What would act on a terminal, or cannot be encoded, is escaped: in the text may be a server's word, or a file's name.
    """
    with contextlib.suppress(OSError):
        print(time.strftime("%Y-%m-%d %H:%M:%S"), name, escaped(text, keep="\n"), flush=True)


def notify(**fields: object) -> bool:
    """Send fields such as `READY=1` or `STATUS="round 3 of 10"`.

    Never blocks and never raises: status is expendable, training is not.

    Returns
    -------
    bool
        True when a supervisor's socket took the message.
    """
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    text = "\n".join(f"{key}={' '.join(str(value).split())[:MAX_VALUE]}" for key, value in fields.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(text.encode(errors="replace"), address)
    except OSError:  # absent, refused or its queue is full
        return False
    return True
