"""Clients on other machines: what the server says of those connected to it, as lines beside the processes here."""
from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

REMOTE, CONNECTED = "remote", "connected"  # role and state


def clients(progress_file: Path, since: float, ours: Mapping[str, tuple[float, float]]) -> dict[str, dict[str, Any]]:
    """The connected clients that are no processes of this daemon, by name.

    Parameters
    ----------
    progress_file : `progress.json` of the newest run; its list counts when it was written after `since`, which is when
        the server was started, in seconds since 1970.
    ours : from when until when, in seconds since 1970, a client of that name has run here: a connection made meanwhile is
        its, and the server may take a while to see that it has ended.

    Returns
    -------
    dict of str to dict
        With the fields of a process (see `view`); `address` is its machine's, `answered` the time of its last answer.
    """
    try:
        content = json.loads(progress_file.read_bytes())
        if _seconds(content["updated"]) < since:
            return {}
        never = (math.inf, 0.0)
        nodes = [(str(node["client"]), str(node["address"]), str(node["since"]), str(node["answered"])) for node in content["nodes"]]
        return {
            name: _line(name, address, joined, answered) for name, address, joined, answered in nodes
            if not (span := ours.get(name, never))[0] <= _seconds(joined) <= span[1]
        }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _line(name: str, address: str, since: str, answered: str) -> dict[str, Any]:
    return {
        "name": name, "role": REMOTE, "state": CONNECTED, "pid": None, "status": "", "uptime_s": round(max(time.time() - _seconds(since), 0.0), 1), "restarts": 0,
        "exit_code": None, "cause": "", "cpu_percent": None, "rss_mb": None, "pss_mb": None, "started": since, "via": "", "via_reason": "", "gpu": "",
        "reason": "", "waits_for": "", "address": address, "answered": answered or None, "log": "", "restart_policy": "no",
    }  # fmt: skip


def _seconds(moment: str) -> float:
    """An ISO moment in seconds since 1970."""
    return datetime.datetime.fromisoformat(moment).timestamp()
