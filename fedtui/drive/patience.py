"""Calls again what may succeed later, after growing pauses."""
from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from google.auth.exceptions import GoogleAuthError
from googleapiclient.errors import HttpError

from fedtui.drive.errors import NO_CONNECTION, brief, explain, passes

TRIES = 8
LONGEST_S = 300.0  # of a pause that the server asks for

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Patience:
    """`patience(call)` gives what `call()` gives, in the end: exponential backoff with jitter, as Google asks for.

    Attributes
    ----------
    say : told why and for how long it waits.
    sleep : waits for seconds.
    """

    say: Callable[[str], object]
    sleep: Callable[[float], object] = time.sleep

    def __call__(self, call: Callable[[], Answer]) -> Answer:
        """Call until it succeeds.

        Raises
        ------
        UploadFailed
            When waiting does not help, or has not helped `TRIES` times (two minutes).
        """
        for attempt in range(TRIES):
            try:
                return call()
            except (HttpError, GoogleAuthError, *NO_CONNECTION) as error:
                if not passes(error) or attempt == TRIES - 1:
                    raise explain(error) from None
                pause = max(2**attempt + random.random(), _asked_for(error))
                self.say(f"Google Drive: {brief(error)}; trying again in {pause:.0f} s")
                self.sleep(pause)
        raise AssertionError("the last try returns or raises")


def _asked_for(error: Exception) -> float:
    """Seconds of the answer's `Retry-After`; 0 without one, or with a date in it."""
    wanted = error.resp.get("retry-after", "") if isinstance(error, HttpError) else ""
    return min(float(wanted), LONGEST_S) if wanted.isdecimal() else 0.0
