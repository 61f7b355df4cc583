"""What the benchmarks of rounds and memory share: the workload, processes that are surely ended, keys, and a verdict."""
from __future__ import annotations

import contextlib
import datetime
import ipaddress
import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from benchmarks.workload import WORKLOAD
from poweranger.results import list_runs, snapshots
from poweranger.run_config import KEYS, SETTINGS

PROJECT = Path(__file__).resolve().parents[1]
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1",
         "NO_COLOR": "1"}
OURS = {*SETTINGS, *(key.environment for key in KEYS), "NOTIFY_SOCKET"}  # variables that would change what is measured
MARK = "FEDERATED_HEALTH_BENCHMARK"  # all processes inherit it: what a baseline leaves behind is found by it


class Processes:
    """Programs that run in a folder of their own and write their logs there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.all: dict[str, subprocess.Popen[bytes]] = {}

    def spawn(self, name: str, *argv: object, cwd: Path | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command; `name.log` gets its output, and its standard input is a pipe."""
        env = self.environment() | environment
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([*map(str, argv)], cwd=cwd or self.folder, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log)
        self.all[name] = process
        return process

    def environment(self) -> dict[str, str]:
        """What every process here gets."""
        env = {k: v for k, v in os.environ.items() if k not in OURS} | QUIET
        return env | {"PYTHONPATH": str(PROJECT), "FLWR_HOME": str(self.folder / "flwr"), MARK: str(self.folder)}

    def python(self, name: str, *argv: object) -> subprocess.Popen[bytes]:
        """Start this Python."""
        return self.spawn(name, sys.executable, *argv)

    def log(self, name: str) -> str:
        """What a process has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def see(self, name: str, pattern: str, seconds: float = 120) -> re.Match[str]:
        """Wait for a line in a process's log."""
        end = time.monotonic() + seconds
        while True:
            ended = self.all[name].poll()
            if match := re.search(pattern, self.log(name)):
                return match
            if ended is not None or time.monotonic() > end:
                raise RuntimeError(f"{name} never said {pattern!r} (exit code {ended}):\n{self.log(name)[-3000:]}")
            time.sleep(0.05)

    def finish(self, name: str, seconds: float = 600) -> None:
        """Wait for a process's successful end."""
        if code := self.all[name].wait(seconds):
            raise RuntimeError(f"{name} ended with {code}:\n{self.log(name)[-3000:]}")

    def close(self) -> None:
        """End everything that was started here, and what that has started."""
        for process in self.all.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 5
        for process in self.all.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        while left := [process for process in psutil.process_iter() if self._is_ours(process)]:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=1)
        for process in self.all.values():
            process.wait()
            if process.stdin:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


@contextlib.contextmanager
def processes() -> Iterator[Processes]:
    """Processes in a temporary folder; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    started = Processes(folder)
    try:
        yield started
    finally:
        started.close()
        shutil.rmtree(folder, ignore_errors=True)


class Federation:
    """A real server on the workload, with TLS and client keys, and its clients; all start at the same moment."""

    def __init__(self, programs: Processes, clients: int, rounds: int, config: str = WORKLOAD, *, large: int = 0, wait_for: int = 0,
                 client: Sequence[str] = ("-m", "poweranger.client.standalone_client"), sites: Sequence[Path] = ()) -> None:
        """With `large`, clients that send that many numbers and learn nothing; `wait_for` more clients than there are idles.

        `client` is the program of each, which takes the client's options; `sites` are their images, else made-up ones.
        """
        names = [f"C{i}" for i in range(1, clients + 1)]
        folder, port = programs.folder, free_port()
        make_credentials(folder, names)
        config += f" num-server-rounds={rounds} min-available-clients={wait_for or clients}"
        self.programs, self.rounds, self.start = programs, rounds, time.time()
        self.server = programs.python(
            "server", "-m", "poweranger.server.server_app", "--host", "127.0.0.1", "--port", port, "--run-config", config,
            "--certfile", folder / "server.pem", "--keyfile", folder / "server.key", "--client-keys", folder / "keys",
        )
        self.clients = {}
        for name, site in itertools.zip_longest(names, sites):
            address, trust, key = f"127.0.0.1:{port}", folder / "ca.pem", folder / f"{name}.key"
            if large:
                argv: list[object] = ["-m", "benchmarks.peers.baselines", "large", name, address, trust, key, large]
            else:
                argv = [*client, "--client-id", name, "--server-address", address, "--root-certificates", trust, "--private-key", key]
                argv += ["--data-dir", site] if site else []
            self.clients[name] = programs.python(name, *argv)

    def done(self) -> int:
        """The last complete round."""
        try:
            return max(snapshots(list_runs(self.programs.folder / "results")[0]), default=0)
        except (IndexError, FileNotFoundError):
            return 0

    def finish(self) -> Times:
        """Wait for the run's end."""
        self.programs.finish("server")
        return read_times(self.programs.folder, self.start)


@dataclass(frozen=True)
class Times:
    """Seconds from the start of the processes to the end of round 1, and of each later round."""

    first: float
    later: list[float]

    @classmethod
    def from_ends(cls, start: float, ends: list[float]) -> Times:
        """Of the moments at which the rounds ended, in order."""
        return cls(ends[0] - start, [after - before for before, after in itertools.pairwise(ends)])


def read_times(folder: Path, start: float) -> Times:
    """Of the run in a project folder: a round ends when its snapshot is written."""
    found = snapshots(list_runs(folder / "results")[0])
    return Times.from_ends(start, [found[number].stat().st_mtime_ns / 1e9 for number in sorted(found) if number])


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_credentials(folder: Path, clients: list[str]) -> None:
    """Throw-away files: `ca.pem`, `server.pem` and `server.key` for 127.0.0.1; `NAME.key` and `keys/NAME.pub` a client."""
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name, server_name = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("benchmark CA", "127.0.0.1"))

    def sign(name: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType, critical: bool) -> bytes:
        builder = x509.CertificateBuilder(ca_name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        builder = builder.add_extension(extension, critical)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def secret(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    (folder / "ca.pem").write_bytes(sign(ca_name, ca_key, x509.BasicConstraints(ca=True, path_length=0), True))
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    (folder / "server.pem").write_bytes(sign(server_name, server_key, address, False))
    (folder / "server.key").write_bytes(secret(server_key))
    (folder / "keys").mkdir()
    for client in clients:
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / f"{client}.key").write_bytes(secret(key))
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        (folder / "keys" / f"{client}.pub").write_bytes(public)


class Verdict:
    """Prints measured values beside their targets, and remembers whether all were reached."""

    def __init__(self) -> None:
        self.reached = True

    def at_most(self, what: str, value: float, target: float, unit: str = "", note: str = "") -> None:
        """A line; `value` above `target` is a miss."""
        self._line(what, value, "at most", target, unit, note, value <= target)

    def at_least(self, what: str, value: float, target: float, unit: str = "", note: str = "") -> None:
        """A line; `value` below `target` is a miss."""
        self._line(what, value, "at least", target, unit, note, value >= target)

    def _line(self, what: str, value: float, bound: str, target: float, unit: str, note: str, good: bool) -> None:
        self.reached &= good
        wanted = f"{bound} {target:.4g}{unit}"
        print(f"{what:<58} {f'{value:.2f}{unit}':<12} {wanted:<18} "
              f"{'reached' if good else 'MISSED'}{f'  ({note})' if note else ''}", flush=True)


def machine() -> str:
    """What the figures were measured on, and how busy it was."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, load average {load} (1, 5, 15 minutes)"
