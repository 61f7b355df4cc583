"""A server and nodes for the tests of this package, with TLS and keys where a test wants them."""
from __future__ import annotations

import datetime
import ipaddress
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from poweranger.client.node import Node
from poweranger.server.superlink import LocalGrid

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import tiny_node  # noqa: E402


@dataclass
class Running:
    """A node in a thread of this process."""

    node: Node
    lines: list[str] = field(default_factory=list)
    thread: threading.Thread | None = None

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)


@pytest.fixture
def start_node() -> Iterator[Callable[..., Running]]:
    """`start_node(port, **options of Node)` runs the tiny app's node in a thread; all leave at the test's end."""
    started: list[Running] = []

    def start(port: int, client_id: str = "C1", *, app: object = tiny_node.app, host: str = "127.0.0.1", **options: object) -> Running:
        lines: list[str] = []
        running = Running(Node(app, f"{host}:{port}", {"client-id": client_id}, log=lines.append, **options), lines)
        running.thread = threading.Thread(target=running.node.run, daemon=True)
        running.thread.start()
        started.append(running)
        return running

    yield start
    for running in started:
        running.node.leave()
    for running in started:
        assert running.thread
        running.thread.join(10)
        assert not running.thread.is_alive(), "a node did not end"


@dataclass
class Program:
    """A node as a process of its own; `lines` grows as it prints."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    reading: threading.Thread | None = None

    def output(self) -> str:
        """All that an ended program printed."""
        assert self.reading
        self.reading.join(30)
        return "".join(self.lines)

    def said(self, text: str) -> bool:
        return any(text in line for line in self.lines)


@pytest.fixture
def start_program() -> Iterator[Callable[..., Program]]:
    """`start_program(*arguments)` starts Python with them; what still runs at the test's end is killed."""
    started: list[Program] = []

    def start(*arguments: str | Path, **environment: str) -> Program:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"PYTHONPATH": str(HERE.parents[1]), "PYTHONUNBUFFERED": "1"} | environment,
        )
        program = Program(process)
        assert process.stdout
        program.reading = threading.Thread(target=lambda: program.lines.extend(iter(process.stdout.readline, "")), daemon=True)
        program.reading.start()
        started.append(program)
        return program

    yield start
    for program in started:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait()


@pytest.fixture
def start_tiny(start_program: Callable[..., Program]) -> Callable[..., Program]:
    """`start_tiny(port, client_id, *tls)` runs the tiny node as a process."""
    return lambda port, client_id, *tls: start_program(HERE / "tiny_node.py", f"127.0.0.1:{port}", client_id, *tls)


@dataclass
class Secrets:
    """TLS files of a server on this machine, and keys of clients."""

    folder: Path

    @property
    def tls(self) -> dict[str, Path]:
        return {"certfile": self.folder / "server.pem", "keyfile": self.folder / "server.key"}

    def key(self, name: str) -> Path:
        """Make a private key file, OpenSSH, and its public half in `clients/`; return the private one."""
        key = ec.generate_private_key(ec.SECP256R1())
        path = self.folder / name
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        (self.folder / "clients").mkdir(exist_ok=True)
        (self.folder / "clients" / f"{name}.pub").write_bytes(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH))
        return path


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    """A self-signed certificate for 127.0.0.1 in `server.pem`, and room for client keys."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "server.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "server.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Secrets(tmp_path)


@pytest.fixture
def joined() -> Callable[[LocalGrid, int], list[int]]:
    """`joined(grid, count)` waits, by events, until so many nodes are connected."""

    def wait(grid: LocalGrid, count: int) -> list[int]:
        end = datetime.datetime.now() + datetime.timedelta(seconds=60)
        while len(nodes := grid.get_node_ids()) != count:
            assert datetime.datetime.now() < end, f"{len(nodes)} nodes instead of {count}"
            grid.wait(5)
        return nodes

    return wait


@pytest.fixture
def task() -> Callable[..., Message]:
    """`task(node_id, round, values=..., **config)` is a training message."""

    def make(node_id: int, number: int = 1, values: np.ndarray | None = None, **config: object) -> Message:
        weights = np.arange(4, dtype=np.float32) if values is None else values
        content = {"arrays": ArrayRecord({"weights": Array(weights)}), "config": ConfigRecord({"number": number, **config})}
        return Message(RecordDict(content), node_id, "train", group_id=str(number))

    return make
