"""What `ps` shows of a process: a forked one would go by the command line and environment of the process it came from."""
from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path


def show_as(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Let `/proc/PID/cmdline` and `/proc/PID/environ` show these: as much of them as there was room for at the start.

    Written over the strings that the kernel put on the stack, as `setproctitle` of BSD does it
    (https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: `arg_start` and the three after it). Python has copies of
    the command line; what `os.environ` has not set anew since the start must not be read by native code any more.
    """
    fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
    arg_start, arg_end, env_start, env_end = map(int, fields[45:49])
    _write(arg_start, arg_end, command)
    _write(env_start, env_end, [f"{name}={value}" for name, value in environment.items()])


def _write(start: int, end: int, texts: Sequence[str]) -> None:
    """Whole texts only: half a variable would be a wrong one."""
    data = b""
    for text in texts:
        entry = os.fsencode(text) + b"\0"
        if len(data) + len(entry) <= end - start:
            data += entry
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, data, len(data))
