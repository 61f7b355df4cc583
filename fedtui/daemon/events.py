"""Events to any number of readers; a slow or frozen one costs a bounded amount of memory."""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

Event = dict[str, Any]
BACKLOG = 64  # events kept for a reader; one that falls behind further gets `resync` instead and asks for the state anew


class Broadcast:
    """Hands every published event to every subscriber."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Event | None]] = set()

    @property
    def attached(self) -> int:
        """How many subscribe now."""
        return len(self._queues)

    def publish(self, event: str, **fields: Any) -> None:
        """Never waits."""
        for queue in self._queues:
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait({"event": "resync"})
            else:
                queue.put_nowait({"event": event, **fields})

    def close(self) -> None:
        """End all subscriptions."""
        for queue in self._queues:
            while queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    async def subscribe(self, ping_s: float = 15.0) -> AsyncIterator[Event]:
        """The events from now on; every `ping_s` quiet seconds a `ping`, by which both sides see that the other lives."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(BACKLOG)
        self._queues.add(queue)
        try:
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), ping_s)
                except TimeoutError:
                    event = {"event": "ping"}
                if event is None:
                    return
                yield event
        finally:
            self._queues.discard(queue)
