"""Each system as a function: it starts the processes, waits for the end of the last round and says what came of it."""
from __future__ import annotations

import functools
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from benchmarks import host
from benchmarks.common import Federation, Processes, Times, free_port, processes
from benchmarks.peers import nvflare_home
from benchmarks.peers.site import EPOCHS, LEARNING_RATE, ROUND
from benchmarks.workload import WORKLOAD
from poweranger.results import list_runs, snapshots

HERE = Path(__file__).parent
FLOWER = [HERE / "flower" / name for name in ("pyproject.toml", "study/server_app.py", "study/client_app.py")]
BIN = Path(sys.executable).parent  # of Flower's commands
# What this project would do besides, and the others do not: so that the work is the same.
SAME = f"{WORKLOAD} learning-rate={LEARNING_RATE} local-epochs={EPOCHS} lr-schedule=constant warmup-rounds=0 standardise=false prior-shift=false"
A_ROUND = 120  # seconds that a round of the slowest may take


@dataclass(frozen=True)
class Outcome:
    """When the rounds ended, the last one's weights as one vector, and the files that a user has to write for it."""

    times: Times
    weights: np.ndarray
    written: list[Path]


def this(programs: Processes, clients: int, rounds: int) -> Outcome:
    """Server and clients by their commands, with TLS and client keys."""
    times = Federation(programs, clients, rounds, SAME).finish()
    return Outcome(times, last_snapshot(programs.folder, rounds), [])


def this_forked(programs: Processes, clients: int, rounds: int) -> Outcome:
    """A run that the daemon starts: its clients are forked from the client host."""
    with host.project(programs, clients, forked=True) as daemon:
        times = host.federation(daemon, clients, rounds, config=SAME)
        return Outcome(times, last_snapshot(programs.folder, rounds), [programs.folder / "pyproject.toml"])


def stock(programs: Processes, clients: int, rounds: int) -> Outcome:
    """A plain Flower app on flower-superlink and flower-supernodes, which start a process for each message; no TLS."""
    port, first = free_port(), first_weights(programs)
    connection(programs, f'address = "127.0.0.1:{port}"\ninsecure = true')
    start = time.time()
    flower(programs, "superlink", "flower-superlink", "--insecure", "--disable-runtime-dependency-installation", "--host", "127.0.0.1", "--port", port)
    for number in range(clients):
        flower(programs, f"C{number + 1}", "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}", "--host", "127.0.0.1",
               "--port", free_port(), "--node-config", f"partition-id={number} num-partitions={clients}")
    wait_for_port(port)
    submit(programs, clients, rounds, first)
    return of_files(programs, start, rounds, FLOWER, "superlink")


def simulated(programs: Processes, clients: int, rounds: int) -> Outcome:
    """The same app by `flwr run` on the SuperLink that it starts for simulations."""
    first = first_weights(programs)
    connection(programs, 'address = ":local:"')
    start = time.time()
    submit(programs, clients, rounds, first, "--federation-config", f"num-supernodes={clients}")
    return of_files(programs, start, rounds, FLOWER, "submit")


def nvflare(programs: Processes, clients: int, rounds: int) -> Outcome:
    """NVFlare's simulator with a process for each client, from an environment of its own."""
    first, start = first_weights(programs), time.time()
    workspace = programs.folder / "nvflare"
    programs.spawn("nvflare", nvflare_home.python(), HERE / "nvflare" / "job.py", clients, rounds, first, workspace)
    programs.finish("nvflare", A_ROUND * (rounds + 1))
    moments = re.findall(r"^(\S+ \S+) - INFO - Saved numpy model", programs.log("nvflare"), re.MULTILINE)
    ends = [datetime.strptime(moment, "%Y-%m-%d %H:%M:%S,%f").timestamp() for moment in moments]
    if len(ends) != rounds:
        raise RuntimeError(f"NVFlare saved {len(ends)} models in {rounds} rounds:\n{programs.log('nvflare')[-3000:]}")
    weights = np.load(workspace / "study" / "server" / "simulate_job" / "models" / "server.npy")
    return Outcome(Times.from_ends(start, ends), weights, list((HERE / "nvflare").glob("*.py")))


