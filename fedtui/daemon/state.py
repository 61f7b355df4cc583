"""What a daemon must know of its predecessor's processes: `processes.json`."""
from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from poweranger.files import replace_file

SERVER, SIMULATION = "server", "simulation"  # all other names are clients'


class State(StrEnum):
    """Where a process stands."""

    STOPPED = "stopped"  # never started, or stopped by hand
    STARTING = "starting"
    READY = "ready"  # it said READY=1
    RUNNING = "running"  # it said what it does
    STOPPING = "stopping"
    EXITED = "exited"  # ended by itself with exit code 0
    FAILED = "failed"  # ended by itself otherwise
    BACKOFF = "backoff"  # failed, and is started again after a pause
    HELD = "held"  # its start is withheld: `reason`


LIVE = frozenset({State.STARTING, State.READY, State.RUNNING, State.STOPPING})


@dataclass
class Record:
    """All that is remembered of one process.

    Attributes
    ----------
    pid, start : the process while it lives, by pid and start time in clock ticks since boot.
    started, ended : when it was last started and has ended, in seconds since 1970.
    wanted : somebody asked for it and nobody has stopped it since: the restart policy may act.
    exit_code : 128 + N when signal N ended it.
    log_base : bytes that rotation has taken out of the log so far: an offset in the log plus this never goes back.
    log_start : where in the log, so counted, the present start's output begins.
    via, via_reason : a client's: "host" when it was forked from the client host, else "process" and why.
    gpu : the cards it was given.
    held, cutting : a rotation holds the process still just now, and takes so many bytes out of its log.
    options : what it was started with, for a restart.
    waits_for : what it is held for: the `server`, `memory` for its start, or a `return` after the memory guard stopped it;
        the latter also while that stop is under way.
    """

    name: str
    role: str
    state: State = State.STOPPED
    pid: int = 0
    start: int = 0
    started: float = 0.0
    ended: float = 0.0
    wanted: bool = False
    status: str = ""
    reason: str = ""
    cause: str = ""
    exit_code: int | None = None
    signal: int = 0
    restarts: int = 0
    last_lines: list[str] = field(default_factory=list)
    log_base: int = 0
    log_start: int = 0
    via: str = ""
    via_reason: str = ""
    gpu: str = ""
    held: bool = False
    cutting: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    waits_for: str = ""


def new_record(name: str) -> Record:
    """Of a process that was never started; its name tells its role."""
    return Record(name, name if name in (SERVER, SIMULATION) else "client")


def boot_id() -> str:
    """Names the machine's present boot: start times count from there."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def save(path: Path, records: list[Record]) -> None:
    """Replace the file. Not durable: after a power cut there are no processes to adopt."""
    content = json.dumps({"boot": boot_id(), "processes": [dataclasses.asdict(record) for record in records]}).encode()
    replace_file(path, lambda file: file.write(content), durable=False)


def load(path: Path) -> tuple[list[Record], bool]:
    """The records, and whether they are of the present boot; none when the file is absent or damaged."""
    try:
        content = json.loads(path.read_bytes())
        records = [Record(**{**entry, "state": State(entry["state"])}) for entry in content["processes"]]
        return records, content["boot"] == boot_id()
    except (OSError, ValueError, TypeError, KeyError):
        return [], True
