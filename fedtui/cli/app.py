"""The command `fedtui`: its global options and its list of commands."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import typer.core

from fedtui.cli import (
    clients,
    config,
    doctor,
    info,
    init,
    interface,
    keys,
    logs,
    memory,
    metrics,
    processes,
    programs,
    runs,
    simulate,
    up,
    upload,
    web,
)
from fedtui.version import version as installed_version

typer.core.HAS_RICH = False  # with rich at hand it writes "\[default: ...]", also where it does not print by rich
app = typer.Typer(
    help="Federated training, run from the terminal: start it, watch it, leave it, come back to it. Without a command it opens the interface.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong use, 3 not ready in time, 4 port in use (web only), 128+N ended by signal N.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    suggest_commands=False,  # click does it, too
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fedtui {installed_version()}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    project: Annotated[Path | None, typer.Option(metavar="DIR", help="The project folder; else the nearest one from here upwards.")] = None,
    read_only: interface.ReadOnly = False,
    no_mouse: interface.NoMouse = False,
    ascii: interface.Ascii = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """`project` is read by `fedtui.cli.context`, the interface's options by `fedtui.cli.interface`."""
    if context.invoked_subcommand is None:
        raise typer.Exit(interface.open_here())


for command in (
    up.up, processes.down, processes.ps, processes.start, processes.stop, processes.restart, processes.kill,
    logs.logs, metrics.metrics, memory.memory, runs.runs, programs.data, programs.evaluate, programs.predict, programs.export, simulate.simulate, simulate.demo, web.web, init.init, doctor.doctor, info.info, info.daemon,
):  # fmt: skip
    app.command()(command)
app.add_typer(clients.app, name="client")
app.add_typer(config.app, name="config")
app.add_typer(keys.app, name="keys")
app.add_typer(upload.app, name="upload")
