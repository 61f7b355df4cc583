"""Seconds a round with secure aggregation, as a ratio to the same run without.

    python -m benchmarks.secagg [--clients 3] [--rounds 10] [--repeats 2]

Real servers and clients as processes; the two take turns, so that a busy machine is as busy for both. Then the
arithmetic alone, for more clients than a machine has memory for.
"""
from __future__ import annotations

import argparse
import os
import statistics
import time

import numpy as np

from benchmarks.common import Federation, Verdict, machine, processes
from benchmarks.workload import WORKLOAD
from poweranger.privacy import secagg

WEIGHTS = 167_000  # of the model
SECURE = "secure-aggregation=true"


def later_rounds(clients: int, rounds: int, config: str) -> list[float]:
    with processes() as programs:
        minima = f" min-fit-clients={clients} min-evaluate-clients={clients} "
        return Federation(programs, clients, rounds, WORKLOAD + minima + config).finish().later


def arithmetic(clients: int) -> tuple[float, float, float]:
    """Seconds of a phase's arithmetic: a client's shares, its masks, and the server's sum with one client lost."""
    threshold = secagg.threshold_of(clients, 0.6)
    keys = [secagg.new_key() for _ in range(clients)]
    publics = [secagg.public_bytes(key) for key in keys]
    start = time.perf_counter()
    mask_shares = secagg.create_shares(os.urandom(32), threshold, clients)
    key_shares = secagg.create_shares(secagg.private_bytes(keys[0]), threshold, clients)
    for other in range(1, clients):
        secagg.seal(keys[0], publics[other], 0, other, mask_shares[other], key_shares[other])
    shared = time.perf_counter()
    vector = np.zeros(WEIGHTS, np.uint64) + secagg.stream(os.urandom(32), WEIGHTS)
    for other in range(1, clients):
        vector += secagg.pair_mask(keys[0], 0, publics[other], other, WEIGHTS)
    masked = time.perf_counter()
    total = np.zeros(WEIGHTS, np.uint64)
    for _ in range(clients):
        total += vector
        total -= secagg.stream(secagg.combine_shares(mask_shares[:threshold]), WEIGHTS)
    for other in range(1, clients):
        total -= secagg.pair_mask(keys[0], 0, publics[other], other, WEIGHTS)
    return shared - start, masked - shared, time.perf_counter() - masked


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=2, help="times that the two take turns (default %(default)s)")
    wanted = parser.parse_args()
    print(machine(), flush=True)
    plain: list[float] = []
    secure: list[float] = []
    for _ in range(wanted.repeats):
        plain += later_rounds(wanted.clients, wanted.rounds, "")
        secure += later_rounds(wanted.clients, wanted.rounds, SECURE)
    print(f"\n{wanted.clients} clients: a later round {statistics.median(plain):.2f} s, with secure aggregation {statistics.median(secure):.2f} s")
    for clients in (5, 20, 50):
        shares, masks, opened = arithmetic(clients)
        print(f"{clients} clients, a phase: a client's shares {shares:.2f} s, its masks {masks:.2f} s; the server's sum {opened:.2f} s")
    verdict = Verdict()
    verdict.at_most("a later round, times one without", statistics.median(secure) / statistics.median(plain), 2.0)
    return 0 if verdict.reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
