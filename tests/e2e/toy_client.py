"""A client without TensorFlow: describes, trains and evaluates a two-number model by arithmetic, or misbehaves on demand.

    python toy_client.py NAME ADDRESS [BEHAVIOUR [CA [KEY]]]

Behaviours: `slow` in the evaluation of round 1 and the training of round 2, `nan` weights, wrong `shape`, `missing` metric, NaN `loss`, `zero` examples, `raise`, `sleep` in round 2,
`class` unknown to the others, `synthetic` images, `garbled` description; `patient`, a metric that is not declared, and
`undeclared`, the same, and an answer of another `kind`, from clients that do not look at what they send.
"""
from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from poweranger.client.connection import load_private_key, load_root_certificates
from poweranger.client.node import Node
from poweranger.messages import ARRAYS, CONFIG, Site, metric_reply, pack, unpack
from poweranger.privacy.mods import MODS
from poweranger.privacy.secagg_client import register

NAME, ADDRESS, BEHAVIOUR, CA, KEY = (*sys.argv[1:], *[""] * 3)[:5]
NUMBER = int("".join(filter(str.isdigit, NAME)) or 0)
app = ClientApp(mods=[] if BEHAVIOUR in ("undeclared", "kind") else MODS)
register(app)


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    classes = ["a", "zebra"] if BEHAVIOUR == "class" else ["a", "b"]
    site = Site(NAME, classes, [10 * NUMBER, 5], [4, 2], 1, 100, [50.0], [30.0], synthetic=BEHAVIOUR == "synthetic", synthetic_reason="DATA_DIR is not set",
                federation=os.environ.get("FEDERATION_ID", ""))
    record = site.to_record()
    if BEHAVIOUR == "garbled":
        del record["train_counts"]
    return Message(RecordDict({CONFIG: record}), reply_to=message)


@app.query("initial")
def initial(message: Message, context: Context) -> Message:
    return Message(RecordDict({ARRAYS: pack([np.zeros((2, 3)), np.ones(4)]), CONFIG: ConfigRecord({"shapes": ["2,3", "4"]})}), reply_to=message)


@app.query("refuse")
def refuse(message: Message, context: Context) -> Message:
    print("REFUSED:", message.content.config_records[CONFIG]["reason"], flush=True)
    return Message(metric_reply({}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    config = message.content.config_records[CONFIG]
    number = int(config["server-round"])  # type: ignore[arg-type]
    print(f"round {number} begins", flush=True)
    if BEHAVIOUR == "raise":
        raise RuntimeError("this site is out of order")
    if BEHAVIOUR == "sleep" and number == 2:
        time.sleep(600)
    if BEHAVIOUR == "slow" and number == 2:
        time.sleep(3)
    weights = unpack(message.content.array_records[ARRAYS]) * np.float32(0.9) + np.float32(NUMBER) * np.float32(config["learning-rate"])
    if BEHAVIOUR == "nan":
        weights[3] = math.nan
    if BEHAVIOUR == "shape":
        weights = weights[:-1]
    metrics: dict[str, Any] = {"num-examples": 0 if BEHAVIOUR == "zero" else 10 * NUMBER, "loss": 1.0 / NUMBER, "accuracy": 0.5}
    if BEHAVIOUR == "missing":
        del metrics["loss"]
    if BEHAVIOUR == "loss":
        metrics["loss"] = math.nan
    if BEHAVIOUR in ("patient", "undeclared"):
        metrics["patient-age"] = 47
    if BEHAVIOUR == "kind":
        message.metadata.message_type = "evaluate"
        return evaluate(message, context)
    return Message(metric_reply(metrics, pack([weights])), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    if BEHAVIOUR == "slow" and message.metadata.group_id == "1":
        time.sleep(3)
    return Message(metric_reply({"num-examples": 6, "loss": 0.25 * NUMBER, "confusion": [3, 1, 0, 2]}), reply_to=message)


if __name__ == "__main__":
    trust, key = load_root_certificates(Path(CA)) if CA else None, load_private_key(Path(KEY)) if KEY else None
    node = Node(app, ADDRESS, {"client-id": NAME}, trust=trust, key=key, log=lambda text: print(text, flush=True))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=lambda: (node.leave(), signal.raise_signal(signal.SIGKILL))).start())
    node.run()
