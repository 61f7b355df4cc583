"""`fedtui web` as a command: where it listens, what it refuses, what it says."""
from __future__ import annotations

import datetime
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedtui.web.address import tunnel
from tests.fedtui.conftest import REPOSITORY, Fedtui
from tests.fedtui.web.conftest import Page, Served


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, and its key."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(days=1))
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    pem = serialization.Encoding.PEM
    cert_file, key_file = tmp_path / "server.pem", tmp_path / "server.key"
    cert_file.write_bytes(builder.add_extension(addresses, critical=False).sign(key, hashes.SHA256()).public_bytes(pem))
    key_file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return cert_file, key_file


def test_beyond_loopback_it_wants_tls_and_names_the_tunnel(alone: Fedtui) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7"):
        done = alone("web", "--host", host)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
        assert "--tls-cert" in done.err
        assert "ssh -N -L 5000:127.0.0.1:5000" in done.err


def test_without_tls_only_when_told_to(serve: Callable[..., Served]) -> None:
    served = serve("--host", "0.0.0.0", "--without-tls")
    assert served.base.startswith(f"http://{socket.gethostname()}:")
    port = served.base.rpartition(":")[2]
    served.base = f"http://127.0.0.1:{port}"
    assert served.get(f"/?token={served.token}").status_code == 303
    assert served.get("/", headers={"Host": f"{socket.gethostname()}:{port}"}).text.startswith("Open the address")
    assert served.get("/", headers={"Host": "other.example"}).text.startswith("This server does not go by that name")


def test_over_tls(serve: Callable[..., Served], certificate: tuple[Path, Path]) -> None:
    served = serve("--tls-cert", certificate[0], "--tls-key", certificate[1])
    assert served.base.startswith("https://127.0.0.1:")
    assert "Secure" in served.get(f"/?token={served.token}").headers["Set-Cookie"]
    assert f"wss{served.base.removeprefix('https')}/ws" in served.get("/", cookies=served.cookie).text

    async def script(page: Page) -> None:
        await page.shows("0 of 3 run")

    served.visit(script)


def test_wrong_files_and_addresses_are_one_sentence(alone: Fedtui, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, key = certificate
    (tmp_path / "other.key").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ))  # fmt: skip
    cases = {
        "give --tls-cert and --tls-key": ["--tls-cert", cert],
        "nowhere.pem: No such file": ["--tls-cert", tmp_path / "nowhere.pem", "--tls-key", key],
        "no PEM certificate and key": ["--tls-cert", key, "--tls-key", key],
        "the key is another certificate's": ["--tls-cert", cert, "--tls-key", tmp_path / "other.key"],
        "no such address": ["--host", "nowhere.invalid"],
        "cannot listen on 192.0.2.7": ["--host", "192.0.2.7", "--without-tls"],
    }
    started = {words: alone.start("web", *options) for words, options in cases.items()}
    for words, process in started.items():
        done = alone.end(process)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done.err
        assert words in done.err


def test_a_port_in_use_is_one_sentence_with_its_holder(alone: Fedtui, served: Served) -> None:
    port = served.base.rpartition(":")[2]
    done = alone("web", "--port", port)
    assert (done.code, done.out, done.err.count("\n")) == (4, "", 1)
    assert f"port {port} is in use by pid {served.process.pid}" in done.err
    assert "--port" in done.err


def test_rubbish_says_nothing_in_the_terminal(serve: Callable[..., Served]) -> None:
    served = serve()
    for rubbish in (b"\x16\x03\x01\x02\x1b[31m\r\n\r\n", b"GET /\x1b[31m HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nCookie: \xff=\x1b\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", int(served.base.rpartition(":")[2]))) as connection:
            connection.sendall(rubbish)
            assert connection.recv(100).startswith(b"HTTP/1.0 400")
    served.process.terminate()
    assert served.process.communicate(timeout=30)[1].count(b"\n") == 2  # what it says at its start


def test_the_tunnel_goes_where_this_session_came_from(alone: Fedtui) -> None:
    done = alone("web", "--host", "0.0.0.0", SSH_CONNECTION="198.51.100.4 50000 192.0.2.7 2222")
    assert "ssh -N -p 2222 -L 5000:127.0.0.1:5000" in done.err
    assert "@192.0.2.7" in done.err


def test_the_tunnel_names_the_machine_as_the_user_reached_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "me")
    monkeypatch.setenv("SSH_CONNECTION", "198.51.100.9 50112 192.0.2.7 22")
    assert tunnel("127.0.0.1", 4100) == "ssh -N -L 4100:127.0.0.1:4100 me@192.0.2.7"
    monkeypatch.delenv("SSH_CONNECTION")
    assert tunnel("::1", 4100) == f"ssh -N -L 4100:[::1]:4100 me@{socket.gethostname()}"
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)  # as in a container that has no name for it
    assert tunnel("127.0.0.1", 4100).endswith(f" USER@{socket.gethostname()}")


def test_poweranger_says_how_it_is_started() -> None:
    done = subprocess.run([sys.executable, "-m", "poweranger.web_ui"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "fedtui web " in done.stdout
