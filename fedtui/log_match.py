"""Regular expressions in a process of their own: one that would take for ever can be ended, and holds nothing else up."""
from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import struct
import subprocess
import sys
from array import array
from pathlib import Path
from typing import IO

from fedtui.cleaning import LIMIT, clean
from poweranger.errors import UserError

SECONDS = 2.0  # for one block of 64 KiB, which takes milliseconds
_FRAME = struct.Struct("<I")


def smart_case(text: str) -> re.RegexFlag:
    """An expression without capital letters finds both cases."""
    return re.RegexFlag.NOFLAG if any(char.isupper() for char in text) else re.IGNORECASE


class Matcher:
    """Finds the lines that match `include` and not `exclude` (regular expressions; empty: all, none).

    Raises
    ------
    UserError
        When one of them is no regular expression.
    """

    def __init__(self, include: str = "", exclude: str = "") -> None:
        from fedtui.log_lines import compile_pattern

        for text in (include, exclude):
            compile_pattern(text)
        self.include, self.exclude = include, exclude
        self.broken = False  # has taken too long
        self._process: subprocess.Popen[bytes] | None = None

    def matches(self, lines: list[bytes]) -> list[int]:
        """Which of these raw lines match, by their place in the list.

        Raises
        ------
        UserError
            When it takes too long; the matcher is of no use any more.
        """
        if not (self.include or self.exclude):
            return list(range(len(lines)))
        if not lines:
            return []
        process = self._process = self._process or self._start()
        assert process.stdin and process.stdout
        try:
            _write(process.stdin, b"\n".join(lines))
            if select.select([process.stdout], [], [], SECONDS)[0]:
                return array("I", _read(process.stdout)).tolist()
            problem = "this expression takes too long: simplify what is repeated inside a repetition, such as (a+)+"
        except (OSError, EOFError, ValueError):
            problem = "the process that searches is gone: search again"
        self.broken = True
        self.close()
        raise UserError(problem)

    def close(self) -> None:
        """End the process."""
        if self._process:
            self._process.kill()
            self._process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "fedtui.log_match"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path}, start_new_session=True,
        )  # fmt: skip
        assert process.stdin
        _write(process.stdin, json.dumps([self.include, self.exclude]).encode())
        return process


def _write(file: IO[bytes], data: bytes) -> None:
    file.write(_FRAME.pack(len(data)) + data)
    file.flush()


def _read(file: IO[bytes]) -> bytes:
    """One frame; `EOFError` at the end."""
    if len(head := file.read(_FRAME.size)) < _FRAME.size:
        raise EOFError
    return file.read(_FRAME.unpack(head)[0])


class _Pattern:
    def __init__(self, text: str) -> None:
        self._line = re.compile(text, smart_case(text))
        self._text = text.lower() if smart_case(text) else text
        self._literal = not set(text) & set(r".^$*+?{}[]\|()") and text.isascii()
        # without these nothing in it can match a newline, so that all lines can be searched at once
        whole = not any(sign in text for sign in ("\\", "[^", "(?"))
        self._lines = re.compile(text, smart_case(text) | re.MULTILINE) if whole else None

    def matches(self, text: str) -> set[int]:
        """The numbers of the lines that match, of text as it came."""
        lines = text.split("\n")
        plain = text.isascii() and text.replace("\n", "").isprintable() and len(max(lines, key=len)) <= LIMIT
        if not (plain and self._lines):
            return {n for n, line in enumerate(lines) if self._line.search(line if plain else clean(line))}
        found, number, at = set(), 0, 0
        searched = text.lower() if self._literal and smart_case(self._text) else text
        while (begin := self._find(searched, at)) >= 0:
            number += text.count("\n", at, begin)
            found.add(number)
            if (at := text.find("\n", begin) + 1) == 0:
                break
            number += 1
        return found

    def _find(self, text: str, at: int) -> int:
        if self._literal:
            return text.find(self._text, at)
        assert self._lines
        match = self._lines.search(text, at)
        return match.start() if match else -1


def main() -> None:
    """Answer blocks of lines with the numbers of those that match, until the other end closes."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    include, exclude = (_Pattern(text) if text else None for text in json.loads(_read(source)))
    with contextlib.suppress(EOFError):
        while True:
            signal.alarm(0)
            text = _read(source).decode("utf-8", "surrogateescape")
            signal.alarm(round(2 * SECONDS))  # its default action ends a search for ever, also when nobody is left to do it
            found = include.matches(text) if include else set(range(text.count("\n") + 1))
            _write(target, array("I", sorted(found - exclude.matches(text) if exclude else found)).tobytes())


if __name__ == "__main__":
    main()
