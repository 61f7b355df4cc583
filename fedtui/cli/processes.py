"""Server and clients one by one: `ps`, `start`, `stop`, `restart`, `kill`; and `down` for all of them."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fedtui.cli.context import Json, Names, daemon
from fedtui.cli.output import cut, say, seconds, write_json, write_table
from fedtui.processes import ACTIVE, describe
from poweranger.errors import UserError

Force = Annotated[bool, typer.Option("--force", help="Start although it is withheld, for want of memory for instance.")]
COLUMNS = {
    "name": "NAME", "state": "STATE", "pid": "PID", "age": "AGE", "cpu": "CPU", "memory": "MEMORY", "restarts": "RESTARTS", "gpu": "GPU",
    "via": "VIA", "doing": "DOING",
}  # fmt: skip
SELDOM = ("gpu", "via")  # columns that are left out while they are empty
REASON = 50  # characters


def ps(as_json: Json = False) -> None:
    """List the processes, and the clients on other machines that are connected. MEMORY is PSS: pages that several share count once. VIA says how a client was started.

    That is by a fork of the client `host`, or as a `process` of its own and why.
    """
    processes = daemon().processes()
    if as_json:
        write_json(processes)
    else:
        rows = [_row(process) for process in processes]
        write_table(rows, {key: title for key, title in COLUMNS.items() if key not in SELDOM or any(row.get(key) for row in rows)})


def start(names: Names, force: Force = False, as_json: Json = False) -> None:
    """Start processes."""
    _act(names, "start", as_json, force=force)


def stop(names: Names, as_json: Json = False) -> None:
    """Stop processes. Returns when nothing of them is left; they are not restarted."""
    _act(names, "stop", as_json)


def restart(names: Names, force: Force = False, as_json: Json = False) -> None:
    """Stop processes and start them again."""
    _act(names, "restart", as_json, force=force)


def kill(names: Names, as_json: Json = False) -> None:
    """End processes at once."""
    _act(names, "kill", as_json)


def down(as_json: Json = False) -> None:
    """Stop clients, server and daemon, in this order."""
    client = daemon()
    active: list[str] = []
    if client.running() or client.left_running():
        active = [process["name"] for process in client.processes() if process["state"] in (*ACTIVE, "backoff", "held")]
        client.down()
        client.shutdown(stop=True)
    if as_json:
        write_json({"stopped": active})
    else:
        say(f"stopped: {', '.join(active)}" if active else "nothing was running")


def _act(names: list[str], action: str, as_json: bool, *, force: bool = False) -> None:
    """Do the same to all `names`; a name that cannot be served does not keep the others from it.

    Raises
    ------
    UserError
        The first refusal; the others have been said.
    """
    client, answers, refusals = daemon(), [], []
    for name in dict.fromkeys(names):
        try:
            answers.append(client.act(name, action, force=force))
        except UserError as error:
            refusals.append(error)
    if as_json:
        write_json(answers)
    else:
        for process in answers:
            say(f"{process['name']}: {process['state']}" + (f" ({text})" if (text := describe(process)) else ""))
    for refusal in refusals[1:]:
        say(refusal)
    if refusals:
        raise refusals[0]


def _row(process: Mapping[str, Any]) -> dict[str, object]:
    memory = process.get("pss_mb") or process.get("rss_mb")
    return {
        **process,
        "age": seconds(process.get("uptime_s")),
        "cpu": None if process.get("cpu_percent") is None else f"{process['cpu_percent']:.0f} %",
        "memory": None if memory is None else f"{memory:.0f} MB",
        "restarts": process.get("restarts") or None,
        "via": cut(": ".join(filter(None, (process.get("via"), process.get("via_reason")))), REASON),
        "doing": describe(process),
    }
