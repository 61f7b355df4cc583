"""Runs that need no set-up: `simulate` (all clients in Flower's simulation) and `demo`."""
from __future__ import annotations

import os
from typing import Annotated

import typer

from fedtui.cli.context import Json, Set, daemon, parse_set
from fedtui.cli.output import say, write, write_json
from fedtui.cli.up import READY_S
from fedtui.processes import ACTIVE
from poweranger.errors import UserError

DEMO = {"fraction-fit": 1.0, "fraction-evaluate": 1.0, "start-clients": 3}


def simulate(
    supernodes: Annotated[int | None, typer.Option(min=1, metavar="N", help="Virtual clients.")] = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Run everything in Flower's simulation. Shows the progress of `flwr run .`, and exits with its outcome."""
    from fedtui.cli.watch import Watch, follow_run, log_end, say_detached

    client = daemon()
    watch, offset = Watch(client), log_end(client, "simulation")
    try:
        data_dir = os.environ.get("DATA_DIR") or None
        client.simulate(
            supernodes=supernodes, set=parse_set(set_, site_keys=True), data_dir=data_dir and os.path.abspath(os.path.expanduser(data_dir))
        )
        code = follow_run(watch, "simulation", offset)
    except KeyboardInterrupt:
        say_detached()
        raise
    if as_json:
        write_json({"exit_code": code, "progress": client.progress()})
    raise typer.Exit(code)


def demo() -> None:
    """Train on made-up images. A server and three clients, five rounds: to see what this is. In a terminal the interface shows it."""
    from fedtui.cli.interface import open_here
    from fedtui.cli.watch import Watch, follow_run, log_end, say_detached, wait_until_ready
    from fedtui.tui.terminal import usable_terminal

    client = daemon()
    started = client.running() is None
    busy = [process["name"] for process in client.processes() if process["state"] in ACTIVE]
    if busy:
        raise UserError(f"{', '.join(busy)} run here already: watch them with `fedtui up --wait`, or stop them with `fedtui down`")
    watch, offset = Watch(client), log_end(client, "server")
    try:
        answer = client.up(clients=3, rounds=5, set=DEMO, run_name="demo", synthetic=True)
        if usable_terminal():
            raise typer.Exit(open_here())
        names = [process["name"] for process in answer["processes"]]
        say("a server and three clients on synthetic images, five rounds; the first takes longest")
        code = wait_until_ready(watch, names, READY_S) or follow_run(watch, "server", offset)
    except KeyboardInterrupt:
        say_detached()
        raise
    progress = client.progress()
    client.down()
    if started:
        client.shutdown(stop=True)
    if code == 0:
        folder = client.project.results / "runs" / str(progress["run"])
        write(f"results: {folder}")
        say("metrics as a chart: fedtui metrics --plot; all runs: fedtui runs; a federation of your own: fedtui up")
    raise typer.Exit(code)
