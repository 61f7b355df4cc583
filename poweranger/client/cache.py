"""Where decoded images stay: an array in memory, or in a private file when it is large."""
from __future__ import annotations

import math
import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from poweranger.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS = min(4, len(os.sched_getaffinity(0)))  # threads that decode; Pillow lets go of the interpreter meanwhile
BATCH = 256  # items handed to the threads at once: bounds what waits
PROGRESS_SECONDS = 5.0


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/poweranger`, by default `~/.cache/poweranger`: /tmp is often memory, this is a disk."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "poweranger"


def allocate(shape: tuple[int, ...], cache_mb: int) -> np.ndarray:
    """An array of uint8 for decoded images: in memory up to `cache_mb` MiB, else mapped from a file.

    The file has mode 0600 and no name, so that nothing stays behind even after SIGKILL, and its space is reserved at
    once: a full disk is an error now and not a bus error in mid-training.

    Raises
    ------
    UserError
        When the file cannot be made or its space not reserved.
    """
    size = math.prod(shape)
    if size <= cache_mb * 2**20:
        return np.empty(shape, dtype=np.uint8)
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
    except OSError as error:
        raise UserError(f"the decoded images need {size:,} bytes in {folder} ({error.strerror}): free some space or set "
                        f"XDG_CACHE_HOME to a folder on a larger disk") from None


def release(rows: np.ndarray) -> None:
    """Stop counting the pages of a cache file as this process's memory; the system's page cache keeps them."""
    if isinstance(rows, np.memmap):
        rows._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def move_to_front(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Reorder the rows of `rows` (N, ...) in place so that the wanted ones come first, by the fewest swaps.

    Returns
    -------
    ndarray (N,)
        The old index of each new row. No copy of `rows` is made: it may be larger than memory.
    """
    count = int(wanted.sum())
    order = np.arange(len(wanted))
    gaps = np.flatnonzero(~wanted[:count])
    strays = count + np.flatnonzero(wanted[count:])
    for gap, stray in zip(gaps, strays, strict=True):
        rows[[gap, stray]] = rows[[stray, gap]]
        order[[gap, stray]] = order[[stray, gap]]
    return order


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item], what: str,
                log: Callable[[str], None]) -> Iterator[Result]:
    """`work` on every item in a few threads; results in order, a line of progress every few seconds."""
    spoken = time.monotonic()
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="images") as pool:
        for start in range(0, len(items), BATCH):
            yield from pool.map(work, items[start : start + BATCH])
            if time.monotonic() - spoken > PROGRESS_SECONDS:
                spoken = time.monotonic()
                log(f"{what}: {min(start + BATCH, len(items)):,} of {len(items):,} images")
