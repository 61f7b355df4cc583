"""What all tests share: real images, and waiting for a condition instead of sleeping."""
from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real image sets beside the clone; `FEDERATED_HEALTH_DATA` names another."""
    path = Path(os.environ.get("FEDERATED_HEALTH_DATA", PROJECT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real images at {path}; set FEDERATED_HEALTH_DATA")
    return path


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """`until(condition, seconds, what)` polls until the condition holds and fails with `what` when it never does."""

    def wait(condition: Callable[[], object], seconds: float = 60.0, what: str = "the condition") -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what} did not come true within {seconds:g} s"
            time.sleep(0.02)

    return wait
