"""Edits the text of a TOML file at one place and leaves every other character as it was.

The place is found by scanning for the text's statements, and the text is cut there. tomlkit makes the values and edits
inside of inline tables, but is not trusted with the file: it puts a new key behind the next table's comment, ends its
lines with LF in a CRLF file, and sorts some files anew. Each edit is checked by parsing the result; one that would mean
anything else than asked is refused.
"""
from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomlkit

from poweranger.errors import UserError

Path = Sequence[str]

_KEY = r"""(?:"(?:\\.|[^"\\])*"|'[^']*'|[A-Za-z0-9_-]+)"""
_KEYS = rf"{_KEY}(?:[ \t]*\.[ \t]*{_KEY})*"
_STRING = r'''"""(?:\\.|[^\\])*?""""{0,2}|\'\'\'.*?\'\'\'\'{0,2}|"(?:\\.|[^"\\])*"|'[^']*\''''
_BLANK = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*")
_HEADER = re.compile(rf"[ \t]*\[\[?[ \t]*(?P<keys>{_KEYS})[ \t]*\]\]?")
_ASSIGNMENT = re.compile(rf"[ \t]*(?P<keys>{_KEYS})[ \t]*=[ \t]*")
_TOKEN = re.compile(rf"(?P<string>{_STRING})|#[^\n]*|(?P<open>[\[{{])|(?P<close>[\]}}])|[^\"'#\[\]{{}}]+", re.DOTALL)
_SCALAR = re.compile(rf"(?:{_STRING})|[^#\r\n]*[^#\r\n \t]", re.DOTALL)


@dataclass(frozen=True)
class _Statement:
    """A header or an assignment: `text[start:end]` are its whole lines.

    Attributes
    ----------
    path : of the table or key, from the document's root.
    table : path of the header it stands under.
    last_key : offset of the last part of its key.
    value : (start, end) of its value; None for a header.
    """

    path: tuple[str, ...]
    table: tuple[str, ...]
    start: int
    end: int
    last_key: int
    value: tuple[int, int] | None


def set_value(text: str, path: Path, value: object) -> str:
    """Set the key at `path`: its value is exchanged, or a line is added to its table, or its table to the file.

    Parameters
    ----------
    text : a valid TOML document.

    Raises
    ------
    UserError
        When the file is written in a way that cannot be edited without changing more than that.
    """
    *parents, name = path
    wanted = tomllib.loads(text)
    _descend(wanted, parents, create=True)[name] = value
    return _checked(_set(text, path, value), wanted, path)


def add_table(text: str, path: Path, values: Mapping[str, object]) -> str:
    """Add the table `[path]` with `values`: behind its last sibling, or at the end. Raises as `set_value` does."""
    wanted = tomllib.loads(text)
    _descend(wanted, path, create=True).update(values)
    parents, lines = tuple(path[:-1]), [f"{name} = {_literal(value)}" for name, value in values.items()]
    if inline := _inline(text, path):
        return _checked(_edit_inline(text, inline, path, dict(values)), wanted, path)
    ended = _ended(text)
    siblings = [s.end for s in _statements(ended) if s.table[: len(parents)] == parents and len(s.table) > len(parents)]
    if not siblings:
        return _checked(_append_table(text, path, lines), wanted, path)
    block = _newline(text).join(["", _header(path), *lines, ""])
    return _checked(ended[: siblings[-1]] + block + text[siblings[-1] :], wanted, path)


def remove(text: str, path: Path) -> str:
    """Take away the key at `path`, or the table with the tables in it; comments above and behind stay.

    Raises
    ------
    UserError
        As `set_value` does.
    """
    wanted, whole = tomllib.loads(text), tuple(path)
    del _descend(wanted, path[:-1])[path[-1]]
    if inline := _inline(text, path):
        return _checked(_edit_inline(text, inline, path, None), wanted, path)
    blocks: list[tuple[int, int]] = []
    for statement in _statements(_ended(text)):
        if statement.path[: len(whole)] != whole:
            continue
        if statement.value and statement.table[: len(whole)] == whole:  # below its header: comments in between go with it
            blocks[-1] = (blocks[-1][0], statement.end)
        else:
            blocks.append((statement.start, statement.end))
    for start, end in reversed(blocks):
        before, after = text[:start], text[end:]
        is_table = text[start:end].lstrip().startswith("[")
        if is_table and before.endswith(("\n\n", "\n\r\n")) and (not after or after.startswith(("\n", "\r\n"))):
            before = before[: before.rindex("\n", 0, -1) + 1]  # of the blank lines around it one goes as well
        text = before + after
    return _checked(text, wanted, path, emptied=True)


