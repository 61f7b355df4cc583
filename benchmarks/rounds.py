"""Seconds a round, against Flower's own ways of doing the same and against training with no federation.

    python -m benchmarks.rounds [--skip-stock] [--eight]

Real servers and clients as processes, TLS and client keys on, all in this one run; the measurements take turns, so that
a busy machine is as busy for each. A round ends when its snapshot is written. See `peers/baselines.py` for the baselines.
"""
from __future__ import annotations

import argparse
import json
import re
import statistics
import time

import psutil

from benchmarks import host
from benchmarks.common import Federation, Times, Verdict, free_port, machine, processes
from benchmarks.peers import systems

NAMES = ("C1", "C2")
LARGE = 6_250_000  # float32 numbers: 25 MB


def federation(clients: int, rounds: int, large: int = 0) -> Times:
    with processes() as programs:
        return Federation(programs, clients, rounds, large=large).finish()


def eight(rounds: int) -> Times:
    """Of a run that the daemon starts: its clients are forked from the client host."""
    with processes() as programs, host.project(programs, 8, forked=True) as daemon:
        return host.federation(daemon, 8, rounds)


def grpc(rounds: int) -> Times:
    with processes() as programs:
        address, start = f"127.0.0.1:{free_port()}", time.time()
        programs.python("server", "-m", "benchmarks.peers.baselines", "grpc-server", address, rounds)
        for name in NAMES:
            programs.python(name, "-m", "benchmarks.peers.baselines", "grpc-client", name, address)
        programs.see("server", f"round {rounds} ended", 600)
        return Times.from_ends(start, [float(text) for text in re.findall(r"round \d+ ended at (\S+)", programs.log("server"))])


def alone(rounds: int) -> list[float]:
    """Seconds of each round but the first, in which both wait for the slower one as they would in a federation."""
    with processes() as programs:
        running = [programs.python(name, "-m", "benchmarks.peers.baselines", "alone", name, rounds) for name in NAMES]
        for name in NAMES:
            programs.see(name, "ready")
        for process in running:
            assert process.stdin
            process.stdin.write(b"\n")
            process.stdin.flush()
        seconds = [json.loads(programs.see(name, r"seconds (\[.*\])\n")[1]) for name in NAMES]
        return [max(pair) for pair in list(zip(*seconds, strict=True))[1:]]


def stock(rounds: int) -> Times:
    """The stock deployment with a plain Flower app."""
    with processes() as programs:
        return systems.stock(programs, 2, rounds).times


def idle(seconds: float) -> tuple[float, float, float]:
    """Percent of a core of a server that waits for a third client, of a client that waits, and of one without a server."""
    with processes() as programs:
        running = Federation(programs, 2, 1, wait_for=3)
        lost = programs.python("lost", "-m", "poweranger.client.standalone_client", "--client-id", "C9",
                               "--server-address", f"127.0.0.1:{free_port()}", "--root-certificates", programs.folder / "ca.pem")
        for name in NAMES:
            programs.see(name, "answered query.describe")
        programs.see("lost", "waiting for")
        time.sleep(3)  # what starting up has left to do
        pids = [running.server.pid, running.clients["C1"].pid, lost.pid]
        before = [cpu_seconds(pid) for pid in pids]
        start = time.monotonic()
        time.sleep(seconds)
        passed = time.monotonic() - start
        server, client, without = (100 * (cpu_seconds(pid) - used) / passed for pid, used in zip(pids, before, strict=True))
        return server, client, without


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=9, help="times that product and baselines take turns (default %(default)s)")
    parser.add_argument("--stock-rounds", type=int, default=3)
    parser.add_argument("--skip-stock", action="store_true", help="leave out the stock SuperLink and SuperNodes (minutes)")
    parser.add_argument("--eight", action="store_true", help="also eight clients, forked from the client host")
    parser.add_argument("--idle-seconds", type=float, default=20)
    wanted = parser.parse_args()
    print(machine(), flush=True)
    federation(2, 1)  # brings the libraries into the page cache
    ours, theirs, floor = [], [], []
    for _ in range(wanted.repeats):
        ours.append(federation(2, wanted.rounds))
        theirs.append(grpc(wanted.rounds))
        floor.append(alone(wanted.rounds))

    def median(times: list[Times]) -> tuple[float, float, float]:
        later = [seconds for t in times for seconds in t.later]
        return statistics.median(t.first for t in times), statistics.median(later), min(later)

    rows = {"this, TLS and client keys": median(ours), "start_server/start_client (gRPC, no TLS)": median(theirs)}
    first, later, _ = median(ours)
    grpc_first, grpc_later, _ = median(theirs)
    floor_seconds = [seconds for run in floor for seconds in run]
    floor_later = statistics.median(floor_seconds)
    rows["no federation"] = (float("nan"), floor_later, min(floor_seconds))
    if not wanted.skip_stock:
        rows["stock SuperLink and SuperNodes"] = median([stock(wanted.stock_rounds)])
    rows["this, a model of 25 MB, no training"] = median([federation(2, wanted.rounds, LARGE)])
    if wanted.eight:
        rows["this, 8 clients, forks without TLS"] = median([eight(5)])
    server, client, without = idle(wanted.idle_seconds)

    print(f"\n2 clients, {wanted.rounds} rounds, median of {wanted.repeats} runs; {machine()}")
    print(f"{'':<42} {'round 1 done':>12} {'later round':>12} {'fastest':>12}")
    for name, (one, more, fastest) in rows.items():
        print(f"{name:<42} {f'{one:.2f} s' if one == one else '-':>12} {more:>10.3f} s {fastest:>10.3f} s")
    print()
    verdict = Verdict()
    verdict.at_most("a later round, times gRPC", later / grpc_later, 1.2)
    verdict.at_most("a later round over no federation", later - floor_later, 0.1, " s")
    if "stock SuperLink and SuperNodes" in rows:
        verdict.at_least("times as fast as stock", rows["stock SuperLink and SuperNodes"][1] / later, 20)
    verdict.at_most("round 1 done, times gRPC", first / grpc_first, 1.3)
    verdict.at_most("a later round of 25 MB", rows["this, a model of 25 MB, no training"][1], 0.6, " s")
    if wanted.eight:
        verdict.at_most("a later round of 8 clients", rows["this, 8 clients, forks without TLS"][1], 1.0, " s")
    verdict.at_most("server waiting, of a core", server, 1.0, " %")
    verdict.at_most("client waiting, of a core", client, 0.5, " %")
    verdict.at_most("client without a server, of a core", without, 0.5, " %")
    return 0 if verdict.reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
