"""The runs so far: `runs`."""
from __future__ import annotations

from typing import Annotated

import typer

from fedtui.cli.context import Json, project
from fedtui.cli.output import say, seconds, write_json, write_table
from fedtui.roster import SITE_ROLE

COLUMNS = {
    "name": "NAME", "begin": "START", "took": "TOOK", "of": "ROUNDS", "outcome": "OUTCOME", "best_round": "BEST ROUND", "best_accuracy": "BEST ACCURACY", "differs": "DIFFERS IN",
}  # fmt: skip


def runs(
    last: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the newest.")] = None,
    as_json: Json = False,
) -> None:
    """List the runs, newest first. DIFFERS names what of their configurations is not the same for all."""
    from fedtui.metrics import config_differences, summaries

    here = project()
    found = summaries(here.results)[:last]
    differences = config_differences(found)
    if as_json:
        write_json([{**vars(run), "differences": differences[run.name]} for run in found])
        return
    rows = [
        {
            **vars(run),
            "begin": run.start.astimezone().strftime("%Y-%m-%d %H:%M") if run.start else None,
            "took": seconds(run.seconds),
            "of": f"{'?' if run.rounds_done is None else run.rounds_done}/{'?' if run.rounds is None else run.rounds}",
            "differs": " ".join(f"{key}={value}" for key, value in differences[run.name].items()),
        }
        for run in found
    ]
    if not rows and here.roster().role == SITE_ROLE:
        say(f"{here.roster().elsewhere}: runs and their results are there")
        return
    write_table(rows, COLUMNS, empty="no run yet: `fedtui up` starts one, `fedtui demo` shows one")
