"""A node with a NumPy app: as a program for tests that kill it, and for threads of a test.

    python tiny_node.py ADDRESS CLIENT_ID [CA KEY]
"""
from __future__ import annotations

import sys
import time
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from poweranger.client.connection import load_private_key, load_root_certificates
from poweranger.client.node import Node
from poweranger.client.standalone_client import serve
from poweranger.errors import UserError

app = ClientApp()
STARTED: list[str] = []  # what the app was asked in this process


@app.train()
def train(message: Message, context: Context) -> Message:
    """Add 1 to the weights, after what the message's configuration asks for."""
    config = message.content["config"]
    STARTED.append(f"train {message.metadata.group_id}")
    print("training", flush=True)
    time.sleep(float(config.get("seconds", 0.0)))
    if "fail" in config:
        raise ValueError(config["fail"])
    weights = message.content["arrays"]["weights"].numpy()
    context.state["count"] = MetricRecord({"messages": context.state["count"]["messages"] + 1 if "count" in context.state else 1})
    metrics = MetricRecord({"num-examples": 3, "messages": context.state["count"]["messages"]})
    content = {"arrays": ArrayRecord({"weights": Array(weights + 1)}), "metrics": metrics}
    return Message(RecordDict(content), reply_to=message)


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """A site whose data cannot be used."""
    raise UserError("the folder holds one class only: give two")


if __name__ == "__main__":
    address, client_id, *tls = sys.argv[1:]
    trust, key = (load_root_certificates(Path(tls[0])), load_private_key(Path(tls[1]))) if tls else (None, None)
    node = Node(app, address, {"client-id": client_id}, trust=trust, key=key, log=lambda text: print(text, flush=True))
    sys.exit(serve(node, lambda text: print(text, flush=True)))
