"""A whole run with real images and six clients in a cgroup of 3 GB, with the memory guard and without it.

    python -m benchmarks.guard [--limit-mb 3072] [--rounds 4] [--record FOLDER]

Each client is a process of its own (`client-host = false`), which six times does not fit: that is what the guard is for. Needs
the right to make a memory cgroup (root, or a delegated one), and images in `FEDERATED_HEALTH_DATA` or beside the clone.
`--record` keeps what was measured each second, for `benchmarks.guard_simulation`.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import PROJECT
from fedtui.client import DaemonClient
from fedtui.daemon.cgroups import Group, own_groups
from fedtui.project import Project
from poweranger.results import list_runs, read_info

CLIENTS = 6
SETTINGS = {"image-size": 192, "batch-size": 64, "fraction-fit": 1.0, "fraction-evaluate": 1.0}
PATIENCE_S = 420.0
MB = 1 << 20


@dataclass
class Outcome:
    """What became of a run.

    Attributes
    ----------
    kills : processes that the kernel killed for want of memory.
    seen : states and causes of processes, as they changed.
    trace : each second what was left and what each process used, in MB.
    """

    guard: bool
    outcome: str = "did not begin"
    rounds: int = 0
    seconds: float = 0.0
    kills: int = 0
    answers: int = 0
    seen: list[str] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    trace: list[dict[str, Any]] = field(default_factory=list)


def main() -> int:
    """Run both, tell what happened; 0 when the guarded run finished and the kernel killed nothing in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit-mb", type=int, default=3072)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    images = Path(os.environ.get("FEDERATED_HEALTH_DATA", PROJECT.parent / "shared" / "data")) / "mednist6"
    if not images.is_dir():
        parser.error(f"no images at {images}: set FEDERATED_HEALTH_DATA")
    outcomes = []
    for guard in (True, False):
        with folder() as place, cgroup(options.limit_mb) as group:
            outcomes.append(run(place, group, images, guard, options.rounds))
        tell(outcomes[-1], options)
        if options.record:
            options.record.mkdir(parents=True, exist_ok=True)
            (options.record / f"{'guarded' if guard else 'unguarded'}.json").write_text(json.dumps(outcomes[-1].trace))
    return 0 if outcomes[0].outcome == "finished" and not outcomes[0].kills else 1


def run(place: Path, group: Group, images: Path, guard: bool, rounds: int) -> Outcome:
    """A federation in `place`, whose daemon and all that it starts live in `group`."""
    write_project(place, images, guard)
    found = Outcome(guard)
    begun = time.monotonic()
    words = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    up = fedtui(place, "up", "--rounds", rounds, "--wait", *words, group=group)
    os.environ["XDG_STATE_HOME"] = str(place / "state")
    client = DaemonClient(Project.find(place))
    states: dict[str, str] = {}
    try:
        while up.poll() is None and time.monotonic() - begun < PATIENCE_S:
            time.sleep(1)
            if client.running():
                look(client, found, states, time.monotonic() - begun)
        found.seconds = time.monotonic() - begun
        found.kills = group.oom_kills or 0
    finally:
        up.send_signal(signal.SIGINT)
        up.communicate()
        fedtui(place, "down").communicate()
    history = next((place / "state").glob("fedtui/*/memory-guard.jsonl"), None)
    found.decisions = [json.loads(line) for line in history.read_text().splitlines()] if history else []
    for path in list_runs(place / "results"):
        info = read_info(path)
        found.outcome, found.rounds = info["outcome"], info["rounds_done"]
        if found.seconds >= PATIENCE_S:
            found.outcome = f"not done after {PATIENCE_S:.0f} s"
        table = path / "metrics" / "participation.csv"
        found.answers = sum(",fit," in line and ",ok," in line for line in table.read_text().splitlines()) if table.exists() else 0
    return found


def look(client: DaemonClient, found: Outcome, states: dict[str, str], now: float) -> None:
    """Note what has changed, and what each process uses."""
    processes, memory = client.processes(), client.memory()
    sizes = {one["name"]: one["use_mb"] for one in memory["processes"]}
    found.trace.append({"time": round(now, 1), "available_mb": memory["machine"]["available_mb"], "step": memory["guard"]["step"], "uses_mb": sizes})
    for one in processes:
        text = one["state"] + (f": {why}" if (why := one.get("cause") or one.get("reason")) else "")
        if states.get(one["name"]) != text and one["state"] in ("held", "failed", "backoff") and "server to be ready" not in text:
            found.seen.append(f"{now:5.0f} s  {one['name']} {text}")
        states[one["name"]] = text


def tell(found: Outcome, options: argparse.Namespace) -> None:
    """What happened, for people."""
    print(f"\n{'with' if found.guard else 'without'} the guard, {CLIENTS} clients in {options.limit_mb} MB: {found.outcome}, "
          f"{found.rounds} of {options.rounds} rounds, {found.answers} answers, {found.seconds:.0f} s, {found.kills} processes killed by the kernel")
    least = min((second["available_mb"] for second in found.trace), default=0.0)
    most = max((len([name for name in second["uses_mb"] if name != "server"]) for second in found.trace), default=0)
    print(f"at least {least:.0f} MB were left; at most {most} clients ran at a time")
    for line in found.seen[:12]:
        print(f"  {line}")
    if len(found.seen) > 12:
        print(f"  … and {len(found.seen) - 12} more")
    for decision in found.decisions:
        print(f"  guard: {decision['action']} {decision['process']}: {decision['reason']}")


def fedtui(place: Path, *words: object, group: Group | None = None) -> subprocess.Popen[str]:
    """The command, in the cgroup if one is given."""
    prefix = ["/bin/sh", "-c", f'echo $$ > {group.folder}/cgroup.procs && exec "$@"', "sh"] if group else []
    environment = os.environ | {"XDG_STATE_HOME": str(place / "state"), "XDG_CACHE_HOME": str(place / "cache"), "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "fedtui", *map(str, words)], cwd=place, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )


def write_project(place: Path, images: Path, guard: bool) -> None:
    """Six sites of the images dealt out, and the roster."""
    command = [sys.executable, "-m", "poweranger.client.partition", "--data", str(images), "--clients", str(CLIENTS), "--out", str(place / "sites")]
    subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lines = ["[tool.flwr.app]", 'publisher = "benchmark"', "[tool.flwr.app.config]", "cache-mb = 64", "[tool.fedtui]", f'server-address = "127.0.0.1:{port}"',
             "client-host = false", "[tool.fedtui.memory]", f"guard = {str(guard).lower()}"]  # fmt: skip
    for number, site in enumerate(sorted((place / "sites").iterdir()), 1):
        lines += [f"[tool.fedtui.clients.C{number}]", f'data-dir = "{site}"']
    (place / "pyproject.toml").write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="guard-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def cgroup(limit_mb: int) -> Iterator[Group]:
    """A memory cgroup below this process's own."""
    groups = own_groups()
    if not groups:
        sys.exit("this machine has no memory cgroups")
    made = Group(groups[0].folder / f"guard-{uuid.uuid4().hex[:8]}", groups[0].version)
    try:
        made.folder.mkdir()
        (made.folder / ("memory.limit_in_bytes" if made.version == 1 else "memory.max")).write_text(str(limit_mb * MB))
    except OSError as error:
        sys.exit(f"no memory cgroup can be made here ({error}): run this as root, or in a delegated cgroup")
    try:
        yield made
    finally:
        for _ in range(50):
            with contextlib.suppress(OSError):
                made.folder.rmdir()
                break
            time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
