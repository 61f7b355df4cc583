"""Sites of NumPy with this project's mods, and whole runs of them in this process."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import DEFAULT_TTL, ConfigRecord, Context, Message, Metadata, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from poweranger.messages import ARRAYS, CONFIG, NUM_EXAMPLES, Site, metric_reply, pack, unpack
from poweranger.privacy.mods import MODS
from poweranger.privacy.secagg_client import register
from poweranger.results import Run
from poweranger.run_config import resolve
from poweranger.server.conduct import conduct
from poweranger.server.exchange import Exchange
from poweranger.server.superlink import Link


@dataclass
class Part:
    """One site: what its training adds to the weights, on so many images, and what its evaluation counts."""

    name: str
    update: np.ndarray
    images: int = 10
    confusion: tuple[int, int, int, int] = (3, 1, 0, 2)
    extra: dict[str, Any] = field(default_factory=dict)

    def app(self) -> ClientApp:
        app = ClientApp(mods=MODS)
        register(app)

        @app.query("describe")
        def describe(message: Message, context: Context) -> Message:
            site = Site(self.name, ["a", "b"], [self.images, 5], [4, 2], 1, 100, [50.0], [30.0])
            return Message(RecordDict({CONFIG: site.to_record()}), reply_to=message)

        @app.query("initial")
        def initial(message: Message, context: Context) -> Message:
            shapes = ConfigRecord({"shapes": [str(self.update.size)]})
            return Message(RecordDict({ARRAYS: pack([np.zeros(self.update.size)]), CONFIG: shapes}), reply_to=message)

        @app.train()
        def train(message: Message, context: Context) -> Message:
            weights = unpack(message.content.array_records[ARRAYS]) + self.update
            metrics = {NUM_EXAMPLES: self.images, "loss": 0.5, "accuracy": 0.75, **self.extra}
            return Message(metric_reply(metrics, pack([weights])), reply_to=message)

        @app.evaluate()
        def evaluate(message: Message, context: Context) -> Message:
            metrics = {NUM_EXAMPLES: sum(self.confusion), "loss": 0.25, "confusion": list(self.confusion)}
            return Message(metric_reply(metrics), reply_to=message)

        return app


def parts(count: int, size: int, scale: float = 1.0) -> list[Part]:
    """Sites C1, C2, ... whose updates have nothing in common."""
    rng = np.random.default_rng(5)
    return [Part(f"C{k + 1}", scale * rng.standard_normal(size).astype(np.float32), 10 * (k + 1)) for k in range(count)]


def letter(content: RecordDict, kind: str, node: int = 7) -> Message:
    """A message of the server as a client gets it."""
    return Message(metadata=Metadata(1, "m", 1, node, "", "1", time.time(), DEFAULT_TTL, kind), content=content)


@pytest.fixture(autouse=True)
def inside_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages of a server only inside a run."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def federate(tmp_path: Path, start_node: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """`federate(parts, received, **configuration)` conducts a run of these sites; `received` gets every reply's content."""

    def run(sites: list[Part], received: list[RecordDict] | None = None, **values: Any) -> Run:
        pull = Exchange.pull

        def spying(self: Exchange, ids: Any) -> dict[str, Message]:
            found = pull(self, ids)
            if received is not None:
                received.extend(RecordDict(dict(reply.content)) for reply in found.values() if reply.has_content())
            return found

        monkeypatch.setattr(Exchange, "pull", spying)
        given = {"num-server-rounds": 1, "fraction-fit": 1.0, "min-available-clients": len(sites), "client-wait": 60.0}
        config = resolve(given | {name.replace("_", "-"): value for name, value in values.items()})
        made = Run.create(tmp_path / "results", "test", config)
        with Link("127.0.0.1", 0) as link, link.run(config) as (grid, _):
            for part in sites:
                start_node(link.port, part.name, app=part.app())
            conduct(grid, made, config, threading.Event())
        return made

    return run
