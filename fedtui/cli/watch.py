"""Watching processes get ready, and a run to its end."""
from __future__ import annotations

import re
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from fedtui.cli.output import say, seconds
from fedtui.client import DaemonClient
from fedtui.processes import ACTIVE, PHASES, describe

if TYPE_CHECKING:
    from rich.progress import Progress

NOT_READY = 3
_POLL_S = 0.25
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:[.,]\d+)? (?:server )?")


class Watch:
    """Looks again and again at the daemon's processes, and says what has become of one since the last look."""

    def __init__(self, client: DaemonClient) -> None:
        self.client = client
        self._known = {process["name"]: _moment(process) for process in client.processes()}

    def look(self) -> dict[str, dict[str, Any]]:
        """The processes by name."""
        processes = {process["name"]: process for process in self.client.processes()}
        server_starts = processes.get("server", {}).get("state") == "starting"
        for name, process in processes.items():
            moment = _moment(process)
            if self._known.get(name) == moment:
                continue
            self._known[name] = moment
            state = moment[0]
            if state in ("ready", "failed", "backoff", "stopped") or (state == "held" and not server_starts):
                reason = describe(process) if state != "ready" else ""
                say(f"{name}: {state}" + (f": {reason}" if reason else ""))
        return processes


def _moment(process: Mapping[str, Any]) -> tuple[object, ...]:
    """What must change for a process to be worth a word: its state, what it waits for, or its start."""
    state = "ready" if process["state"] == "running" else process["state"]
    return state, process["started"], process["restarts"], process.get("waits_for")


def wait_until_ready(watch: Watch, names: Collection[str], timeout: float) -> int:
    """Wait until all of `names` are ready.

    Returns
    -------
    int
        0 when they are (or the server has finished already), 1 when one failed, 3 when `timeout` seconds were not enough.
    """
    end = time.monotonic() + timeout
    while True:
        processes = watch.look()
        missing: list[str] = []
        held: list[str] = []
        for name in names:
            process = processes.get(name) or {"state": "stopped"}
            if process["state"] in ("failed", "stopped"):
                for line in (watch.client.failure(name) or {"last_lines": ()})["last_lines"]:
                    say(f"  {line}")
                return 1
            if process["state"] not in ("ready", "running") and not (name == "server" and process["state"] == "exited"):
                found = held if process.get("waits_for") in ("memory", "return") else missing
                found.append(f"{name} ({process['state']}" + (f", {text})" if (text := describe(process)) else ")"))
        if len(held) == len(set(names) - {"server"}):
            missing += held  # some others would be enough to begin with
        if not missing:
            return 0
        if time.monotonic() > end:
            say(f"not ready within {seconds(timeout)}: {', '.join(missing)}; look at `fedtui logs`, go on waiting with `fedtui up`")
            return NOT_READY
        time.sleep(_POLL_S)


def log_end(client: DaemonClient, name: str) -> int:
    """The offset at which the log of a process ends now."""
    return int(client.log(name, -4, 4)["size"])


def follow_run(watch: Watch, name: str, offset: int) -> int:
    """Show what process `name` (server or simulation) says from `offset` of its log on, and a bar on a terminal, until it ends.

    Returns
    -------
    int
        0 when the run finished, else 1.
    """
    client = watch.client
    with _display() as display:
        rest = ""
        while True:
            process = watch.look().get(name) or {"state": "stopped"}
            ended = process["state"] not in ACTIVE
            while (piece := client.log(name, offset))["text"]:
                *lines, rest = (rest + piece["text"]).split("\n")
                offset = piece["next"]
                for line in lines:
                    say(_STAMP.sub("", line))
            display.show(client.progress())
            if ended:
                break
            time.sleep(_POLL_S)
    if rest:
        say(_STAMP.sub("", rest))
    return 0 if process["state"] == "exited" else 1


def say_detached() -> None:
    """Say that leaving has stopped nothing."""
    say("detached; everything goes on. Come back: fedtui logs -f, or fedtui up --wait while the run lasts. Stop: fedtui down")


class _Display(Protocol):
    def show(self, progress: Mapping[str, Any]) -> None:
        """Show where the run stands."""


class _Nothing:
    """Where there is no terminal: the server's lines say it all."""

    def show(self, progress: Mapping[str, Any]) -> None:
        """Show nothing."""


class _Bar:
    """The run as a bar below the lines."""

    def __init__(self, bar: Progress) -> None:
        self._bar, self._task = bar, bar.add_task("", total=None, figures="", left="")

    def show(self, progress: Mapping[str, Any]) -> None:
        """Draw the bar anew. Figures and time left stay until a later round's are known."""
        number, rounds, phase = progress.get("round", 0), progress.get("rounds"), str(progress.get("phase", ""))
        done = max(0, number - 1) if phase in ("fit", "eval") else number
        fields: dict[str, str] = {}
        figures = [f"{name} {progress[name]:.3f}" for name in ("loss", "accuracy") if isinstance(progress.get(name), float)]
        if figures:
            fields["figures"] = "  ".join(figures)
        if progress.get("seconds_left") is not None:
            fields["left"] = f"about {seconds(progress['seconds_left'])} left"
        text = f"round {number} of {rounds}, {PHASES.get(phase, phase)}" if rounds else "starting"
        self._bar.update(self._task, description=text, total=rounds, completed=done, **fields)  # type: ignore[arg-type]


@contextmanager
def _display() -> Iterator[_Display]:
    if not sys.stderr.isatty():
        yield _Nothing()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        yield _Nothing()
        return
    columns = [TextColumn("{task.description}", markup=False), BarColumn()]
    columns += [TextColumn("{task.fields[figures]}", markup=False), TextColumn("{task.fields[left]}", markup=False)]
    with Progress(*columns, console=console, refresh_per_second=2, transient=True, redirect_stdout=False) as bar:
        yield _Bar(bar)
