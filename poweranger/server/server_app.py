"""The server: a Flower ServerApp, and as a program SuperLink and ServerApp in one process, for one run.

    python -m poweranger.server.server_app --run-config "num-server-rounds=5 min-available-clients=3"

Exit codes: 0 finished, 1 run failed, 2 wrong configuration, 3 too few clients, 4 port in use, 128+N ended by signal N.
"""
from __future__ import annotations

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")  # before flwr is imported: this program calls nobody
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

import argparse
import gc
import logging
import re
import signal
import threading
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from poweranger.errors import UserError, run_program
from poweranger.notify import notify
from poweranger.origin import VIRTUAL_CLIENT_WAIT, caller_environment, project_root, submitted_locally
from poweranger.privacy.protection import check_resume
from poweranger.results import Run, read_info, snapshots
from poweranger.run_config import check_all, from_environment, from_pyproject, parse_overrides, resolve
from poweranger.server.conduct import conduct, log
from poweranger.server.exchange import Stopped
from poweranger.server.strategies import SaveableFedAvg
from poweranger.server.superlink import Fab, Link, build_fab

__all__ = ["SaveableFedAvg", "app", "main"]

app = ServerApp()


@app.main()
def run_in_flower(grid: Grid, context: Context) -> None:
    """The run under `flwr run .` or on a stock SuperLink; files go to the project's `results/`."""
    root = project_root()
    config = resolve(context.run_config, from_environment(caller_environment()))
    virtual = submitted_locally()
    if virtual:
        config["client-wait"] = config["client-wait"] or VIRTUAL_CLIENT_WAIT
    _quiet_flower(config)
    conduct(grid, Run.create(root / "results", "sim", config), config, threading.Event(), virtual=virtual)


def main() -> int:
    """The program; see the module's text for what it returns."""
    options = _parse()
    root = options.project.resolve()
    typed = parse_overrides(options.run_config)
    if options.resume is not None:
        config = _goes_on_with(root / "results", options.resume, typed)
    else:
        config = resolve(from_pyproject(root / "pyproject.toml"), from_environment(os.environ), typed)
    _quiet_flower(config)
    stop, caught = threading.Event(), []
    link = Link(options.host, options.port, certfile=options.certfile, keyfile=options.keyfile, client_keys=options.client_keys, log=log)
    with link, link.run(config, _app_for_stock_nodes(root)) as (grid, _):

        def end(number: int, _: object) -> None:
            caught.append(number)
            stop.set()
            grid.interrupt()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, end)
        if options.resume is not None:  # not before the port is open: a start that is refused leaves the run as it was
            run = Run.resume(root / "results", options.resume)
            if run.info["rounds_done"] < config["num-server-rounds"]:  # else nothing ran with it
                run.update(config=config)
        else:
            run = Run.create(root / "results", options.run_name, config)
        if not options.certfile and options.host not in ("127.0.0.1", "::1", "localhost"):
            log(f"WARNING: {options.host}:{link.port} is open to the network without TLS: weights and counts can be read and "
                "changed on the way. Use --certfile, --keyfile and --client-keys, or --host 127.0.0.1.")
        log(f"listening on {options.host}:{link.port}" + (" with TLS" if options.certfile else ""))
        gc.freeze()  # the libraries stay: looking through them would take 0.1 s in the middle of a round
        notify(READY=1, STATUS="waiting for clients")
        try:
            conduct(grid, run, config, stop)
        except Stopped:
            begun = f"after round {run.info['rounds_done']}: --resume {run.name} goes on from there"
            log(f"run {run.name} stopped " + (begun if snapshots(run.path) else "before its first model was made"))
            return 128 + caught[0]
        finally:
            notify(STOPPING=1)
    log(f"run {run.name} finished: {run.path}")
    return 0


def _goes_on_with(results: Path, name: str, typed: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a run to go on with, and what was typed over it; of defaults when there is no such run, which `Run.resume` will say."""
    path = results / "runs" / Path(name).name / "run.toml"
    if not path.is_file():
        return resolve(typed)
    info = read_info(path.parent)
    if not isinstance(info.get("config"), dict):
        raise UserError(f"{path} has no [config]: this run cannot be resumed")
    config = resolve(check_all(info["config"], f"{path} [config]"), typed)
    check_resume(info, config)
    return config


def _app_for_stock_nodes(root: Path) -> Fab | None:
    """The project's app for stock SuperNodes, which get it from the server; None where the folder is no Flower app."""
    try:
        return build_fab(root)
    except UserError:
        return None


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m poweranger.server.server_app", description="Run one federated training and end.")
    parser.add_argument("--host", default=os.environ.get("FLOWER_HOST") or "127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument("--port", default=os.environ.get("FLOWER_PORT") or "8081", help="port to listen on (default %(default)s)")
    parser.add_argument("--run-config", default="", metavar='"k=v k=v"', help="values over those of environment and pyproject.toml")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--run-name", default="run", metavar="N", help="a short word in the name of the run's folder")
    which.add_argument("--resume", metavar="RUN", help="go on after the last complete round of that run")
    parser.add_argument("--certfile", type=Path, help="the server's TLS certificate (PEM)")
    parser.add_argument("--keyfile", type=Path, help="its private key (PEM)")
    parser.add_argument("--client-keys", type=Path, metavar="DIR", help="let only clients join whose public key lies there as NAME.pub")
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="folder of pyproject.toml and results/ (default: the current one)")
    options = parser.parse_args()
    if not options.project.is_dir():
        raise UserError(f"--project {options.project} is no folder: give the one with pyproject.toml and results/")
    if not re.fullmatch(r"[0-9]{1,5}", options.port) or int(options.port) > 65535:
        raise UserError(f"port {options.port!r} is none: give one from 1 to 65535 (--port or FLOWER_PORT)")
    options.port = int(options.port)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", options.run_name):
        raise UserError(f"--run-name {options.run_name!r} is not allowed: letters, digits, '.', '_' and '-', 64 at most")
    return options


def _quiet_flower(config: dict[str, Any]) -> None:
    """Flower's own log only on request: its lines are about calls, ours about rounds."""
    logging.getLogger("flwr").setLevel(logging.INFO if config["verbose"] >= 2 else logging.CRITICAL)


if __name__ == "__main__":
    run_program("server", main)
