"""The view of logs on a terminal: time to show a log, key to paint, CPU and memory; beside Textual's own `Log`.

    python benchmarks/log_view.py [--mb 1000] [--log-mb 64]

Each view runs in a process of its own on a pseudo-terminal of 120x40. Ours shows a log of `--mb`, then searches it, then
one that grows by 5,000 lines a second; Textual's `Log` shows one of `--log-mb`, as it keeps all in memory. The run fails when one
key of ours in twenty takes longer than 100 ms to paint, or when ours needs more memory for the big log than `Log` for the small one.
"""
from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[1]
SIZE = (40, 120)
LIMIT_S = 0.100
LINES_A_SECOND = 5000
PAGES = 30


def line(number: int) -> bytes:
    """A line as our programs log, 100 bytes."""
    return b"2026-01-31 14:00:05,123 INFO line %09d of a client: batch done, loss=0.31234 accuracy=0.91234, go on\n" % number


def write(path: Path, megabytes: int) -> int:
    """Write a log; the number of its lines."""
    count = megabytes * 1_000_000 // len(line(0))
    with path.open("wb", buffering=1 << 20) as file:
        for number in range(count):
            file.write(line(number))
    return count


class Terminal:
    """A program on a pseudo-terminal."""

    def __init__(self, view: str, path: Path) -> None:
        self.began = time.monotonic()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(PROJECT)}
            os.execve(sys.executable, [sys.executable, __file__, "--show", view, str(path)], environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
        self.process = psutil.Process(self.pid)

    def read(self, seconds: float) -> bytes:
        """What comes within so many seconds, as soon as anything comes."""
        return os.read(self.fd, 1 << 16) if select.select([self.fd], [], [], max(seconds, 0))[0] else b""

    def drain(self, quiet: float) -> int:
        """Read until nothing has come for so long; how many bytes that were."""
        count = 0
        while data := self.read(quiet):
            count += len(data)
        return count

    def see(self, text: bytes, seconds: float) -> float:
        """Seconds until `text` is painted."""
        begin, seen = time.monotonic(), b""
        while text not in seen:
            seen = seen[-len(text) :] + self.read(begin + seconds - time.monotonic())
            if time.monotonic() > begin + seconds:
                raise RuntimeError(f"{text!r} was not painted within {seconds:g} s")
        return time.monotonic() - begin

    def key(self, key: bytes, seconds: float = 60) -> float:
        """Seconds from a key to the first byte painted."""
        self.drain(0.02)
        os.write(self.fd, key)
        begin = time.monotonic()
        if not self.read(seconds):
            raise RuntimeError(f"the key {key!r} painted nothing within {seconds:g} s")
        return time.monotonic() - begin

    def pages(self) -> list[float]:
        """Key to paint of page up, again and again."""
        return [self.key(b"\x1b[5~") for _ in range(PAGES)]

    def megabytes(self) -> float:
        """Memory of its own (USS) with that of its children."""
        return sum(process.memory_full_info().uss for process in (self.process, *self.process.children(recursive=True))) / 1e6

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return sum(self.process.cpu_times()[:4])

    def close(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@contextlib.contextmanager
def terminal(view: str, path: Path) -> Iterator[Terminal]:
    """A view of a log, surely ended."""
    shown = Terminal(view, path)
    try:
        yield shown
    finally:
        shown.close()


@contextlib.contextmanager
def growing(path: Path) -> Iterator[None]:
    """Write 5,000 lines a second meanwhile."""
    done = threading.Event()

    def grow() -> None:
        number, begin = 0, time.monotonic()
        with path.open("ab", buffering=0) as file:
            while not done.wait(0.02):
                wanted = int((time.monotonic() - begin) * LINES_A_SECOND)
                file.write(b"".join(map(line, range(number, wanted))))
                number = wanted

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mb", type=int, default=1000)
    parser.add_argument("--log-mb", type=int, default=64)
    parser.add_argument("--show", nargs=2, metavar=("VIEW", "PATH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.show:
        show(options.show[0], Path(options.show[1]))
        return
    keys_of_ours: list[float] = []
    memory = theirs = 0.0
    with tempfile.TemporaryDirectory() as folder:
        small, big, live = (Path(folder) / f"{name}.log" for name in ("small", "big", "live"))
        last = write(small, options.log_mb) - 1
        with terminal("log", small) as view:
            load = view.see(b"%09d" % last, 300)
            keys, theirs = view.pages(), view.megabytes()
            report(f"Log, {options.log_mb} MB", f"shown after {load:.2f} s", keys, theirs)
        last = write(big, options.mb) - 1
        with terminal("ours", big) as view:
            load = view.see(b"%09d" % last, 300)
            view.see(b"%s lines" % f"{last + 1:,}".encode(), 300)
            indexed = time.monotonic() - view.began
            keys, memory = view.pages(), view.megabytes()
            report(f"ours, {options.mb} MB", f"shown after {load:.2f} s, indexed after {indexed:.2f} s", keys, memory)
            keys_of_ours += keys
            begin = time.monotonic()
            os.write(view.fd, b"/")
            view.drain(0.3)
            os.write(view.fd, b"line 000000001 of\r")
            keys = view.pages()
            keys_of_ours += keys
            view.see(b"1 of 1", 300)
            memory = max(memory, view.megabytes())
            report("  meanwhile searched", f"first line found after {time.monotonic() - begin:.1f} s", keys, view.megabytes())
        live.touch()
        with growing(live), terminal("ours", live) as view:
            view.see(b"line 0000", 60)
            time.sleep(3)
            view.drain(0.0)
            cpu, begin, count = view.cpu(), time.monotonic(), 0
            while time.monotonic() < begin + 8:
                count += len(view.read(0.2))
            cpu, seconds = view.cpu() - cpu, time.monotonic() - begin
            keys = view.pages()
            keys_of_ours += keys
            report(f"ours, {LINES_A_SECOND} lines/s", f"{100 * cpu / seconds:.1f} % of a core, {count / seconds:.0f} B/s", keys, view.megabytes())
    slow = statistics.quantiles(keys_of_ours, n=20)[-1]
    print(f"memory: {memory / theirs:.2f} times Log's with {options.mb / options.log_mb:.0f} times its lines")
    print(f"95 % of the keys within {1000 * slow:.0f} ms")
    if slow > LIMIT_S or memory > theirs:
        sys.exit("failed: keys must paint within 100 ms, and the big log must need less memory than the small one in Log")


def report(name: str, what: str, keys: list[float], megabytes: float) -> None:
    """One line of the table."""
    print(f"{name:24} {what:42} key to paint {1000 * statistics.median(keys):5.1f} ms, at most {1000 * max(keys):6.1f}; {megabytes:6.1f} MB", flush=True)


def show(view: str, path: Path) -> None:
    """The program on the pseudo-terminal."""
    make: Callable[[Path], None] = {"ours": show_ours, "log": show_log}[view]
    make(path)


def show_ours(path: Path) -> None:
    """The place for logs, in the interface as it is."""
    os.environ["XDG_STATE_HOME"] = str(path.parent / "state")
    from fedtui.project import Project
    from fedtui.tui.app import FedApp

    root = path.with_suffix("")
    (root / "results" / "logs").mkdir(parents=True, exist_ok=True)
    (root / "results" / "logs" / "server.log").symlink_to(path)
    (root / "pyproject.toml").write_text('[tool.flwr.app]\npublisher = "benchmark"\n')
    app = FedApp(Project.find(root))
    app._saved["place"] = "logs"
    app.run()


def show_log(path: Path) -> None:
    """Textual's own widget."""
    from textual.app import App, ComposeResult
    from textual.widgets import Log

    class LogApp(App[None]):
        def compose(self) -> ComposeResult:
            yield Log()

        def on_mount(self) -> None:
            log = self.query_one(Log)
            log.focus()
            log.write(path.read_text())

    app = LogApp()
    app.animation_level = "none"
    app.run()


if __name__ == "__main__":
    main()
