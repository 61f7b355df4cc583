"""The processes that the product is compared with, and a client that stands in for a large model.

    python -m benchmarks.peers alone NAME ROUNDS             training and evaluation with no federation
    python -m benchmarks.peers grpc-server ADDRESS ROUNDS    Flower's deprecated streaming server
    python -m benchmarks.peers grpc-client NAME ADDRESS
    python -m benchmarks.peers large NAME ADDRESS CA KEY COUNT   COUNT float32 numbers, no training

The first three train with the product's own code on the product's own images. To gRPC's advantage weights travel as one
vector, as they do in the product, and without TLS.
"""
from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import BATCH, EXAMPLES, IMAGE_SIZE, SEED, VALIDATION
from poweranger.client.standalone_client import limit_process

LEARNING_RATE = 0.05


class LocalSite:
    """One client's images and trainer, called directly."""

    def __init__(self, client_id: str) -> None:
        limit_process(1)
        from poweranger.client import training
        from poweranger.client.data_loader import load_site

        training.configure_tensorflow(1)
        self.data = data = load_site(None, client_id=client_id, image_size=IMAGE_SIZE, channels=0, validation_fraction=VALIDATION,
                                     seed=SEED, strict=False, cache_mb=256, synthetic_examples=EXAMPLES)
        pixels, sums, squares = data.pixel_stats()
        mean = np.array(sums) / pixels
        std = np.sqrt(np.array(squares) / pixels - mean**2)
        spec = training.Spec(IMAGE_SIZE, data.channels, len(data.classes), tuple(mean), tuple(std), batch_size=BATCH)
        self.trainer = training.Trainer(spec)
        counts = np.bincount(data.train.y, minlength=len(data.classes))
        self.shift = training.prior_shift(counts, counts)

    def initial(self) -> np.ndarray:
        return np.concatenate([array.ravel() for array in self.trainer.model.get_weights()])

    def train(self, weights: np.ndarray, number: int) -> Any:
        return self.trainer.train(weights, self.data.train.x, self.data.train.y, learning_rate=LEARNING_RATE, shift=self.shift, seed=(SEED, number))

    def evaluate(self, weights: np.ndarray) -> Any:
        return self.trainer.evaluate(weights, self.data.validation.x, self.data.validation.y)


def alone(client_id: str, rounds: str) -> None:
    """Waits for a line of standard input before it starts, so that two of them run side by side."""
    site = LocalSite(client_id)
    weights = site.initial()
    print("ready", flush=True)
    sys.stdin.readline()
    seconds = []
    for number in range(int(rounds)):
        start = time.perf_counter()
        weights = site.train(weights, number).weights
        site.evaluate(weights)
        seconds.append(time.perf_counter() - start)
    print("seconds", json.dumps(seconds), flush=True)


def grpc_server(address: str, rounds: str) -> None:
    """Says when each round has ended."""
    from flwr.server import ServerConfig, start_server
    from flwr.server.strategy import FedAvg

    class Timed(FedAvg):
        def aggregate_evaluate(self, server_round: int, results: Any, failures: Any) -> Any:
            outcome = super().aggregate_evaluate(server_round, results, failures)
            assert len(results) == 2 and not failures, failures
            print(f"round {server_round} ended at {time.time()}", flush=True)
            return outcome

    strategy = Timed(min_fit_clients=2, min_evaluate_clients=2, min_available_clients=2, on_fit_config_fn=lambda number: {"number": number})
    start_server(server_address=address, config=ServerConfig(num_rounds=int(rounds)), strategy=strategy)


def grpc_client(client_id: str, address: str) -> None:
    from flwr.client import NumPyClient, start_client

    site = LocalSite(client_id)

    class Client(NumPyClient):
        def get_parameters(self, config: Any) -> list[np.ndarray]:
            return [site.initial()]

        def fit(self, parameters: list[np.ndarray], config: Any) -> Any:
            fit = site.train(parameters[0], config["number"])
            return [fit.weights], len(site.data.train.y), {"loss": fit.loss, "accuracy": fit.accuracy}

        def evaluate(self, parameters: list[np.ndarray], config: Any) -> Any:
            scores = site.evaluate(parameters[0])
            return scores.loss, len(site.data.validation.y), {"accuracy": scores.accuracy}

    start_client(server_address=address, client=Client().to_client())
    os._exit(0)


def large(name: str, address: str, trust: str, key: str, count: str) -> None:
    """A model of `count` float32 numbers; training adds a little to each."""
    from flwr.app import ConfigRecord, Context, Message, RecordDict
    from flwr.clientapp import ClientApp

    from poweranger.client.connection import load_private_key, load_root_certificates
    from poweranger.client.node import Node
    from poweranger.messages import ARRAYS, CONFIG, Site, metric_reply, pack, unpack

    app = ClientApp()

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        site = Site(name, ["a", "b"], [32, 32], [8, 8], 1, 100, [50.0], [30.0])
        return Message(RecordDict({CONFIG: site.to_record()}), reply_to=message)

    @app.query("initial")
    def initial(message: Message, context: Context) -> Message:
        shapes = ConfigRecord({"shapes": [count]})
        return Message(RecordDict({ARRAYS: pack([np.zeros(int(count))]), CONFIG: shapes}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        weights = unpack(message.content.array_records[ARRAYS]) + np.float32(0.001 * int(name[1:]))
        return Message(metric_reply({"num-examples": 64, "loss": 1.0}, pack([weights])), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        assert unpack(message.content.array_records[ARRAYS]).size == int(count)
        return Message(metric_reply({"num-examples": 16, "loss": 1.0, "confusion": [8, 0, 0, 8]}), reply_to=message)

    Node(app, address, {"client-id": name}, trust=load_root_certificates(Path(trust)), key=load_private_key(Path(key))).run()


if __name__ == "__main__":
    programs: dict[str, Callable[..., None]] = {"alone": alone, "grpc-server": grpc_server, "grpc-client": grpc_client, "large": large}
    programs[sys.argv[1]](*sys.argv[2:])
