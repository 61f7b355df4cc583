"""Whom the kernel's OOM killer takes first: a client rather than the server or this daemon."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

CLIENT_SCORE = 500  # of -1000 (never) to 1000, added to this process's own
_SCORE = Path("/proc/self/oom_score_adj")


def client_score() -> int | None:
    """What a client's is to be; None where the kernel does not tell ours."""
    try:
        return min(int(_SCORE.read_text()) + CLIENT_SCORE, 1000)
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def exposed() -> Iterator[None]:
    """What is started within is taken first, from before its first instruction on: it inherits this process's score of the moment.

    Raising one's score needs no privilege, nor does going back to the old one.
    """
    own = None
    with contextlib.suppress(OSError, ValueError):
        own = int(_SCORE.read_text())
        _SCORE.write_text(str(client_score()))
    try:
        yield
    finally:
        if own is not None:
            with contextlib.suppress(OSError):
                _SCORE.write_text(str(own))
