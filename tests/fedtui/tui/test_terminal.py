"""The real program on a real pseudo-terminal: signals, hang-up, rubbish from the keyboard, and terminals that are none."""
from __future__ import annotations

import contextlib
import fcntl
import json
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
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from textual.app import App

from fedtui.tui import terminal
from fedtui.tui.glyphs import to_ascii
from poweranger.errors import UserError
from tests.fedtui.daemon.conftest import REPOSITORY, House

LEAVE, SHOW_CURSOR, NO_MOUSE = b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l"


class Terminal:
    """`fedtui` on a pseudo-terminal of its own, which is its controlling one."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.modes = termios.tcgetattr(slave)
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fedtui", *words], cwd=folder, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **environment},
        )
        self.slave = slave

    def read(self, seconds: float) -> bool:
        """Take in what comes within so many seconds; whether anything came."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):
            self.seen += os.read(self.master, 1 << 16)
        return True

    def shows(self, text: bytes, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} did not come: {self.seen[-3000:]!r}"
            self.read(0.2)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self, seconds: float = 20) -> int:
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end: {self.seen[-3000:]!r}"
            self.read(0.1)
        while self.read(0):
            if self.process.poll() is not None and not select.select([self.master], [], [], 0.05)[0]:
                break
        return self.process.returncode

    def sane(self) -> bool:
        """Whether the terminal is as it was: its modes, its screen, its cursor, its mouse."""
        return termios.tcgetattr(self.slave) == self.modes and all(self.seen.rfind(word) > self.seen.rfind(b"Processes") for word in (LEAVE, SHOW_CURSOR))


@pytest.fixture
def on_terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_it(*words: object, **environment: str) -> Terminal:
        opened.append(Terminal(*words, **environment))  # type: ignore[arg-type]
        return opened[-1]

    yield open_it
    for one in opened:
        one.process.kill()
        one.process.wait()
        for descriptor in (one.master, one.slave):
            with contextlib.suppress(OSError):
                os.close(descriptor)


Opener = Callable[..., Terminal]


def test_quitting_leaves_the_terminal_as_it_was(house: House, on_terminal: Opener) -> None:
    opened = on_terminal(house.root)
    opened.shows(b"0 of 3 run")
    opened.type(b"q")
    assert opened.end() == 0
    assert opened.sane() and NO_MOUSE in opened.seen


def test_sigterm_restores_the_terminal_and_remembers(house: House, on_terminal: Opener) -> None:
    house.post("/v1/up")
    house.reach("running", "C1", "C2")
    opened = on_terminal(house.root)
    opened.shows(b"3 of 3 run")
    opened.type(b"G")
    opened.shows("▸ C2".encode())
    opened.process.send_signal(signal.SIGTERM)
    assert opened.end() == 128 + signal.SIGTERM
    assert opened.sane()
    assert json.loads((house.project.state / "tui.json").read_bytes())["selected"] == "C2"
    assert {process["state"] for process in house.ps().values()} == {"running"}


def test_a_lost_connection_ends_the_interface_and_nothing_else(house: House, on_terminal: Opener) -> None:
    house.post("/v1/up")
    house.reach("running", "C1", "C2")
    opened = on_terminal(house.root)
    opened.shows(b"3 of 3 run")
    os.close(opened.slave)
    os.close(opened.master)  # as sshd does when the connection drops: the kernel sends SIGHUP
    assert opened.process.wait(20) == 128 + signal.SIGHUP
    assert (house.project.state / "tui.json").exists()
    assert {process["state"] for process in house.ps().values()} == {"running"}


def test_a_kill_leaves_everything_running(house: House, on_terminal: Opener) -> None:
    house.post("/v1/up")
    house.reach("running", "C1", "C2")
    opened = on_terminal(house.root)
    opened.shows(b"3 of 3 run")
    opened.process.kill()
    opened.process.wait()
    assert {process["state"] for process in house.ps().values()} == {"running"}


def test_bytes_that_are_no_text_do_no_harm(house: House, on_terminal: Opener) -> None:
    opened = on_terminal(house.root)
    opened.shows(b"0 of 3 run")
    opened.type(b"\xff\xfe\x80\xc3(\x1b[M\xff\xf0\xf1")
    while opened.process.poll() is None:  # the first key may still be taken for a part of what was begun
        opened.type(b"q")
        opened.read(0.5)
    assert opened.end() == 0


