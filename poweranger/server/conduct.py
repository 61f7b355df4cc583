"""One run from handshake to last round, on whatever grid it is given."""
from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from poweranger.errors import RunFailed, UserError, escaped
from poweranger.messages import ARRAYS, CONFIG, INITIAL, one_line, pack, unpack
from poweranger.privacy.declared import check
from poweranger.privacy.protection import Protection, require_for
from poweranger.results import Run
from poweranger.run_config import KEYS
from poweranger.server.best import Best
from poweranger.server.exchange import Exchange, Stopped
from poweranger.server.federation import Federation, form_federation
from poweranger.server.model import split_flat
from poweranger.server.session import Session
from poweranger.server.sites import Sites
from poweranger.server.strategies import make_strategy
from poweranger.server.tensorboard import EventFiles


def log(text: str) -> None:
    """One line, with local time, for whoever reads the server's output; what a terminal would act on is escaped. A run is worth more than its log."""
    try:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {escaped(text)}", flush=True)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # there may be room again; but a terminal that is gone stays so
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def conduct(grid: Grid, run: Run, config: Mapping[str, Any], stop: threading.Event, *, virtual: bool = False) -> None:
    """Run the federation on `grid` and close `run` with its outcome; `virtual` clients are all there from the start.

    Raises
    ------
    UserError
        What made the run fail, after it has been recorded.
    Stopped
        When `stop` was set.
    """
    try:
        _conduct_and_close(grid, run, config, stop, virtual)
    except OSError as error:  # a full or vanished disk: what is written stays, the run can be resumed
        reason = f"the results could not be written: {error}"
        with contextlib.suppress(OSError):
            _close(run, "failed", reason)
        raise RunFailed(reason) from None


def _conduct_and_close(grid: Grid, run: Run, config: Mapping[str, Any], stop: threading.Event, virtual: bool) -> None:
    try:
        _conduct(grid, run, config, stop, virtual)
    except OSError:
        raise
    except Stopped:
        _close(run, "stopped", "ended by its user")
        raise
    except UserError as error:
        _close(run, "failed", str(error))
        raise
    except BaseException as error:
        _close(run, "failed", f"{type(error).__name__}: {error}")
        raise
    _close(run, "finished")

def _conduct(grid: Grid, run: Run, config: Mapping[str, Any], stop: threading.Event, virtual: bool) -> None:
    exchange = Exchange(grid, stop, log)
    sites = Sites(exchange, config, log, virtual)
    rounds, done = config["num-server-rounds"], run.info["rounds_done"]
    if done < rounds:
        require_for(config)

    def report() -> None:
        names = [site.client_id for site in sites.sites()]
        run.progress({"phase": "waiting", "round": done, "rounds": rounds, "connected": names, "nodes": sites.nodes(), "refused": sites.refused})

    sites.on_change = report
    report()
    if "federation" in run.info:
        federation = sites.federation = Federation.from_dict(run.info["federation"])
        number, weights = run.last_weights()
        if done >= rounds:
            _conclude(run, config, number)
            return
        log(f"run {run.name} goes on after round {done} of {rounds}" + ("" if number == done else f" with the model of round {number}"))
        sites.wait_for(max(config["min-available-clients"], config["start-clients"]), settle=True)
    else:
        weights = None
        log(f"run {run.name}: {rounds} rounds")
        sites.wait_for(max(config["min-available-clients"], config["start-clients"]), settle=True)
        federation = sites.federation = form_federation(sites.sites(), config)
    sites.on_change = lambda: _record_sites(run, sites)
    run.update(federation=federation.to_dict())
    _record_sites(run, sites)
    colour = "grey" if federation.channels == 1 else "RGB"
    log(f"{len(federation.classes)} classes: {', '.join(federation.classes)}; {colour}, {federation.image_size} pixels; "
        f"{sum(federation.class_counts)} training images" + ("; SYNTHETIC DATA" if federation.synthetic else ""))
    protection = Protection(config, run, [site.client_id for site in sites.sites()], log, resumed=weights is not None)
    if weights is None:
        weights = _initial_weights(exchange, sites, config, federation, run)
        run.save_snapshot(0, weights)
    shapes = [tuple(array.shape) for array in weights]
    session = Session(run, Best(run, config, log), protection, sites, exchange, federation, config, shapes, log, first_round=done + 1)
    session.events = EventFiles(run) if config["tensorboard"] else None
    make_strategy(session).start(grid, pack(weights), num_rounds=rounds, timeout=config["round-deadline"])


