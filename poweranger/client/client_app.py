"""The Flower ClientApp: describes its site, trains and evaluates on the site's images.

It uses Flower's public message API only and runs alike in the warm node of this project, in a stock SuperNode and in
simulation. Images and model stay in the process between messages; a process that was restarted loads them again.
No image and no file name leaves it.
"""
from __future__ import annotations

import contextlib
import functools
import gc
import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from poweranger.client import training
from poweranger.client.data_loader import Images, SiteData, load_site
from poweranger.client.folder import shown, walk
from poweranger.client.task import SITE_KEYS, Task, checked, read_channels, read_classes, read_task
from poweranger.counts import encode
from poweranger.errors import UserError
from poweranger.messages import ARRAYS, CONFIG, NUM_EXAMPLES, Site, metric_reply, pack, unpack
from poweranger.notify import notify, say
from poweranger.privacy.mods import MODS
from poweranger.privacy.secagg_client import register
from poweranger.run_config import find_key, from_environment
from poweranger.server.model import build_model, weight_shapes

MOST_SITES = 4  # kept in one process: in simulation several virtual clients pass through it

app = ClientApp(mods=MODS)
register(app)


@dataclass(frozen=True)
class Held:
    """A site's images in memory, with what they were loaded for and what the folder looked like then."""

    settings: object
    channels: int  # asked for: 1, or 0 for the images' own
    stamp: tuple[int, int]
    data: SiteData


_sites: dict[str, Held] = {}  # by client id; the last one used is last
_trainer: training.Trainer | None = None
_gpu_memory_mb: int | None = None  # None until `preload`


def preload(threads: int, gpu_memory_mb: int) -> None:
    """Import TensorFlow with `threads` threads, so that the first message finds it ready.

    A fork may follow: no device is touched before the first model is built, and the GPU's cap is set then.
    """
    global _gpu_memory_mb
    training.configure_tensorflow(threads)
    _gpu_memory_mb = gpu_memory_mb


def _client_id(context: Context) -> str:
    """The id the node was given; in simulation C1, C2, ... by partition."""
    node = context.node_config
    if "client-id" in node:
        return str(node["client-id"])
    if "partition-id" in node:
        return f"C{int(node['partition-id']) + 1}"
    return f"node-{context.node_id}"  # a stock SuperNode without --node-config


def _site_values(context: Context) -> dict[str, Any]:
    """The keys each site sets for itself: the node's configuration, else the environment, else the defaults."""
    environment = from_environment(os.environ)
    names = ("strict-data", "cache-mb", "threads", "gpu-memory-mb", "min-site-examples")
    return {
        name: find_key(name).check(context.node_config.get(name, environment.get(name, find_key(name).default))) for name in names
    }


def _site(values: Mapping[str, Any], context: Context, *, look_again: bool = False) -> SiteData:
    """This client's images for these `SITE_KEYS`; loaded anew when those differ, or, if asked to look, the folder does."""
    client_id, node = _client_id(context), context.node_config
    given = str(node.get("data-dir") or os.environ.get("DATA_DIR") or "")
    data_dir = os.path.abspath(given) if given else None  # absolute: an error's sentence with it is known for one with a path
    partition = None
    if "client-id" not in node and int(node.get("num-partitions", 1)) > 1:
        partition = (int(node["partition-id"]), int(node["num-partitions"]))
    # Made grey only for a grey federation: a grey site of a colour federation repeats its channel in each batch.
    channels = 1 if values["channels"] == 1 else 0
    settings = ({name: value for name, value in values.items() if name != "channels"}, data_dir, partition)
    held = _sites.pop(client_id, None)
    fits = held is not None and held.settings == settings and (held.channels == channels or held.data.channels == channels)
    if held is None or not fits or (look_again and held.stamp != _stamp(data_dir)):
        held = None  # freed before its successor is loaded
        own = _site_values(context)
        stamp = _stamp(data_dir)
        data = load_site(
            data_dir,
            client_id=client_id,
            image_size=values["image-size"],
            channels=channels,
            validation_fraction=values["validation-fraction"],
            seed=values["seed"],
            strict=own["strict-data"],
            cache_mb=own["cache-mb"],
            synthetic_examples=values["synthetic-examples"],
            partition=partition,
            dirichlet_alpha=values["dirichlet-alpha"],
            log=functools.partial(say, client_id),
        )
        _check_size(client_id, data, max(values["min-site-examples"], own["min-site-examples"]))
        held = Held(settings, channels, stamp, data)
    _sites[client_id] = held
    while len(_sites) > MOST_SITES:
        del _sites[next(iter(_sites))]
    return held.data


def _check_size(client_id: str, data: SiteData, least: int) -> None:
    """Refuse to take part with too few training images to hide any of them; the server learns that, and not how many."""
    if len(data.train.y) < least:
        say(client_id, f"NOT TAKING PART: {len(data.train.y)} training images, and min-site-examples = {least}")
        raise UserError("it has fewer training images than min-site-examples asks for")


def _stamp(data_dir: str | None) -> tuple[int, int]:
    """Number and newest change of the folders below `data_dir`; adding or removing an image changes it."""
    if data_dir is None:
        return 0, 0
    changes = []
    for path in (data_dir, *(root for root, *_ in walk(data_dir))):
        with contextlib.suppress(OSError):  # it is not there, or gone while we look, or not ours to see
            changes.append(os.stat(path).st_mtime_ns)
    return len(changes), max(changes, default=0)