def _set(text: str, path: Path, value: object) -> str:
    parents, literal, newline = tuple(path[:-1]), _literal(value), _newline(text)
    ended = _ended(text)
    statements = list(_statements(ended))
    for statement in statements:
        if statement.path == tuple(path) and statement.value:
            start, end = statement.value
            return text[:start] + literal + text[end:]
    if inline := _inline(text, path):
        return _edit_inline(text, inline, path, value)
    siblings = [s for s in statements if s.value and s.path[:-1] == parents]
    headers = [s for s in statements if not s.value and s.path == parents]
    if siblings:  # behind the last one, indented and dotted as that is
        place, prefix = siblings[-1].end, text[siblings[-1].start : siblings[-1].last_key]
    elif headers:
        place, prefix = headers[0].end, ""
    else:
        return _append_table(text, parents, [f"{_key(path[-1])} = {literal}"])
    return f"{ended[:place]}{prefix}{_key(path[-1])} = {literal}{newline}{text[place:]}"


def _statements(text: str) -> Iterator[_Statement]:
    """The statements of a valid TOML document that ends with a newline."""
    table: tuple[str, ...] = ()
    offset = _end(_BLANK, text, 0)
    while offset < len(text):
        start = offset
        header = _HEADER.match(text, start)
        if header:
            path = table = _path(f"[{header['keys']}]")
            value, offset = None, header.end()
        else:
            assignment = _ASSIGNMENT.match(text, start)
            assert assignment is not None
            path = table + _path(f"{assignment['keys']} = {{}}")
            value = (assignment.end(), _value_end(text, assignment.end()))
            offset = value[1]
        keys = header or assignment
        assert keys is not None
        last_key = keys.start("keys") + [match.start() for match in re.finditer(_KEY, keys["keys"])][-1]
        offset = text.index("\n", offset) + 1
        yield _Statement(path, table, start, offset, last_key, value)
        offset = _end(_BLANK, text, offset)


def _value_end(text: str, start: int) -> int:
    if text[start] not in "[{":
        return _end(_SCALAR, text, start)
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += (token["open"] is not None) - (token["close"] is not None)
        if depth == 0:
            return token.end()
    raise AssertionError("a valid document closes its brackets")


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    match = pattern.match(text, start)
    assert match is not None
    return match.end()


def _path(line: str) -> tuple[str, ...]:
    table, path = tomllib.loads(line), []
    while table:
        ((name, table),) = table.items()
        path.append(name)
    return tuple(path)


def _inline(text: str, path: Path) -> _Statement | None:
    """The assignment of the inline table that the key at `path` stands in or belongs in."""
    for statement in _statements(_ended(text)):
        above = tuple(path[: len(statement.path)]) == statement.path and len(statement.path) < len(path)
        if above and statement.value and text[statement.value[0]] == "{":
            return statement
    return None


def _edit_inline(text: str, statement: _Statement, path: Path, value: object) -> str:
    """Set the key at `path` inside of an inline table, or take it away when `value` is None."""
    assert statement.value is not None
    start, end = statement.value
    document = tomlkit.parse(f"x = {text[start:end]}")
    *inner, name = path[len(statement.path) :]
    table: Any = document["x"]
    for part in inner:
        table = table.setdefault(part, tomlkit.inline_table())
    if value is None:
        del table[name]
    else:
        table[name] = value
    return text[:start] + tomlkit.dumps(document).removeprefix("x = ") + text[end:]


def _append_table(text: str, path: Path, lines: list[str]) -> str:
    text, newline = _ended(text), _newline(text)
    gap = newline if text and not text.endswith(("\n\n", "\n\r\n")) else ""
    return text + gap + newline.join([_header(path), *lines, ""])


def _checked(text: str, wanted: Mapping[str, Any], path: Path, emptied: bool = False) -> str:
    """`text`, when it parses to `wanted`; with `emptied` a table left empty is as good as none."""
    try:
        got = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        got = {}
    if got == wanted or (emptied and _without_empty(got) == _without_empty(wanted)):
        return text
    raise UserError(f"pyproject.toml writes {'.'.join(path)} in a way that cannot be edited here: edit it by hand")


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: inner for name, inner in ((k, _without_empty(v)) for k, v in value.items()) if inner != {}}


def _descend(table: dict[str, Any], path: Path, create: bool = False) -> dict[str, Any]:
    for name in path:
        table = table.setdefault(name, {}) if create else table[name]
    return table


def _literal(value: object) -> str:
    if isinstance(value, Mapping):
        table = tomlkit.inline_table()
        table.update(value)
        return table.as_string()
    return tomlkit.item(value).as_string()


def _key(name: str) -> str:
    return tomlkit.key(name).as_string()


def _header(path: Path) -> str:
    return f"[{'.'.join(_key(name) for name in path)}]"


def _ended(text: str) -> str:
    return text if text.endswith("\n") or not text else text + _newline(text)


def _newline(text: str) -> str:
    return "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
