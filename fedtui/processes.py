"""Processes as the daemon lists them, in words: what command line and interface both say."""
from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

CLIENT_HOST = "client host"  # among the sizes of memory: it is none of the processes that somebody starts and stops
ACTIVE = ("starting", "ready", "running", "stopping")  # states of a process that lives
GOING_ON = ("starting", "ready", "running", "backoff", "held")  # of one that is to live: it does, or will by itself
PHASES = {"fit": "training", "eval": "evaluating", "waiting": "waiting for clients"}  # of a run, as `progress.json` has them


def describe(process: Mapping[str, Any]) -> str:
    """What a process does or why it does not, in a few words."""
    state = process["state"]
    if state == "connected":
        return f"on {process['address']}; {_answered(process.get('answered'))}"
    if state in ("starting", "ready", "running", "exited") or (state == "stopping" and not process.get("cause")):
        return str(process.get("status") or "")
    words = [process.get("cause"), process.get("reason") if state in ("held", "backoff") else ""]
    return "; ".join(str(word) for word in words if word)


def _answered(moment: str | None) -> str:
    """When a client on another machine last answered, by the clock of who reads this."""
    return f"last answer {datetime.datetime.fromisoformat(moment).astimezone():%H:%M:%S}" if moment else "no answer yet"
