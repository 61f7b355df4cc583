"""A run to upload, and Google's side of it on 127.0.0.1."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fedtui.drive import transfer
from fedtui.drive.choice import Chosen, choose
from fedtui.drive.login import credentials
from fedtui.drive.patience import Patience
from fedtui.drive.service import ENDPOINT, Drive
from fedtui.drive.store import Store
from fedtui.drive.upload import Plan, plan, upload
from poweranger.results import Run
from tests.fedtui.drive.fake import FakeDrive

BIG = 700_000  # bytes of a snapshot: three chunks of 256 KiB


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDrive]:
    with FakeDrive() as server:
        monkeypatch.setenv(ENDPOINT, server.root)
        monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")  # the fake has no certificate
        yield server
        assert server.complaints == []


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """`make_run(results)` is a run of one round, with two small tables that have rows and snapshots of `BIG` bytes."""

    def make(results: Path, rounds: int = 1, size: int = BIG) -> Run:
        run = Run.create(results, "run", {"num-server-rounds": rounds})
        for number in range(1, rounds + 1):
            weights = [np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)]
            run.commit_round(number, {"fit_metrics": [{"round": number, "loss": 0.5}]}, weights, state={"momentum": weights[0][:10]})
        run.close("finished")
        return run

    return make


class Uploader:
    """What `fedtui upload drive` does once somebody said yes, without the process around it."""

    def __init__(self, fake: FakeDrive, state: Path) -> None:
        self.store = Store(state)
        self.said: list[str] = []
        self.pauses: list[float] = []
        self.drive = Drive(credentials(fake.secret["installed"], "refresh-0"), Patience(self.said.append, self.pauses.append))
        self.arrived: dict[str, int] = {}

    def plan(self, run: Path, what: set[str]) -> Plan:
        return plan(self.drive, run.name, choose(run, what))

    def __call__(self, run: Path, what: set[str] = frozenset({"metrics", "models"})) -> list[str]:  # type: ignore[assignment]
        """Upload; the names of the files that were sent."""
        found = self.plan(run, what)
        upload(self.drive, found, self.store, self._advance)
        return [planned.file.name for planned in found.to_send]

    def _advance(self, file: Chosen, count: int) -> None:
        self.arrived[file.name] = count


@pytest.fixture
def uploader(fake: FakeDrive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Uploader]:
    """`uploader()` is a new process's view: it knows what the state folder and Drive know."""
    monkeypatch.setattr(transfer, "CHUNK", 256 << 10)
    return lambda: Uploader(fake, tmp_path / "state")
