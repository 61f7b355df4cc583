"""The client host: it imports TensorFlow and the app, runs nothing of them, and forks clients on request.

A fork shares the host's memory until one of them writes to it, and has nothing left to import. The daemon of `fedtui`
starts the host and talks to it over the socket (SOCK_SEQPACKET) that is its standard input:

- the host says `ready` once;
- `{"fork": {"command", "environment", "folder", "oom_score"}}` with two descriptors, the client's log and its channel (SOCK_SEQPACKET),
  makes a client, which answers on its channel `{"pid": N}` or `{"error": "..."}` and begins when `go` comes back: if the
  daemon dies instead, nothing has begun that nobody knows of;
- `{"reap": [N, ...]}` lets go of clients that have ended. Until then their exit status stands in `/proc`.

The host ends with the daemon. Its clients live on: each has a session of its own, and nothing of the host's but memory.
"""
from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import suppress
from typing import Any

from poweranger.client import standalone_client
from poweranger.client.process_title import show_as
from poweranger.errors import UserError, run_program

MESSAGE = 1 << 18  # bytes a request may have


def main() -> int:
    """The program; also its forks, which are clients."""
    try:
        control = socket.socket(fileno=os.dup(0))
    except OSError:
        raise UserError("it is fedtui's daemon that starts this; for a client: python -m poweranger.client.standalone_client") from None
    standalone_client.limit_process(1)
    with standalone_client.loading():
        from poweranger.client import client_app, node  # noqa: F401
        from poweranger.client.training import configure_tensorflow

        configure_tensorflow(1)
    if serve(control):
        del sys.argv[0]  # the "-m" of `python -m MODULE`
        run_program("client", standalone_client.main)
    return 0


def serve(control: socket.socket) -> bool:
    """Fork on request. Returns False in the host, when the daemon is gone, and True in each fork, which is to be a client.

    Raises
    ------
    UserError
        When what was imported has started threads: a fork would have their locks but not them.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        raise UserError("a library has started threads on import: clients cannot be forked")
    with suppress(BrokenPipeError):
        control.send(b"ready")
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, MESSAGE, 2)
        if not data:
            return False
        request = json.loads(data)
        if "reap" in request:
            for pid in request["reap"]:
                os.waitpid(pid, 0)
        elif _fork(request["fork"], *descriptors):
            control.close()
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # nothing of the host's stays open
            return True


def _fork(request: dict[str, Any], log: int, channel_descriptor: int) -> bool:
    """Returns True in the fork once it may begin."""
    channel = socket.socket(fileno=channel_descriptor)
    try:
        is_host = os.fork() != 0
    except OSError as error:
        _answer(channel, error=f"it cannot fork: {error.strerror}")
        is_host = True
    if not is_host:
        try:
            _become_client(request, log)
        except OSError as error:
            _answer(channel, error=f"{error.strerror}: {error.filename}")
            os._exit(1)
        _answer(channel, pid=os.getpid())
        if channel.recv(16) != b"go":
            os._exit(1)
    channel.close()
    os.close(log)
    return not is_host


def _answer(channel: socket.socket, **answer: object) -> None:
    with suppress(BrokenPipeError):  # the daemon does not want this client any more
        channel.send(json.dumps(answer).encode())


def _become_client(request: dict[str, Any], log: int) -> None:
    """Take what a process of its own would have been started with."""
    import numpy as np

    command, environment = request["command"], request["environment"]
    os.setsid()
    os.umask(0o077)
    os.chdir(request["folder"])
    if request["oom_score"] is not None:
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(request["oom_score"]))
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    show_as(command, environment)
    sys.argv = command[1:]
    np.random.seed()  # else all forks draw the same numbers


if __name__ == "__main__":
    run_program("client host", main)
