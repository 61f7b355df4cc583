"""The restart policy `on-failure`: again after a pause that doubles, and begins anew after a good run."""
from __future__ import annotations

import asyncio
from collections.abc import Callable

from fedtui.daemon.process import Process
from fedtui.daemon.state import State

FIRST_PAUSE_S, LONGEST_PAUSE_S, GOOD_RUN_S = 1.0, 60.0, 60.0


def next_pause(last: float, ran_s: float) -> float:
    """Seconds until the next start; `last` is the pause before the last one (0 for none), `ran_s` how long that ran."""
    if not last or ran_s >= GOOD_RUN_S:
        return FIRST_PAUSE_S
    return min(2 * last, LONGEST_PAUSE_S)


class Restarts:
    """The starts to come; `start` starts a process by its role."""

    def __init__(self, start: Callable[[Process], None]) -> None:
        self._start = start
        self._pauses: dict[str, float] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def schedule(self, process: Process) -> None:
        """Start the process again after its next pause."""
        name = process.record.name
        pause = self._pauses[name] = next_pause(self._pauses.get(name, 0.0), process.ran_s)
        process.become(State.BACKOFF, reason=f"restart in {pause:g} s")
        self._tasks[name] = asyncio.get_running_loop().create_task(self._wait(process, pause))

    def cancel(self, process: Process) -> None:
        """It was started or stopped by hand: the next pause is the first one again."""
        self._pauses.pop(process.record.name, None)
        if task := self._tasks.pop(process.record.name, None):
            task.cancel()

    def cancel_all(self) -> None:
        """The daemon ends."""
        for task in self._tasks.values():
            task.cancel()

    async def _wait(self, process: Process, pause: float) -> None:
        await asyncio.sleep(pause)
        async with process.lock:
            del self._tasks[process.record.name]
            process.record.restarts += 1
            self._start(process)
