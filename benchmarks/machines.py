"""Seconds a round when server and sites are on machines of their own, on a quick line and on a slow, lossy one.

    python -m benchmarks.machines [--rounds 20]

Three network namespaces with lines between them (see `network.py`), TLS and client keys on. Each run begins on a line
without delay, which then becomes one of 200 ms (round trip) that loses 1 % of the packets each way. It needs root.
"""
from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from benchmarks.common import WORKLOAD, machine, processes, read_times
from benchmarks.network import SERVER, Network, NotPossible, network
from fedtui.certificates import certificate_text, key_text, make_authority, make_server, new_key, ssh_texts

SITES = ("C1", "C2")
ROUND_TRIP, LOSS = 0.2, 0.01
LARGE = 6_250_000  # float32 numbers: 25 MB


def credentials(folder: Path, host: str) -> None:
    """Throw-away keys: `ca.pem`, `server.pem`, `server.key`; `NAME.key` and `keys/NAME.pub` a site."""
    ca_key, key = new_key(), new_key()
    ca = make_authority(ca_key, "benchmark")
    (folder / "keys").mkdir()
    (folder / "ca.pem").write_bytes(certificate_text(ca))
    (folder / "server.pem").write_bytes(certificate_text(make_server(key, [host], ca, ca_key)))
    (folder / "server.key").write_bytes(key_text(key))
    for site in SITES:
        private, public = ssh_texts(new_key())
        (folder / f"{site}.key").write_bytes(private)
        (folder / "keys" / f"{site}.pub").write_bytes(public)


def seconds_a_round(net: Network, rounds: int, large: int) -> tuple[list[float], list[float]]:
    """Of the rounds on the quick line, the first left out, and of those on the slow one."""
    for line in net.lines.values():
        line.delay, line.loss = 0.0, 0.0
    with processes() as programs:
        folder, host, start = programs.folder, net.address[SERVER], time.time()
        credentials(folder, host)
        config = f"{WORKLOAD} num-server-rounds={2 * rounds} min-available-clients={len(SITES)}"
        programs.spawn("server", *net.on(SERVER), sys.executable, "-m", "poweranger.server.server_app", "--host", "0.0.0.0", "--port", 8081,
                       "--run-config", config, "--certfile", "server.pem", "--keyfile", "server.key", "--client-keys", "keys")
        for site in SITES:
            address, trust, key = f"{host}:8081", folder / "ca.pem", folder / f"{site}.key"
            argv: list[object] = ["-m", "poweranger.client.standalone_client", "--client-id", site, "--server-address", address,
                                  "--root-certificates", trust, "--private-key", key]
            if large:
                argv = ["-m", "benchmarks.peers.baselines", "large", site, address, trust, key, large]
            programs.spawn(site, *net.on(site), sys.executable, *argv)
        programs.see("server", f"round {rounds}/", 300)
        for line in net.lines.values():
            line.delay, line.loss = ROUND_TRIP / 2, LOSS
        programs.finish("server", 1200)
        later = read_times(folder, start).later
        return later[: rounds - 1], later[rounds:]  # the round in which the line changed counts for neither


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="on each line (default %(default)s)")
    wanted = parser.parse_args()
    print(f"{machine()}; 2 sites; a slow line: {1000 * ROUND_TRIP:.0f} ms, {LOSS:.0%} lost")
    print(f"{'median seconds a round':<36} {'quick line':>10} {'slow line':>10}")
    try:
        with network(*SITES) as net:
            for what, rounds, large in (("training, 96 pixels", wanted.rounds, 0), ("a model of 25 MB, no training", max(wanted.rounds // 4, 2), LARGE)):
                quick, slow = seconds_a_round(net, rounds, large)
                print(f"{what:<36} {statistics.median(quick):>8.2f} s {statistics.median(slow):>8.2f} s   slowest {max(slow):.2f} s", flush=True)
    except NotPossible as reason:
        print(reason)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
