"""The program `fedtui`."""
from __future__ import annotations

import sys

from poweranger.errors import UserError, run_program


def main() -> None:
    """Run one command and exit with its code; a user's mistake becomes one sentence on stderr."""
    run_program("fedtui", _run)


def _run() -> int:
    import click

    from fedtui.cli.app import app
    from fedtui.cli.output import say

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without UTF-8 shows `?`
    try:
        return app(_hoist_project(sys.argv[1:]), prog_name="fedtui", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except UserError as error:  # may quote a file or a log: `say` cleans it
        say(f"fedtui: {error}")
        return error.exit_code


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
