"""Several hosts on one machine: network namespaces with a line from each site to the server that can be slow, lossy, or cut.

A line is two TUN devices and a thread that carries packets between them, so that TCP meets what it would meet outside.
(The kernel's own `tc netem` does the same, where that module is there.) It needs root, `ip` and /dev/net/tun.
"""
from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence

SERVER = "server"
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x0001 | 0x1000  # <linux/if_tun.h>
_numbers = itertools.count()


class NotPossible(Exception):
    """This machine does not let us make network namespaces; the text says why."""


class Line:
    """Carries packets between two TUN devices.

    Attributes
    ----------
    delay : seconds each way.
    loss : share of the packets that get lost, each way.
    cut : nothing gets through, and nobody is told.
    """

    def __init__(self, ends: tuple[int, int], seed: int) -> None:
        self.delay, self.loss, self.cut = 0.0, 0.0, False
        self._ends, self._random, self._over = ends, random.Random(seed), threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take the line away, and with it its devices."""
        self._over.set()
        self._thread.join()
        for end in self._ends:
            os.close(end)

    def _carry(self) -> None:
        other = {self._ends[0]: self._ends[1], self._ends[1]: self._ends[0]}
        order, waiting = itertools.count(), list[tuple[float, int, int, bytes]]()
        while not self._over.is_set():
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, end, packet = heapq.heappop(waiting)
                with contextlib.suppress(OSError):  # the device is not up yet
                    if not self.cut:
                        os.write(end, packet)
            ready, _, _ = select.select(self._ends, (), (), min(max(waiting[0][0] - now, 0.0), 0.1) if waiting else 0.1)
            for end in ready:
                packet = os.read(end, 65536)
                if not self.cut and self._random.random() >= self.loss:
                    heapq.heappush(waiting, (time.monotonic() + self.delay, next(order), other[end], packet))


class Network:
    """A server at `10.77.0.1` and sites at `10.77.0.2`, `10.77.0.3`, ...

    Attributes
    ----------
    lines : the line of each site.
    address : of each host.
    """

    def __init__(self, sites: Sequence[str]) -> None:
        self.lines: dict[str, Line] = {}
        self.address = {host: f"10.77.0.{number}" for number, host in enumerate([SERVER, *sites], 1)}
        self._mark = f"fh{os.getpid()}x{next(_numbers)}"
        try:
            for host in self.address:
                _ip("netns", "add", self._space(host))
                _ip("-n", self._space(host), "link", "set", "lo", "up")
            for number, site in enumerate(sites):
                self.lines[site] = self._line(site, number)
        except BaseException:
            self.close()
            raise

    def on(self, host: str) -> list[str]:
        """What a command on that host begins with."""
        return ["ip", "netns", "exec", self._space(host)]

    def close(self) -> None:
        """Take all of it away; what still runs there goes on without a network."""
        for line in self.lines.values():
            line.close()
        for host in self.address:
            subprocess.run(["ip", "netns", "del", self._space(host)], capture_output=True, check=False)

    def _space(self, host: str) -> str:
        return f"{self._mark}-{host}"

    def _line(self, site: str, number: int) -> Line:
        ends = []
        for host, far in ((SERVER, site), (site, SERVER)):
            device, space = f"t{number}{host[:1]}{os.getpid()}", self._space(host)
            try:
                end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", device.encode(), _TUN_WITHOUT_HEADER))
            except OSError as error:
                raise NotPossible(f"/dev/net/tun cannot be used: {error.strerror}") from None
            ends.append(end)
            _ip("link", "set", device, "netns", space)
            _ip("-n", space, "addr", "add", self.address[host], "peer", self.address[far], "dev", device)
            _ip("-n", space, "link", "set", device, "up")
        return Line((ends[0], ends[1]), number)


@contextlib.contextmanager
def network(*sites: str) -> Iterator[Network]:
    """A network while the context lasts.

    Raises
    ------
    NotPossible
    """
    made = Network(sites)
    try:
        yield made
    finally:
        made.close()


def _ip(*words: str) -> None:
    if shutil.which("ip") is None:
        raise NotPossible("there is no command `ip` (package iproute2)")
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPossible(f"`ip {' '.join(words)}` failed: {done.stderr.strip()}")
