"""What the daemon does by the clock: measures, lets the memory guard look, rotates logs, tells progress, ends itself when it is not needed."""
from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable

from fedtui.daemon import proc, progress
from fedtui.daemon.host import ClientHost
from fedtui.daemon.measure import MB
from fedtui.daemon.placement import HOST
from fedtui.daemon.process import Process
from fedtui.daemon.supervisor import Supervisor
from poweranger.errors import UserError

TICK_S = 1.0
LOOK_EVERY = 5  # ticks
KEYS_EVERY = 3600  # ticks
PSS_SHARE = 0.004  # of a core: the kernel takes 20 ms for each GB of a process


class Keeper:
    """Call `run` as a task; `idle` is called once when nothing has run and nobody asked for `idle-exit` seconds."""

    def __init__(self, supervisor: Supervisor, idle: Callable[[], None]) -> None:
        self._supervisor, self._idle = supervisor, idle
        self._last_use = time.monotonic()
        self._measured = 0.0
        self._not_before = 0.0  # PSS is read again
        self._rotating: dict[str, asyncio.Task[None]] = {}
        self._progress: tuple[int, int] | None = None

    def used(self) -> None:
        """Somebody asked for something."""
        self._last_use = time.monotonic()

    async def run(self) -> None:
        """Tick until cancelled."""
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            try:
                self._tick(ticks)
            except Exception:  # a mistake of ours must not stop the clock
                self._supervisor.notes.say("clock", traceback.format_exc())

    def _tick(self, number: int) -> None:
        self._rotate()
        self._tell_progress()
        if number % LOOK_EVERY == 0:
            self._supervisor.oom.tick()
            self._look_through()
            self._supervisor.roster()  # the memory guard's switches count within seconds, also when nobody asks for anything
            self._supervisor.save()
            self._supervisor.host.tend(any(process.live and process.record.via == HOST for process in self._supervisor.table.values()))
            self._supervisor.guard.save()
        if number % KEYS_EVERY == 1:
            self._tell_expiry()
        self.measure()
        self._supervisor.guard.tick()
        if self._supervisor.active or self._supervisor.broadcast.attached:
            self.used()
        elif time.monotonic() - self._last_use >= self._supervisor.last_roster.idle_exit_s:
            self._idle()

    def measure(self) -> None:
        """Take CPU and RSS of all, unless that was done within the last second, and PSS of one, as seldom as that has to be."""
        host = self._supervisor.host
        live: list[Process | ClientHost] = [*self._live(), *([host] if host.alive else [])]
        if time.monotonic() - self._measured < TICK_S / 2 and all(process.usage.rss_mb is not None for process in live):
            return
        self._measured = time.monotonic()
        for process in live:
            process.usage.sample(process.known())
        due = max(live, key=lambda process: process.usage.due, default=None)
        for process in live:
            new = process.usage.pss_mb is None and not process.usage.refused
            if new or (process is due and process.usage.due >= 0 and self._measured >= self._not_before):
                begun = time.thread_time()
                process.usage.measure(stat.ident.pid for stat in process.known())
                self._not_before = self._measured + (time.thread_time() - begun) / PSS_SHARE

    def _look_through(self) -> None:
        """Find what the processes have started since."""
        if live := self._live():
            stats = proc.every()
            for process in live:
                process.tree(stats)

    def _live(self) -> list[Process]:
        return [process for process in self._supervisor.table.values() if process.live]

    def _rotate(self) -> None:
        limit = self._supervisor.last_roster.log_mb * MB
        for name, process in self._supervisor.table.items():
            if process.log.size > limit and name not in self._rotating:
                task = self._rotating[name] = asyncio.get_running_loop().create_task(self._rotate_one(process, limit))
                task.add_done_callback(lambda _, name=name: self._rotating.pop(name))  # type: ignore[misc]

    async def _rotate_one(self, process: Process, limit: int) -> None:
        notes, matter = self._supervisor.notes, f"log of {process.record.name}"
        try:
            await process.log.rotate_over(limit, self._supervisor.last_roster.log_keep, process.held, self._supervisor.save)
            notes.settle(matter)
        except OSError as error:
            notes.say(matter, f"{process.log.path} cannot be rotated ({error.strerror}): make room on its disk")

    def _tell_expiry(self) -> None:
        """Certificates that end within 30 days."""
        notes, project = self._supervisor.notes, self._supervisor.project
        if not project.keys.ca.exists():
            notes.settle("keys")
            return
        from fedtui.keys import expiry_notes  # loads cryptography: for who has keys only

        try:
            text = "; ".join(expiry_notes(project))
        except UserError as error:
            text = str(error)
        if text:
            notes.say("keys", text)
        else:
            notes.settle("keys")

    def _tell_progress(self) -> None:
        """To whoever is attached, when the file has changed."""
        results = self._supervisor.project.results
        if not self._supervisor.broadcast.attached:
            return
        try:
            stat = progress.progress_file(results).stat()
        except OSError:
            return
        if (mark := (stat.st_ino, stat.st_mtime_ns)) != self._progress:
            self._progress = mark
            self._supervisor.broadcast.publish("progress", progress=progress.read(results))
