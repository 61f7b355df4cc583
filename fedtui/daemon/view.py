"""A process as the API shows it, and `ps --json`."""
from __future__ import annotations

import datetime
from typing import Any

from fedtui.daemon.measure import Usage
from fedtui.daemon.process import Process
from fedtui.daemon.state import State


def view(process: Process) -> dict[str, Any]:
    """All fields of a process; sizes in MB (2**20 bytes), CPU in percent of one core, None for what is not known."""
    record, usage, live = process.record, process.usage, process.live
    uptime = process.uptime_s
    return {
        "name": record.name,
        "role": record.role,
        "state": record.state.value,
        "pid": record.pid or None if live else None,
        "status": record.status if live else "",
        "uptime_s": None if uptime is None else round(uptime, 1),
        "restarts": record.restarts,
        "exit_code": record.exit_code,
        "cause": process.left or record.cause,
        "cpu_percent": usage.cpu_percent if live else None,
        "rss_mb": usage.rss_mb if live else None,
        "pss_mb": usage.pss_mb if live else None,
        "started": iso(record.started),
        "via": record.via,
        "via_reason": record.via_reason,
        "gpu": record.gpu,
        "reason": record.reason,
        "waits_for": record.waits_for if record.state is State.HELD else "",
        "address": "",
        "answered": None,
        "log": str(process.log.path),
        "restart_policy": "on-failure" if record.role == "client" else "no",
    }


def failure(process: Process) -> dict[str, Any] | None:
    """The failure card; None when the process has not failed."""
    record = process.record
    if record.state not in (State.FAILED, State.BACKOFF):
        return None
    return {"cause": record.cause, "exit_code": record.exit_code, "signal": record.signal or None, "last_lines": record.last_lines}


def memory(name: str, usage: Usage) -> dict[str, Any]:
    """What a process with its descendants uses; `uss_mb` is what ending it would free."""
    return {
        "name": name, "rss_mb": usage.rss_mb, "pss_mb": usage.pss_mb, "uss_mb": usage.uss_mb, "swap_mb": usage.swap_mb,
        "pss_refused": usage.refused,
    }  # fmt: skip


def iso(seconds: float) -> str | None:
    """A time as ISO 8601 in UTC; None for 0, which stands for never."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds") if seconds else None
