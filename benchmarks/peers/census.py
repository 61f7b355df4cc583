"""How many processes a system has and how much memory they take together, while it runs."""
from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from types import TracebackType

from benchmarks.common import MARK

SAMPLE = 0.5  # seconds between two looks, which hold up each process for some milliseconds


class Census:
    """Looks, as long as it is entered, at all processes that carry the mark of a benchmark's folder.

    Attributes
    ----------
    pss : MB of all together, at most. Pages that others share count in part only, so nothing else should use TensorFlow.
    processes : at a time, at most.
    """

    def __init__(self, folder: Path) -> None:
        self.pss, self.processes = 0.0, 0
        self._mark = os.fsencode(f"{MARK}={folder}")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Census:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(SAMPLE):
            sizes = [size for process in Path("/proc").glob("[0-9]*") if (size := self._pss(process))]
            self.pss, self.processes = max(self.pss, sum(sizes)), max(self.processes, len(sizes))

    def _pss(self, process: Path) -> float:
        """MB of one that carries the mark, else 0."""
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if self._mark in (process / "environ").read_bytes().split(b"\0"):
                for line in (process / "smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        return int(line.split()[1]) * 1024 / 1e6
        return 0.0
