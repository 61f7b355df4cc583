"""What the processes printed: `logs`."""
from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from fedtui.cli.context import Json, complete_name, project
from fedtui.cli.output import paint, say, write_json
from fedtui.project import Project
from poweranger.errors import UserError

LINES, MOST = 50, 10**9
SEARCHED = 10_000  # lines of each log that `-f` looks back through
_POLL_S = 0.3
_LEVELS = {"error": "red", "warning": "yellow", "info": None}
Line = tuple[str, str]  # a process's name and what it printed
Selection = Callable[[Iterable[str]], Iterator[str]]
_NAMES = ("cyan", "green", "yellow", "bold")


def logs(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Processes; else all that have a log.", autocompletion=complete_name)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is printed from now on, until Ctrl+C.")] = False,
    lines: Annotated[int | None, typer.Option("--lines", "-n", min=0, max=MOST, metavar="N", help=f"So many last lines [{LINES}; all with --grep or --since].")] = None,
    grep: Annotated[str | None, typer.Option(metavar="RE", help="Only lines in which this regular expression is found.")] = None,
    since: Annotated[str | None, typer.Option(metavar="T", help='Only lines from then on: "10m", "2h" ago, or a time.')] = None,
    as_json: Json = False,
) -> None:
    """Print what processes printed. Several are merged in time order; --json with -f prints one object a line."""
    from fedtui.logs import merge, read_lines, tail

    found = project()
    paths = log_files(found, names)
    chosen = _selection(grep, since)
    searched = grep is not None or since is not None
    count = LINES if lines is None and not searched else lines
    if follow:
        _follow(found, names, paths, count, chosen, as_json)
    merged = merge({name: chosen(read_lines(path) if searched or count is None else tail(path, count)) for name, path in paths.items()})
    last = _last(merged, count)
    if as_json:
        write_json([{"name": name, "line": line} for name, line in last])
        return
    if not paths:
        say("no log yet: `fedtui up` starts something that writes one")
    _print(last, list(paths))


def log_files(project: Project, names: list[str] | None) -> dict[str, Path]:
    """The logs of `names`, or all there are.

    Raises
    ------
    UserError
        When there is none of that name.
    """
    there = {path.stem: path for path in sorted(project.logs.glob("*.log"))}
    if "server" in there:
        there = {"server": there["server"], **there}
    for name in names or ():
        if name not in there:
            raise UserError(f"there is no log of {name!r} (there are: {', '.join(there) or 'none yet'})")
    return {name: there[name] for name in dict.fromkeys(names)} if names else there


def _selection(grep: str | None, since: str | None) -> Selection:
    """What keeps the lines that `--grep` and `--since` want."""
    from fedtui.logs import compile_pattern, parse_since
    from fedtui.logs import since as lines_since

    pattern = compile_pattern(grep) if grep is not None else None
    moment = parse_since(since) if since is not None else None

    def chosen(lines: Iterable[str]) -> Iterator[str]:
        lines = lines if moment is None else lines_since(lines, moment)
        return (line for line in lines if pattern is None or pattern.search(line))

    return chosen


def _last(lines: Iterable[Line], count: int | None) -> Iterable[Line]:
    return lines if count is None else deque(lines, maxlen=count)


def _follow(
    project: Project, names: list[str] | None, paths: Mapping[str, Path], count: int | None, chosen: Selection, as_json: bool
) -> NoReturn:
    """Print the last lines, then each line as it comes; without `names` also those of logs that begin later."""
    from fedtui.logs import Follower, merge

    followers = {name: Follower(path, SEARCHED) for name, path in paths.items()}
    first = merge({name: chosen(follower.poll()) for name, follower in followers.items()})
    _print(_last(first, count), list(paths), as_json)
    while True:
        new = {name: list(chosen(follower.poll())) for name, follower in followers.items()}
        _print(merge(new), list(followers), as_json)
        if not any(new.values()):
            time.sleep(_POLL_S)
            if not names:
                for name, path in log_files(project, None).items():
                    if name not in followers:
                        followers[name] = Follower(path, SEARCHED)


def _print(lines: Iterable[Line], names: list[str], json_lines: bool = False) -> None:
    """Lines, with their process's name in front when there are several."""
    from fedtui.logs import level_of

    width = max(map(len, names), default=0)
    for name, line in lines:
        if json_lines:
            print(json.dumps({"name": name, "line": line}))
            continue
        text = paint(line, _LEVELS[level_of(line)])
        colour = _NAMES[names.index(name) % len(_NAMES)]
        print(f"{paint(name.ljust(width), colour)} | {text}" if len(names) > 1 else text)
    sys.stdout.flush()
