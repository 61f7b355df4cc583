"""Processes by (pid, start time), which no later process can share: from `/proc`, signalled through pidfds. Linux only."""
from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
_INFO = struct.Struct("QQ11Ii")  # struct pidfd_info, first version (linux/pidfd.h)
_GET_INFO = 3 << 30 | _INFO.size << 16 | 0xFF << 8 | 11  # _IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)
_INFO_EXIT = 8  # PIDFD_INFO_EXIT, since Linux 6.15
KILL_S = 10.0  # from SIGKILL to the end: the kernel takes seconds to free many GB


@dataclass(frozen=True)
class Ident:
    """A process for all time: its pid and its start in clock ticks since boot."""

    pid: int
    start: int


@dataclass(frozen=True)
class Stat:
    """What `/proc/PID/stat` says; `cpu` in clock ticks, `rss` in bytes, `state` a letter as in `ps`."""

    ident: Ident
    parent: int
    session: int
    state: str
    cpu: int
    rss: int


def read_stat(pid: int) -> Stat | None:
    """The process `pid`; None when there is none, or only its zombie."""
    fields = _fields(pid)
    if fields is None or (fields[0] in "ZX" and int(fields[17]) <= 1):  # a zombie leader may still have living threads
        return None
    ident = Ident(pid, int(fields[19]))
    return Stat(ident, int(fields[1]), int(fields[3]), fields[0], int(fields[11]) + int(fields[12]), int(fields[21]) * PAGE)


def identify(pid: int) -> Ident | None:
    """Pid and start time of a living process."""
    stat = read_stat(pid)
    return stat.ident if stat else None


def every() -> dict[int, Stat]:
    """All living processes of the machine."""
    return {int(name): stat for name in os.listdir("/proc") if name.isdigit() and (stat := read_stat(int(name)))}


def family(stats: dict[int, Stat], roots: Iterable[Ident]) -> set[Ident]:
    """The living among `roots` and all their descendants, in whatever session or process group."""
    children: dict[int, list[Stat]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat)
    found: set[Ident] = set()
    left = [root for root in roots if root.pid in stats and stats[root.pid].ident == root]
    while left:
        ident = left.pop()
        if ident not in found:
            found.add(ident)
            left += [child.ident for child in children.get(ident.pid, ())]
    return found


def marks(stats: dict[int, Stat], variable: str) -> Iterator[tuple[Ident, str]]:
    """This user's other processes that have `variable` in their environment, with its value.

    A child inherits it wherever it goes: so those are found whose parents are long gone.
    """
    wanted, own = f"{variable}=".encode(), os.getuid()
    for pid, stat in stats.items():
        with contextlib.suppress(OSError):
            if pid != os.getpid() and os.stat(f"/proc/{pid}").st_uid == own:
                for word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    if word.startswith(wanted):
                        yield stat.ident, os.fsdecode(word[len(wanted) :])


def send(ident: Ident, number: int) -> bool:
    """Signal exactly this process; False when it is gone, whoever may have its pid now."""
    try:
        descriptor = os.pidfd_open(ident.pid)
    except OSError:
        return False
    try:
        if identify(ident.pid) != ident:
            return False
        signal.pidfd_send_signal(descriptor, number)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


class Watch:
    """Calls `ended` in the running loop when the process is gone, whoever its parent is.

    Raises
    ------
    ProcessLookupError
        When it is gone already.
    """

    def __init__(self, ident: Ident, ended: Callable[[], None]) -> None:
        self.ident, self._ended = ident, ended
        self._fd = os.pidfd_open(ident.pid)
        if identify(ident.pid) != ident:  # asked after the open: the pid cannot change hands in between
            os.close(self._fd)
            raise ProcessLookupError(ident.pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._ready)

    def wait_status(self) -> int | None:
        """How a process ended that is not our child, as `waitpid` codes it; None where the kernel does not tell.

        While its own parent has not reaped it, `/proc` shows the status; afterwards Linux 6.15 tells by the pidfd.
        """
        fields = _fields(self.ident.pid)
        if fields and fields[0] == "Z" and int(fields[19]) == self.ident.start:
            return int(fields[49])
        info = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
        try:
            fcntl.ioctl(self._fd, _GET_INFO, info)
        except OSError:
            return None
        values = _INFO.unpack(info)
        return values[-1] if values[0] & _INFO_EXIT else None

    def close(self) -> None:
        """Watch no longer."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _ready(self) -> None:
        self._loop.remove_reader(self._fd)
        self._ended()


async def gone(idents: Iterable[Ident], seconds: float) -> bool:
    """Wait until all these processes have ended, `seconds` at most; True when they have."""
    done = asyncio.Event()
    watches: set[Watch] = set()

    def ended(ident: Ident) -> None:
        left.discard(ident)
        if not left:
            done.set()

    left = set(idents)
    try:
        for ident in list(left):
            try:
                watches.add(Watch(ident, lambda ident=ident: ended(ident)))  # type: ignore[misc]
            except OSError:
                ended(ident)
        if left:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(done.wait(), seconds)
        return not left
    finally:
        for watch in watches:
            watch.close()


async def end(find: Callable[[], set[Ident]], grace: float) -> tuple[set[Ident], set[Ident]]:
    """End all processes that `find` finds: SIGTERM, after `grace` seconds SIGKILL, until it finds no more.

    Returns
    -------
    killed, left : the processes that needed SIGKILL, and those that even so did not end within `KILL_S`
        (stuck in the kernel).
    """
    clock = asyncio.get_running_loop().time
    told: set[Ident] = set()
    deadline = clock() + grace
    while (alive := find()) and clock() < deadline:
        for ident in alive:
            if ident not in told:
                send(ident, signal.SIGTERM)
            send(ident, signal.SIGCONT)  # a stopped process takes SIGTERM only once it goes on
        told |= alive
        await gone(alive, min(deadline - clock(), 0.5))  # then look again for new children
    killed: set[Ident] = set()
    deadline = clock() + KILL_S
    while alive and clock() < deadline:
        for ident in alive:
            send(ident, signal.SIGKILL)
        killed |= alive
        await gone(alive, 0.2)
        alive = find()
    return killed, alive


def _fields(pid: int) -> list[str] | None:
    """`/proc/PID/stat` from the third field on: the second, a name, may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read(2048).rpartition(b")")[2].decode().split()
    except OSError:
        return None
