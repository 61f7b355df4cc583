"""A whole run in this process: the real server's rounds, with sites that do arithmetic on ten weights."""
from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from poweranger.messages import ARRAYS, CONFIG, Site, metric_reply, pack, unpack
from poweranger.results import Run
from poweranger.run_config import parse_overrides, resolve
from poweranger.server.conduct import conduct
from poweranger.server.superlink import Link

Trains = Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]
Evaluates = Callable[[int], dict[str, Any]]
FIRST = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1], np.float32)  # the first model, flat


def toy_app(number: int, train: Trains, evaluate: Evaluates) -> ClientApp:
    """Site `C<number>` with 10 x `number` training images; `train` gives weights, `evaluate` a round's metrics."""
    app = ClientApp()

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        site = Site(f"C{number}", ["a", "b"], [5 * number, 5 * number], [2, 2], 1, 100, [50.0], [30.0])
        return Message(RecordDict({CONFIG: site.to_record()}), reply_to=message)

    @app.query("initial")
    def initial(message: Message, context: Context) -> Message:
        return Message(RecordDict({ARRAYS: pack([FIRST]), CONFIG: ConfigRecord({"shapes": ["2,3", "4"]})}), reply_to=message)

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        weights = train(unpack(message.content.array_records[ARRAYS]), dict(message.content.config_records[CONFIG]))
        return Message(metric_reply({"num-examples": 10 * number, "loss": 1.0, "accuracy": 0.5}, pack([weights])), reply_to=message)

    @app.evaluate()
    def score(message: Message, context: Context) -> Message:
        metrics = evaluate(int(message.content.config_records[CONFIG]["server-round"]))  # type: ignore[arg-type]
        return Message(metric_reply({"num-examples": 4, **metrics}), reply_to=message)

    return app


@pytest.fixture
def federate(tmp_path: Path, start_node: Callable[..., object]) -> Callable[..., Run]:
    """`federate("key=value …", {1: train, …})` runs a federation to its end and gives the run, also of one that failed.

    `evaluate` is asked for each site's metrics of a round; `resume` names a run to go on with.
    """

    def run(text: str, sites: Mapping[int, Trains], evaluate: Evaluates = lambda number: {"loss": 0.5, "confusion": [2, 0, 0, 2]}, resume: str = "") -> Run:
        whole = f"fraction-fit=1 fraction-evaluate=1 min-available-clients={len(sites)} min-fit-clients={len(sites)} " + text
        if resume:
            made = Run.resume(tmp_path, resume)
            made.update(config=resolve(made.info["config"], parse_overrides(text)))
        else:
            made = Run.create(tmp_path, "toy", resolve(parse_overrides(whole)))
        config = made.info["config"]
        with Link("127.0.0.1", 0) as link, link.run(config) as (grid, _):
            nodes = [start_node(link.port, f"C{number}", app=toy_app(number, train, evaluate)) for number, train in sites.items()]
            try:
                conduct(grid, made, config, threading.Event())
            finally:
                for node in nodes:
                    node.node.leave()  # type: ignore[attr-defined]
        return made

    return run
