"""A whole federation on this machine: virtual clients, one at a time, in Flower's simulation.

    python -m poweranger.simulation --supernodes 3 --run-config "num-server-rounds=5"

It runs what `flwr run .` runs, but waits for the end, exits with the run's outcome and leaves no process behind.
Exit codes: 0 finished, 1 run failed, 2 wrong configuration, 3 too few clients, 128+N ended by signal N.

Flower and Ray run in a child process with a session of its own. Its standard input is its lifeline: the first line
says what to do, and its end, also when this process is killed, says stop.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from poweranger.errors import RunFailed, UserError, run_program
from poweranger.flwr_run import VIRTUAL_CLIENTS, site_environment
from poweranger.origin import VIRTUAL_CLIENT_WAIT, project_root
from poweranger.run_config import from_environment, from_pyproject, parse_overrides, resolve

STOP_SECONDS = 5.0  # that a simulation gets to end by itself
CHILD = "from poweranger import simulation; simulation.run_child()"


def main() -> int:
    """The program; see the module's text for what it returns."""
    parser = argparse.ArgumentParser("python -m poweranger.simulation", description="Run one federated training with virtual clients.")
    parser.add_argument("--supernodes", type=int, default=2, metavar="N", help="virtual clients, which share out DATA_DIR or the synthetic images (default %(default)s)")
    parser.add_argument("--run-config", default="", metavar='"k=v k=v"', help="values over those of environment and pyproject.toml")
    parser.add_argument("--run-name", default="sim", metavar="N", help="a short word in the name of the run's folder (default %(default)s)")
    options = parser.parse_args()
    root = project_root()
    config = resolve(from_pyproject(root / "pyproject.toml"), from_environment(os.environ), parse_overrides(options.run_config))
    config["client-wait"] = config["client-wait"] or VIRTUAL_CLIENT_WAIT
    if options.supernodes < 1:
        raise UserError(f"--supernodes {options.supernodes} is not allowed: give 1 or more")
    for name in ("min-available-clients", "start-clients", "min-fit-clients", "min-evaluate-clients"):
        if config[name] > options.supernodes:
            raise UserError(f"{name} = {config[name]} is more than there are virtual clients: give --supernodes {config[name]} or more")
    return simulate(root, config, options.supernodes, options.run_name)


def simulate(root: Path, config: Mapping[str, Any], supernodes: int, run_name: str) -> int:
    """Run the federation of `supernodes` virtual clients in a child process; returns the exit code.

    Files go to `root / "results"`. SIGTERM, SIGINT and SIGHUP end it within `STOP_SECONDS` and a moment.
    """
    scratch = Path(tempfile.mkdtemp(prefix="sim-", dir="/tmp"))  # Ray's sockets need a short path
    request = {"root": str(root), "config": dict(config), "supernodes": supernodes, "run_name": run_name}
    caught: list[int] = []
    try:
        with _child(scratch, config) as child:
            assert child.stdin is not None
            lifeline = child.stdin
            last_resort = threading.Timer(STOP_SECONDS, child.kill)
            last_resort.daemon = True

            def end(number: int, _: object) -> None:
                if not caught:
                    caught.append(number)
                    lifeline.close()
                    last_resort.start()

            with _handling(end):
                with contextlib.suppress(BrokenPipeError, ValueError):  # it has died, or was ended already
                    lifeline.write(json.dumps(request).encode() + b"\n")
                    lifeline.flush()
                code = child.wait()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if caught:
        return 128 + caught[0]
    if code < 0:
        raise RunFailed(f"the simulation was killed by signal {-code}" + (": the machine may be out of memory" if code == -9 else ""))
    return code


@contextlib.contextmanager
def _handling(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Let `handler` take the signals that ask for the end."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


@contextlib.contextmanager
def _child(scratch: Path, config: Mapping[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """The child process; in the end it and all that it started are gone."""
    path = os.pathsep.join([str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = {"PYTHONPATH": path, "FLWR_HOME": str(scratch / "flwr"), "RAY_TMPDIR": str(scratch)}
    environment = os.environ | VIRTUAL_CLIENTS | site_environment(config) | own
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, env=environment, start_new_session=True)
    try:
        yield child
    finally:
        _kill_session(child.pid)
        child.wait()


def _kill_session(session: int) -> None:
    """Kill every process of a session until none is left; its number is not given to another before."""
    while members := [process for process in psutil.process_iter() if _lives_in(process, session)]:
        for process in members:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(members, timeout=1)


def _lives_in(process: psutil.Process, session: int) -> bool:
    try:
        return os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


def run_child() -> None:
    """The child process: reads the request, runs it, exits with the outcome."""
    request = json.loads(sys.stdin.readline())
    stop = threading.Event()

    def watch_lifeline() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=watch_lifeline, daemon=True).start()
    run_program("simulation", lambda: _simulate(request, stop))


def _simulate(request: Mapping[str, Any], stop: threading.Event) -> int:
    sys.modules["tensorflow"] = None  # type: ignore[assignment]  # Flower would import it here, where nobody needs it
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from flwr.simulation import run_simulation

    from poweranger.client.client_app import app as client_app
    from poweranger.results import Run
    from poweranger.server.conduct import conduct
    from poweranger.server.exchange import Stopped

    config = request["config"]
    run = Run.create(Path(request["root"]) / "results", request["run_name"], config)
    server_app = ServerApp()
    ended_by: list[Stopped | UserError] = []

    @server_app.main()
    def conduct_run(grid: Grid, context: Context) -> None:
        try:
            conduct(grid, run, config, stop, virtual=True)
        except (Stopped, UserError) as error:  # Flower would take seconds longer to end, and print a traceback
            ended_by.append(error)

    logging.getLogger("flwr").setLevel(logging.INFO if config["verbose"] >= 2 else logging.CRITICAL)
    run_simulation(
        server_app,
        client_app,
        request["supernodes"],
        backend_config={"init_args": {"log_to_driver": config["verbose"] >= 1, "logging_level": "ERROR"}},
    )
    if ended_by and isinstance(ended_by[0], UserError):
        raise ended_by[0]
    if ended_by:
        return 1
    print(f"run {run.name} finished: {run.path}", flush=True)
    return 0


if __name__ == "__main__":
    run_program("simulation", main)