def _conclude(run: Run, config: Mapping[str, Any], number: int) -> None:
    """A resumed run without a round to go, its last model of round `number`: it needs no clients, and without a model it stays failed."""
    run.update(config=run.info["config"] | {name: config[name] for name in ("best-metric", "tensorboard")})  # may be new: what follows from the tables is made anew
    Best(run, config, log)
    if config["tensorboard"]:
        EventFiles(run)
    rounds, more = config["num-server-rounds"], "set num-server-rounds higher to go on"
    if number < run.info["rounds_done"]:
        raise RunFailed(f"run {run.name} has no round left of {rounds}, and those after round {number} gave no model: {more}")
    log(f"run {run.name} has no round left of {rounds}: {more}")


def _initial_weights(exchange: Exchange, sites: Sites, config: Mapping[str, Any], federation: Federation, run: Run) -> list[np.ndarray]:
    """The first model, made by one client from the seed: the server has no TensorFlow."""
    values = {key.name: config[key.name] for key in KEYS if key.reader == "clients"}
    values |= {"classes": federation.classes, "channels": federation.channels, "mean": federation.mean, "std": federation.std, "run": run.name}
    reasons = []
    for client_id, node in sorted(sites.free().items()):
        message = Message(RecordDict({CONFIG: ConfigRecord(values)}), dst_node_id=node, message_type=INITIAL)
        (answer,) = exchange.ask([message], {node: client_id}, "first model", deadline=config["round-deadline"], grace=0)
        if answer.message is not None:
            try:
                return _read_model(answer.message)
            except Exception as error:  # whatever a broken client may send
                answer.reason = one_line(f"its model cannot be read: {error}")
        log(f"{client_id} made no first model: {answer.reason}")
        reasons.append(f"{client_id}: {answer.reason}")
    raise RunFailed("no client could make the first model: " + "; ".join(reasons))


def _read_model(reply: Message) -> list[np.ndarray]:
    check("initial", reply.content, {})
    texts = cast(list[str], reply.content.config_records[CONFIG]["shapes"])
    shapes = [tuple(int(side) for side in text.split(",") if side) for text in texts]
    flat = unpack(reply.content.array_records[ARRAYS])
    if not np.isfinite(flat).all():
        raise ValueError("some of its weights are NaN or infinite")
    return split_flat(flat, shapes)


def _record_sites(run: Run, sites: Sites) -> None:
    """Keep the table of sites in `run.toml` true."""
    table = dict(run.info.get("sites", {}))
    versions = dict(run.info.get("versions", {})) or _versions()
    for site in sites.sites():
        table[site.client_id] = {
            "train": site.num_train, "validation": site.num_validation, "unreadable": site.unreadable, "channels": site.channels,
            "synthetic": site.synthetic, "synthetic_reason": site.synthetic_reason,
            "train_counts": dict(zip(site.classes, site.train_counts, strict=True)),
            "validation_counts": dict(zip(site.classes, site.validation_counts, strict=True)),
        }
        versions |= {name: text for name, text in site.versions.items() if name not in versions}
    made_up = sorted(name for name, row in table.items() if row["synthetic"])
    values = {"clients": sorted(table), "synthetic": made_up, "refused": dict(sites.refused), "versions": versions, "sites": table}
    if any(run.info.get(name) != value for name, value in values.items()):
        run.update(**values)


def _versions() -> dict[str, str]:
    names = {"poweranger": "federated-health", "flwr": "flwr", "numpy": "numpy"}
    found = {"python": sys.version.split()[0]}
    for name, package in names.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:  # run from a clone that is not installed
            continue
    return found


def _close(run: Run, outcome: str, reason: str = "") -> None:
    run.close(outcome, reason)
    with contextlib.suppress(OSError):  # it is on record: who watches finds it there
        run.progress({"phase": outcome, "round": run.info["rounds_done"], "rounds": run.info["config"]["num-server-rounds"], "connected": [],
                      "reason": run.info.get("reason", ""), "best": run.info.get("best", {})})