def pooled(programs: Processes, clients: int, rounds: int) -> Outcome:
    """All images in one process."""
    first, start = first_weights(programs), time.time()
    programs.python("pooled", "-m", "benchmarks.peers.pooled", clients, rounds, first, programs.folder)
    return of_files(programs, start, rounds, [HERE / "pooled.py"], "pooled")


SYSTEMS: dict[str, tuple[str, Callable[[Processes, int, int], Outcome]]] = {
    "this": ("this, TLS and client keys", this),
    "forked": ("this, clients forked by the daemon", this_forked),
    "stock": ("Flower, SuperLink and SuperNodes", stock),
    "simulation": ("Flower, simulation (`flwr run`)", simulated),
    "nvflare": (f"NVFlare {nvflare_home.VERSION}, simulator", nvflare),
    "pooled": ("no federation, images pooled", pooled),
}


@functools.cache
def first() -> np.ndarray:
    """The weights that all begin with, as one vector."""
    with processes() as programs:
        programs.python("first", "-c", "import numpy; from benchmarks.peers.site import initial; numpy.save('first.npy', initial())")
        programs.finish("first")
        weights: np.ndarray = np.load(programs.folder / "first.npy")
        return weights


def first_weights(programs: Processes) -> Path:
    """Their file: servers that start from it get by without TensorFlow."""
    path = programs.folder / "first.npy"
    np.save(path, first())
    return path


def connection(programs: Processes, lines: str) -> None:
    """Where `flwr run` submits to."""
    home = programs.folder / "flwr"
    home.mkdir()
    (home / "config.toml").write_text(f'[superlink]\ndefault = "here"\n[superlink.here]\n{lines}\n')


def flower(programs: Processes, name: str, *argv: object) -> None:
    """Start one of Flower's commands, which look for one another on the path."""
    programs.spawn(name, *argv, PATH=f"{BIN}:{os.environ['PATH']}", FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION="1",
                   FLWR_LOCAL_SUPERLINK_HTTP_API_PORT=str(free_port()), FLWR_LOCAL_CONTROL_API_PORT=str(free_port()))


def submit(programs: Processes, clients: int, rounds: int, first: Path, *options: object) -> None:
    """`flwr run` of the plain app from a copy: it must not find this project's settings above it."""
    app = programs.folder / "app"
    shutil.copytree(HERE / "flower", app, ignore=shutil.ignore_patterns("__pycache__"))
    config = f'rounds={rounds} clients={clients} first="{first}" folder="{programs.folder}"'
    flower(programs, "submit", "flwr", "run", app, "here", "--run-config", config, *options)
    programs.finish("submit", 120)


def of_files(programs: Processes, start: float, rounds: int, written: list[Path], log: str) -> Outcome:
    """Wait for the file of the last round's weights; a round ends when its file is written."""
    files = [programs.folder / ROUND.format(number) for number in range(1, rounds + 1)]
    deadline = time.monotonic() + A_ROUND * (rounds + 1)
    while not files[-1].exists():
        if time.monotonic() > deadline or programs.all[log].poll():
            raise RuntimeError(f"round {rounds} did not end:\n{programs.log(log)[-3000:]}")
        time.sleep(0.05)
    time.sleep(0.2)  # until it is whole
    times = Times.from_ends(start, [file.stat().st_mtime for file in files])
    return Outcome(times, np.load(files[-1]), written)


def last_snapshot(project: Path, rounds: int) -> np.ndarray:
    """The weights of a run of this project as one vector."""
    with np.load(snapshots(list_runs(project / "results")[0])[rounds]) as arrays:
        return np.concatenate([arrays[name].ravel() for name in arrays.files])


def wait_for_port(port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
