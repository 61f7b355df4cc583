"""The processes that `benchmarks.rounds` compares the product with, and a client that stands in for a large model.

    python -m benchmarks.peers.baselines alone NAME ROUNDS             training and evaluation with no federation
    python -m benchmarks.peers.baselines grpc-server ADDRESS ROUNDS    Flower's deprecated streaming server
    python -m benchmarks.peers.baselines grpc-client NAME ADDRESS
    python -m benchmarks.peers.baselines large NAME ADDRESS CA KEY COUNT   COUNT float32 numbers, no training

To gRPC's advantage it goes without TLS.
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

from benchmarks.peers.site import Site, initial


def alone(name: str, rounds: str) -> None:
    """Waits for a line of standard input before it starts, so that two of them run side by side."""
    site = Site(name)
    weights = initial()
    print("ready", flush=True)
    sys.stdin.readline()
    seconds = []
    for number in range(int(rounds)):
        start = time.perf_counter()
        weights = site.train(weights, number, epochs=1).weights
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


def grpc_client(name: str, address: str) -> None:
    site = Site(name)  # before Flower, which would load TensorFlow with other settings
    from flwr.client import NumPyClient, start_client

    class Client(NumPyClient):
        def get_parameters(self, config: Any) -> list[np.ndarray]:
            return [initial()]

        def fit(self, parameters: list[np.ndarray], config: Any) -> Any:
            fit = site.train(parameters[0], config["number"], epochs=1)
            return [fit.weights], len(site.train_y), {"loss": fit.loss, "accuracy": fit.accuracy}

        def evaluate(self, parameters: list[np.ndarray], config: Any) -> Any:
            scores = site.evaluate(parameters[0])
            return scores.loss, len(site.y), {"accuracy": scores.accuracy}

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
