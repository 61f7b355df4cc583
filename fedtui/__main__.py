"""The program `fedtui`."""
from __future__ import annotations

import os
import sys
from pathlib import Path

from fedtui.project import Project
from poweranger.errors import UserError, run_program

SWITCHES = {"--read-only", "--no-mouse", "--ascii"}  # of the interface, which opens where there is no command


def main() -> None:
    """Run one command and exit with its code; a user's mistake becomes one sentence on stderr."""
    run_program("fedtui", _run)


def _run() -> int:
    words = _hoist_project(sys.argv[1:])
    folder, rest = (Path(words[1]), words[2:]) if words[:1] == ["--project"] and len(words) > 1 else (None, words)
    completing = "_FEDTUI_COMPLETE" in os.environ
    if set(rest) <= SWITCHES and not completing:  # at once: importing the command line's machinery takes a third of the start
        from fedtui.tui.app import open_interface

        return open_interface(Project.find(folder), read_only="--read-only" in rest, mouse="--no-mouse" not in rest, ascii="--ascii" in rest)
    return _run_command(words)


def _run_command(words: list[str]) -> int:
    import click

    from fedtui.cli.app import app
    from fedtui.cli.output import say

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without UTF-8 shows `?`
    try:
        return app(words, prog_name="fedtui", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except UserError as error:  # may quote a file or a log: `say` cleans it
        say(f"fedtui: {error}")
        return error.exit_code
    except OSError as error:  # a full disk, a folder of somebody else
        say(f"fedtui: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        return 1


def _hoist_project(words: list[str]) -> list[str]:
    """Put `--project DIR` first: it is global, so it may stand behind the command, too."""
    end = words.index("--") if "--" in words else len(words)
    for place, word in enumerate(words[:end]):
        if word == "--project" and place + 1 < end:
            return [*words[place : place + 2], *words[:place], *words[place + 2 :]]
        if word.startswith("--project="):
            return [word, *words[:place], *words[place + 1 :]]
    return words


if __name__ == "__main__":
    main()
