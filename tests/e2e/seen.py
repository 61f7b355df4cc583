"""The interface as somebody sees it: the real program on a pseudo-terminal, drawn by a terminal emulator."""
from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte

from tests.fedtui.conftest import Fedtui

SIZE = (120, 40)
FRAME = set("╭╮╰╯│─┌┐└┘")


class Seen:
    """`fedtui` in a folder, on a terminal that is its controlling one."""

    def __init__(self, folder: Path, size: tuple[int, int] = SIZE) -> None:
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self.bytes = b""
        self.master, self.slave = pty.openpty()
        self.resize(size, tell=False)
        self.modes = termios.tcgetattr(self.slave)
        environment = Fedtui(folder).environment | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8", "COLUMNS": "33"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fedtui"], cwd=folder, stdin=self.slave, stdout=self.slave, stderr=self.slave, env=environment,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip

    # What is seen

    def take(self, seconds: float) -> None:
        """Draw what comes within so many seconds, as soon as anything comes."""
        if select.select([self.master], [], [], seconds)[0]:
            with contextlib.suppress(OSError):  # the program has ended, and nobody holds the other side
                data = os.read(self.master, 1 << 16)
                self.bytes += data
                self._stream.feed(data)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def row(self, name: str) -> str:
        """The row of the table of processes that begins with `name`; empty when there is none."""
        return next((line for line in self.lines if re.match(rf"│ ?.? ?{re.escape(name)} ", line)), "")

    def number(self, pattern: str) -> int:
        """The number that `pattern` finds on the screen; -1 when it finds none."""
        found = re.search(pattern, self.text)
        return int(found[1]) if found else -1

    @property
    def frames(self) -> list[str]:
        """The lines that frame panels and charts, without what stands in them."""
        return ["".join(char if char in FRAME else " " for char in line).rstrip() for line in self.lines]

    def until(self, condition: Callable[[], object], what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what} did not come within {seconds:g} s:\n{self.text}"
            self.take(0.1)

    def shows(self, *words: str, seconds: float = 60) -> None:
        self.until(lambda: all(word in self.text for word in words), f"{words}", seconds)

    def quiet(self, seconds: float = 0.3) -> None:
        """Take in everything until nothing has come for so long."""
        while select.select([self.master], [], [], seconds)[0] and self.process.poll() is None:
            self.take(0)

    # What is done

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resize(self, size: tuple[int, int], *, tell: bool = True) -> None:
        columns, rows = size
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if tell:
            self.screen.resize(rows, columns)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = 30) -> int:
        """Wait for its end, and see its last words; its exit code."""
        self.until(lambda: self.process.poll() is not None, "the end of the program", seconds)
        while select.select([self.master], [], [], 0.05)[0]:
            self.take(0)
        return self.process.returncode

    @property
    def terminal_is_sane(self) -> bool:
        """The line settings are as they were, the cursor is back, and the usual screen is shown without mouse reports."""
        ends = [self.bytes.rfind(off) > self.bytes.rfind(on) for on, off in ((b"\x1b[?1049h", b"\x1b[?1049l"), (b"\x1b[?25l", b"\x1b[?25h"), (b"\x1b[?1000h", b"\x1b[?1000l"))]
        return all(ends) and termios.tcgetattr(self.slave) == self.modes

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for descriptor in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)
