"""How a run ends that cannot go on: in one sentence, whatever went wrong."""
from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from poweranger.errors import RunFailed
from poweranger.messages import ARRAYS, CONFIG, Site, pack
from poweranger.results import Run
from poweranger.run_config import parse_overrides, resolve
from poweranger.server.conduct import conduct
from poweranger.server.superlink import Link


def test_a_disk_that_is_gone_at_the_end_is_told_in_a_sentence(tmp_path: Path) -> None:
    run = Run.create(tmp_path, "toy", resolve())

    class GoneWithTheDisk(threading.Event):
        def is_set(self) -> bool:
            shutil.rmtree(run.path, ignore_errors=True)
            return True

    with Link("127.0.0.1", 0) as link, link.run() as (grid, _), pytest.raises(RunFailed, match=f"the results could not be written: .*{run.name}"):
        grid.interrupt()
        conduct(grid, run, run.info["config"], GoneWithTheDisk())


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ({ARRAYS: pack([np.array([1.0, np.nan])]), CONFIG: ConfigRecord({"shapes": ["2"]})}, "NaN or infinite"),
        ({ARRAYS: pack([np.ones(2)]), CONFIG: ConfigRecord({"shapes": ["2"], "patient": "Jane"})}, "'patient' is not declared"),
    ],
)
def test_a_first_model_that_is_none_is_not_taken(tmp_path: Path, start_node: Callable[..., object], first: dict[str, object], reason: str) -> None:
    app = ClientApp()

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        return Message(RecordDict({CONFIG: Site("C1", ["a", "b"], [5, 5], [2, 2], 1, 100, [50.0], [30.0]).to_record()}), reply_to=message)

    @app.query("initial")
    def initial(message: Message, context: Context) -> Message:
        return Message(RecordDict(first), reply_to=message)  # type: ignore[arg-type]

    run = Run.create(tmp_path, "toy", resolve(parse_overrides("start-clients=1")))
    with Link("127.0.0.1", 0) as link, link.run() as (grid, _):
        start_node(link.port, "C1", app=app)
        with pytest.raises(RunFailed, match=f"no client could make the first model: C1: its model cannot be read: .*{reason}"):
            conduct(grid, run, run.info["config"], threading.Event())
    assert run.info["outcome"] == "failed"
