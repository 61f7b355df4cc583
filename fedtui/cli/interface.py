"""Opening the interface: `fedtui` alone, and `fedtui demo` in a terminal."""
from __future__ import annotations

from typing import Annotated

import click
import typer

from fedtui.cli.context import project

ReadOnly = Annotated[bool, typer.Option("--read-only", help="In the interface: start, stop and change nothing.")]
NoMouse = Annotated[bool, typer.Option("--no-mouse", help="In the interface: leave the mouse to the terminal.")]
Ascii = Annotated[bool, typer.Option("--ascii", help="In the interface: draw with ASCII only.")]


def open_here() -> int:
    """Open the interface with the global options; its exit code.

    Raises
    ------
    UserError
        When there is no terminal: with the commands to use instead.
    """
    from fedtui.tui.app import open_interface

    options = click.get_current_context().find_root().params
    return open_interface(project(), read_only=options["read_only"], mouse=not options["no_mouse"], ascii=options["ascii"])