def test_a_frozen_terminal_slows_down_nobody_else(house: House, on_terminal: Opener) -> None:
    opened = on_terminal(house.root)
    opened.shows(b"0 of 3 run")
    begin = time.monotonic()
    for _ in range(20):  # nobody reads the terminal meanwhile
        house.post("/v1/processes/C1/start", force=True)
        house.post("/v1/processes/C1/kill")
    assert time.monotonic() - begin < 60
    opened.process.send_signal(signal.SIGTERM)
    assert opened.end() == 128 + signal.SIGTERM


def test_the_demo_opens_it_with_the_run_already_going(house: House, on_terminal: Opener) -> None:
    opened = on_terminal(house.root, "demo")
    opened.shows(b"4 of 6 run")  # the clients of the roster stay out of it
    opened.type(b"q")
    opened.shows(b"leave them running")
    opened.type(b"D")
    assert opened.end() == 0
    assert {process["state"] for process in house.ps().values()} == {"stopped"}


def test_ascii_sends_nothing_else(house: House, on_terminal: Opener) -> None:
    opened = on_terminal(house.root, "--ascii")
    opened.shows(b"0 of 3 run")
    opened.type(b"?")
    opened.shows(b"Everywhere")
    assert opened.seen.isascii()


def test_a_locale_without_utf8_gets_ascii(house: House, on_terminal: Opener) -> None:
    opened = on_terminal(house.root, LC_ALL="C")
    opened.shows(b"0 of 3 run")
    assert opened.seen.isascii()


def test_no_mouse_leaves_the_mouse_alone(house: House, on_terminal: Opener) -> None:
    opened = on_terminal(house.root, "--no-mouse")
    opened.shows(b"0 of 3 run")
    assert b"\x1b[?1000h" not in opened.seen


def test_no_color_sends_none_and_still_tells_states_apart(house: House, on_terminal: Opener) -> None:
    opened = on_terminal(house.root, NO_COLOR="1")
    opened.shows("○ stopped".encode())
    colours = {part for codes in re.findall(rb"\x1b\[([0-9;]*)m", opened.seen) for part in re.findall(rb"38;2;(\d+);(\d+);(\d+)", codes)}
    assert all(red == green == blue for red, green, blue in colours)


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_do_it_is_refused(house: House, on_terminal: Opener, term: str) -> None:
    opened = on_terminal(house.root, TERM=term)
    assert opened.end() == 2
    assert b"fedtui ps" in opened.seen and b"fedtui up --wait" in opened.seen and b"\x1b" not in opened.seen


def test_no_terminal_is_refused_with_the_commands_to_use(house: House) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedtui"], cwd=house.root, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert "fedtui ps" in done.stderr and "Traceback" not in done.stderr


class TestClipboard:
    def test_it_is_wrapped_for_tmux(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("TMUX", raising=False)
        monkeypatch.delenv("STY", raising=False)
        assert terminal.clipboard_sequence("hi") == "\x1b]52;c;aGk=\a"
        monkeypatch.setenv("TMUX", "/tmp/tmux,1,0")
        assert terminal.clipboard_sequence("hi") == "\x1bPtmux;\x1b\x1b]52;c;aGk=\a\x1b\\"

    def test_it_has_a_limit(self) -> None:
        assert not terminal.too_long_to_copy("x" * terminal.CLIPBOARD_BYTES)
        assert terminal.too_long_to_copy("ü" * terminal.CLIPBOARD_BYTES)


@pytest.mark.parametrize(
    ("variables", "utf8"),
    [({}, True), ({"LANG": "de_DE.UTF-8"}, True), ({"LANG": "en_US.utf8"}, True), ({"LANG": "de_DE.ISO-8859-1"}, False), ({"LC_ALL": "C", "LANG": "C.UTF-8"}, False)],
)
def test_the_locale_decides_about_unicode(variables: dict[str, str], utf8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert terminal.speaks_utf8() is utf8


def test_a_pager_that_is_no_command_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "less 'x")
    with pytest.raises(UserError, match="PAGER is no command \\(no closing quotation\\)"):
        terminal.page(App(), tmp_path / "C1.log")


def test_ascii_keeps_widths() -> None:
    assert to_ascii("● running ▁▂█ ╭─╮ é 患者 ⣿") == "* running __# +-+ ? ???? #"


def test_the_private_function_that_is_replaced_is_the_one_we_know() -> None:
    """`repaint.py` stands in for Textual's own: when that changes, read it again before this is corrected."""
    import inspect

    from textual import _compositor

    original = inspect.getsource(_compositor.ChopsUpdate.__init__)
    assert {"chops", "spans", "chop_ends"} <= set(inspect.signature(_compositor.ChopsUpdate.__init__).parameters), original
    assert list(inspect.signature(_compositor.ChopsUpdate.render_segments).parameters) == ["self", "console"]
    assert version("textual").startswith("8.")