def _prepare(context: Context) -> None:
    """TensorFlow ready for the first model; in a stock SuperNode or in simulation nobody called `preload`."""
    if _gpu_memory_mb is None:
        own = _site_values(context)
        preload(own["threads"], own["gpu-memory-mb"])
    training.configure_gpu(_gpu_memory_mb or 0)


def _trainer_for(spec: training.Spec, context: Context) -> training.Trainer:
    """The process's one trainer; another federation replaces it."""
    global _trainer
    if _trainer is None or _trainer.spec != spec:
        _prepare(context)
        _trainer = None
        gc.collect()  # it is part of a cycle: freed before its successor is built
        _trainer = training.Trainer(spec)
    return _trainer


def _labels(images: Images, data: SiteData, task: Task) -> np.ndarray:
    """The images' classes in the federation's order, int32 (n,)."""
    missing = sorted(set(data.classes) - set(task.classes))
    if missing:
        raise UserError(f"the federation does not have this site's classes {', '.join(missing)}")
    order = np.array([task.classes.index(name) for name in data.classes], np.int32)
    return order[images.y]


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """What the site holds, in numbers and class names."""
    notify(STATUS="reading its images")
    data = _site(checked(message.content.config_records[CONFIG], SITE_KEYS), context, look_again=True)
    pixels, sums, squares = data.pixel_stats()
    site = Site(
        client_id=_client_id(context),
        classes=list(data.classes),
        train_counts=np.bincount(data.train.y, minlength=len(data.classes)).tolist(),
        validation_counts=np.bincount(data.validation.y, minlength=len(data.classes)).tolist(),
        channels=data.channels,
        pixel_count=pixels,
        pixel_sum=sums,
        pixel_square_sum=squares,
        unreadable=len(data.unreadable),
        synthetic=data.synthetic,
        synthetic_reason=data.synthetic_reason,
        federation=os.environ.get("FEDERATION_ID", ""),
        versions=_versions(),
    )
    return Message(RecordDict({CONFIG: site.to_record()}), reply_to=message)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name, package in (("poweranger", "federated-health"), *((n, n) for n in ("tensorflow", "keras", "numpy", "flwr"))):
        try:
            versions[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout, or tensorflow under another name
            versions[name] = "unknown"
    return versions


@app.query("initial")
def initial(message: Message, context: Context) -> Message:
    """The first global model, settled by the run's seed, and the shapes of its weights."""
    config = message.content.config_records[CONFIG]
    values, classes = checked(config, ("image-size", "channels", "seed")), read_classes(config)
    _prepare(context)
    model = build_model(values["image-size"], read_channels(values), len(classes), seed=values["seed"])
    shapes = ConfigRecord({"shapes": [",".join(map(str, shape)) for shape in weight_shapes(model)]})
    return Message(RecordDict({ARRAYS: pack(model.get_weights()), CONFIG: shapes}), reply_to=message)


@app.query("refuse")
def refuse(message: Message, context: Context) -> Message:
    """The server's reason for not taking this site, said where the site's people read it."""
    reason = shown(str(message.content.config_records[CONFIG].get("reason", "no reason given")))
    say(_client_id(context), f"REFUSED: the server does not take this site: {reason}")
    notify(STATUS=f"refused by the server: {reason}")
    return Message(metric_reply({}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the global weights on the site's training images."""
    start = time.monotonic()
    task = read_task(message.content.config_records[CONFIG])
    notify(STATUS=f"{task.where}, training")
    values, data = task.values, _site({k: task.values[k] for k in SITE_KEYS}, context)
    trainer, weights = _trainer_for(task.spec, context), unpack(message.content.array_records[ARRAYS])
    y = _labels(data.train, data, task)
    shift = None
    if values["prior-shift"]:
        local = np.bincount(y, minlength=len(task.classes))
        shift = training.prior_shift(local, np.array(task.class_counts))
    fit = trainer.train(
        weights,
        data.train.x,
        y,
        learning_rate=values["learning-rate"],
        epochs=values["local-epochs"],
        augment=values["augment"],
        shift=shift,
        seed=(values["seed"], task.server_round, *_client_id(context).encode()),
    )
    data.release()
    seconds = time.monotonic() - start
    notify(STATUS=f"{task.where}, trained")
    metrics = {NUM_EXAMPLES: len(y), "loss": fit.loss, "accuracy": fit.accuracy, "seconds": seconds}
    return Message(metric_reply(metrics, pack([fit.weights])), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the global weights on the site's validation images."""
    start = time.monotonic()
    task = read_task(message.content.config_records[CONFIG])
    notify(STATUS=f"{task.where}, evaluating")
    data = _site({k: task.values[k] for k in SITE_KEYS}, context)
    y = _labels(data.validation, data, task)
    metrics: dict[str, Any] = {NUM_EXAMPLES: len(y)}
    if len(y):
        scores = _trainer_for(task.spec, context).evaluate(unpack(message.content.array_records[ARRAYS]), data.validation.x, y)
        metrics |= {"loss": scores.loss, "accuracy": scores.accuracy, **encode(scores.counts)}
    data.release()
    metrics["seconds"] = time.monotonic() - start
    notify(STATUS=f"{task.where}, evaluated")
    return Message(metric_reply(metrics), reply_to=message)
