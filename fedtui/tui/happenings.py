"""What is worth a message between one look and the next: failures, runs that end, a daemon that goes."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fedtui.tui.store import Store

Happening = tuple[str, str, str]  # severity, text, remedy


@dataclass(frozen=True)
class Seen:
    """What messages are about, as it was at one look."""

    loaded: bool
    daemon_ok: bool
    daemon_pid: int | None
    notes: tuple[str, ...]
    states: dict[str, tuple[str, int]]
    run: tuple[str | None, str | None]

    @classmethod
    def of(cls, store: Store) -> Seen:
        """As it is now."""
        return cls(
            store.loaded, store.daemon_ok, store.info.get("daemon_pid"), tuple(map(str, store.info.get("notes") or ())),
            {process["name"]: (process["state"], process.get("restarts") or 0) for process in store.processes},
            (store.progress.get("run"), store.progress.get("outcome")),
        )  # fmt: skip


def what_happened(before: Seen, store: Store) -> Iterator[Happening]:
    """The messages, in order."""
    now = Seen.of(store)
    if not now.daemon_ok:
        if before.daemon_ok or not before.loaded:
            ended = "has been ended" in store.daemon_error
            yield "error", store.daemon_error, "u starts everything again" if ended else "this is tried again every second; what runs, runs on"
        return
    if before.daemon_pid not in (None, now.daemon_pid):
        yield "warning", "the daemon was gone; another one has taken over what it had started", ""
    elif before.loaded and not before.daemon_ok:
        yield "information", "the daemon answers again", ""
    for note in now.notes:
        if note not in before.notes:
            yield "warning", note, ""
    if before.loaded:
        for process in store.processes:
            yield from _of_process(process, before.states.get(process["name"], ("stopped", 0)))
        yield from _of_run(before.run, now.run, str(store.progress.get("reason") or ""))


def _of_process(process: dict[str, Any], before: tuple[str, int]) -> Iterator[Happening]:
    name, state, cause = process["name"], process["state"], process.get("cause") or "for no known reason"
    if state != before[0]:
        if state == "failed":
            yield "error", f"{name} has failed: {cause}", "select it: l shows its log, s starts it again"
        elif state == "backoff":
            yield "warning", f"{name} has failed: {cause}", "it is started again by itself"
    elif (process.get("restarts") or 0) > before[1]:
        yield "warning", f"{name} has failed and was started again", "l shows its log"


def _of_run(before: tuple[str | None, str | None], now: tuple[str | None, str | None], reason: str) -> Iterator[Happening]:
    name, outcome = now
    if name is None or now == before or outcome in (None, "running"):
        return
    if outcome == "finished":
        yield "information", f"run {name} has finished" + (f" ({reason})" if reason else ""), "7 shows all runs, 2 its curves"
    else:
        yield "error" if outcome == "failed" else "warning", f"run {name}: {outcome}" + (f" ({reason})" if reason else ""), "7 shows all runs and resumes one"
