"""The terminal as it really is: perhaps none, hung up, inside tmux, sending rubbish."""
from __future__ import annotations

import asyncio
import base64
import codecs
import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poweranger.errors import UserError

if TYPE_CHECKING:
    from textual.app import App

CLIPBOARD_BYTES = 56_000  # as base64 about 75 kB, the most that common terminals take in one OSC 52
LEAVE_S = 3  # a stalled terminal may never take the bytes that restore it


def usable_terminal() -> bool:
    """Whether there is a terminal that a full-screen program can use."""
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)  # Textual draws on stderr
    return all(stream is not None and stream.isatty() for stream in streams) and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def require_usable_terminal() -> None:
    """Raise a `UserError` that names the commands to use instead when there is no usable terminal."""
    if not usable_terminal():
        term = os.environ.get("TERM", "")
        why = f"TERM is {term or 'not set'}" if term in ("", "dumb", "unknown") else "input and output are no terminal"
        raise UserError(f"the interface needs a terminal ({why}); without one use `fedtui ps`, `fedtui up --wait`, `fedtui logs -f`")


def speaks_utf8() -> bool:
    """Whether the locale is UTF-8, as far as it is set. (Python itself sets LC_CTYPE to C.UTF-8 where nothing else is.)"""
    locale = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := os.environ.get(name))), "UTF-8")
    return "utf8" in locale.lower().replace("-", "")


def over_ssh() -> bool:
    """Whether this is an SSH session."""
    return any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"))


def prepare() -> None:
    """Before the app is made: cure what Textual is too strict or too lavish about."""
    from textual.drivers import linux_driver

    from fedtui.tui.repaint import send_only_changes

    send_only_changes()
    # Textual#6668: one byte that is no UTF-8, such as line noise, would end the program
    linux_driver.getincrementaldecoder = lambda encoding: partial(codecs.getincrementaldecoder(encoding), errors="replace")  # type: ignore[assignment]
    for name in ("COLUMNS", "LINES"):  # Textual believes them rather than the terminal, also after that has got another size
        os.environ.pop(name, None)
    if os.environ.get("NO_COLOR") == "":  # no-color.org: only a value counts; Textual takes any
        del os.environ["NO_COLOR"]


def leave_on_signals(app: App[Any], save: Callable[[], None]) -> None:
    """Make SIGTERM and SIGHUP save and leave, the former with the terminal restored. Call it on the running app."""
    loop = asyncio.get_running_loop()

    def leave(number: signal.Signals) -> None:
        save()
        if number == signal.SIGHUP:
            os._exit(128 + number)  # nothing is left to restore, and Textual's writer would spin on the dead terminal
        signal.alarm(LEAVE_S)
        app.exit(return_code=128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, leave, number)


def clipboard_sequence(text: str) -> str:
    """What makes the terminal copy `text` (OSC 52), wrapped for tmux and GNU screen, which pass it on to theirs."""
    code = base64.b64encode(text.encode("utf-8", "replace")[:CLIPBOARD_BYTES]).decode()
    sequence = f"\x1b]52;c;{code}\a"
    if os.environ.get("TMUX"):
        return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    if os.environ.get("STY"):  # screen cuts strings at 768 bytes: in pieces
        return "".join(f"\x1bP{sequence[i : i + 700]}\x1b\\" for i in range(0, len(sequence), 700))
    return sequence


def give_to_tmux(text: str) -> None:
    """Put `text` into tmux's own buffer, and by it into the terminal's clipboard: tmux passes on no OSC 52 unless told to."""
    if os.environ.get("TMUX"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["tmux", "load-buffer", "-w", "-"], input=text.encode("utf-8", "replace"), capture_output=True, timeout=2, check=False)


def too_long_to_copy(text: str) -> bool:
    """Whether terminals would not take `text` whole."""
    return len(text.encode("utf-8", "replace")) > CLIPBOARD_BYTES


def page(app: App[Any], path: Path) -> None:
    """Show a file in `$PAGER` (less, which shows escape sequences as text and starts no program); the app waits.

    Raises
    ------
    UserError
        When `$PAGER` is no command or cannot be started, or there is no terminal to show it in: the interface is in a browser.
    """
    from textual.app import SuspendNotSupported

    try:
        command = [*(shlex.split(os.environ.get("PAGER", "")) or ["less"]), str(path)]
    except ValueError as error:
        raise UserError(f"PAGER is no command ({str(error).lower()}): set it to a program that shows files") from None
    try:
        with app.suspend():
            subprocess.run(command, env=os.environ | {"LESSSECURE": "1", "LESS": "-S"}, check=False)
    except SuspendNotSupported:
        raise UserError(f"a pager needs a terminal: read on here, or open {path} in one") from None
    except OSError as error:
        raise UserError(f"{command[0]} cannot be started ({error.strerror}): set PAGER to a program that shows files") from None
    finally:
        app.refresh(layout=True)
