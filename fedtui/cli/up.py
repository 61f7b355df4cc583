"""Bring a federation up: `up`."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fedtui.cli.context import Json, Set, daemon, parse_set
from fedtui.cli.output import say, write_json
from fedtui.processes import ACTIVE
from fedtui.project import Project
from poweranger.errors import UserError

READY_S = 180.0  # TensorFlow takes long to import from a cold disk
ALL, NEEDED = "start-clients", "min-available-clients"


def up(
    clients: Annotated[int | None, typer.Option(min=1, max=10_000, metavar="N", help="Start so many: the roster's first, then made-up ones.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, metavar="N", help="Rounds of this run.")] = None,
    set_: Set = None,
    name: Annotated[str | None, typer.Option(metavar="WORD", help="A word in the run's name.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on after the last complete round of that run.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Start also what is withheld, for want of memory for instance.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the run ends, showing its progress; exit with its outcome.")] = False,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Exit with 3 when not all are ready by then.")] = READY_S,
    as_json: Json = False,
) -> None:
    """Start server and clients. Returns when all are ready; what runs already is left alone."""
    from fedtui.cli.watch import Watch, follow_run, log_end, say_detached, wait_until_ready

    client = daemon()
    roster = client.project.roster()
    names = [client.name for client in roster.effective(clients)]
    settings: dict[str, Any] = parse_set(set_)
    notes: list[str] = []
    if wait and not roster.server_local:
        raise UserError(f"--wait needs the server here, but {roster.elsewhere}: look at its progress there")
    if not roster.server_local and any(given is not None for given in (rounds, set_, name, resume)):
        raise UserError(f"--rounds, --set, --name and --resume are for the server, but {roster.elsewhere}: give them there")
    if roster.server_local:
        runs = any(process["name"] == "server" and process["state"] in ACTIVE for process in client.processes())
        if not runs and not resume:
            settings, notes = wait_for_all(settings, len(names), client.project)
        names = ["server", *names]
    watch, offset = Watch(client), log_end(client, "server") if roster.server_local else 0
    try:
        answer = client.up(clients=clients, rounds=rounds, set=settings, run_name=name, resume=resume, force=force)
        notes += answer["notes"]
        for note in notes:
            say(note)
        elsewhere = {process["name"] for process in answer["processes"] if process["state"] == "connected"}  # ready, on their machines
        code = wait_until_ready(watch, [name for name in names if name not in elsewhere], timeout)
        if code == 0 and wait:
            code = follow_run(watch, "server", offset)
        elif code == 0:
            waiting = [process["name"] for process in client.processes() if process.get("waits_for")]
            ready = f"ready, but for {', '.join(waiting)}" if waiting else "all are ready"
            where = "Progress: fedtui up --wait" if roster.server_local else "Runs and their results are at the server"
            say(f"{ready}. {where}. Stop: fedtui down")
    except KeyboardInterrupt:
        say_detached()
        raise
    if as_json:
        write_json({"processes": client.processes(), "notes": notes, "exit_code": code, "progress": client.progress() if wait else None})
    raise typer.Exit(code)


def wait_for_all(settings: Mapping[str, Any], count: int, project: Project) -> tuple[dict[str, Any], list[str]]:
    """`settings` with which the first round waits for all `count` clients that are started, unless they say otherwise; and a note."""
    from poweranger.run_config import BY_NAME, from_pyproject

    in_file = from_pyproject(project.pyproject)
    needed = settings.get(NEEDED, in_file.get(NEEDED, BY_NAME[NEEDED].default))
    if needed > count:
        wanted = max(needed, settings.get(ALL, in_file.get(ALL, 0)))
        return dict(settings), [f"the run begins when {wanted} {'client is' if wanted == 1 else 'clients are'} there; {count or 'none'} started here ({ALL}, {NEEDED})"]
    if ALL in settings or NEEDED in settings or in_file.get(ALL) or needed == count:
        return dict(settings), []
    return {**settings, ALL: count}, [f"the run begins when all {count} clients are there (--set {ALL}={needed}: with the first {needed})"]
