"""Why a process failed: from what is known to one sentence."""
from __future__ import annotations

import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

UNWATCHED = "exit code unknown (it ended while no daemon watched)"

_CUDA_MEMORY = re.compile(
    r"CUDA_ERROR_OUT_OF_MEMORY|CUDA out of memory|failed to allocate .{0,80}(device|GPU)|OOM when allocating tensor", re.IGNORECASE
)
_NO_MODULE = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '?([\w.]+)'?")
_PORT = re.compile(r"address already in use|Errno 98\b", re.IGNORECASE)
_DISK = re.compile(r"No space left on device|Errno 28\b|the disk is full")
_MEMORY = re.compile(r"^MemoryError\b|Cannot allocate memory|std::bad_alloc", re.MULTILINE)


@dataclass(frozen=True)
class Facts:
    """What is known of a process that ended by itself.

    Attributes
    ----------
    exit_code : None when a signal ended it, or when nobody knows.
    signal : the signal's number, 0 for none.
    lines : its last log lines, oldest first.
    oom_kill : the kernel has just killed a process for want of memory.
    rss_mb : the memory it was last seen with.
    """

    exit_code: int | None
    signal: int = 0
    lines: Sequence[str] = ()
    oom_kill: bool = False
    rss_mb: float | None = None


def explain(facts: Facts, port_holder: Callable[[], str] = lambda: "") -> str:
    """The cause in words. `port_holder` says who listens on the port ("nginx, pid 12"), asked only when that matters."""
    text = "\n".join(facts.lines)
    if facts.signal == signal.SIGKILL and facts.oom_kill:
        used = f" (it used {facts.rss_mb:.0f} MB)" if facts.rss_mb else ""
        return f"killed by the kernel: the machine or its memory limit ran out of memory{used}"
    if _CUDA_MEMORY.search(text):
        return "the GPU ran out of memory: use a smaller batch-size or image-size, or fewer clients on this GPU"
    said = _own_sentence(facts.lines)
    if said and facts.exit_code == 2:
        return f"wrong configuration: {said}"
    if said and not facts.signal:
        return said
    if facts.exit_code == 4 or _PORT.search(text):
        holder = port_holder()
        return "its port is in use" + (f" by {holder}" if holder else "")
    if missing := _NO_MODULE.search(text):
        return f"the Python module {missing[1]} is missing: install this project's requirements into the environment that runs fedtui"
    if _DISK.search(text):
        return "the disk is full: make room, then start it again"
    if _MEMORY.search(text):
        return "it could get no more memory: use a smaller batch-size, or fewer clients on this machine"
    last = _traceback_end(facts.lines)
    if facts.signal:
        return _by_signal(facts.signal) + (f": {last}" if last else "")
    if last:
        return last
    if facts.exit_code is None:
        return UNWATCHED
    final = next((line.strip() for line in reversed(facts.lines) if line.strip()), "")
    return f"ended with exit code {facts.exit_code}" + (f": {final}" if final else " and said nothing")


def _own_sentence(lines: Sequence[str]) -> str:
    """The sentence in which our programs end for a user's mistake: `server: port 8081 is in use`."""
    for line in reversed(lines[-5:]):
        if match := re.match(r"(?:server|client|simulation): (.+)", line):
            return match[1]
    return ""


def _traceback_end(lines: Sequence[str]) -> str:
    """The last traceback's last line: the exception."""
    starts = [number for number, line in enumerate(lines) if line.lstrip().startswith("Traceback (most recent call last)")]
    if starts:
        for line in lines[starts[-1] + 1 :]:
            if line and not line[0].isspace():
                return line.strip()
    return next((line.strip() for line in reversed(lines) if re.match(r"(?:\w+\.)*\w*(?:Error|Exception)\b", line)), "")


def _by_signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        return f"ended from outside by {name}"
    return f"crashed with {name}"
