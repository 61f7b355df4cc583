"""The public port: what it serves, whom it refuses, and what a wrong file or a taken port is told."""
from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.proto import fleet_pb2, message_pb2, node_pb2

from poweranger.bundle import Preference
from poweranger.client.connection import FleetClient, load_private_key, load_root_certificates
from poweranger.errors import PortInUse, UserError
from poweranger.server.superlink import Link, fleet


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/openapi.json", "/redoc", "/metrics", "/v1/control/start-run", "/v1/control/list-runs",
     "/v1/runtime/pull-task-input", "/v1/fleet/", "/v1/fleet/nothing", "/v1/fleet/../control/list-runs"],
)
def test_the_port_serves_nothing_but_the_fleet_api(path: str) -> None:
    with Link("127.0.0.1", 0) as link:
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
            answer = httpx.request(method, f"http://127.0.0.1:{link.port}{path}", headers={"content-type": "application/protobuf"})
            assert answer.status_code == 404


def test_health_answers_and_every_fleet_call_needs_a_signature() -> None:
    with Link("127.0.0.1", 0) as link:
        base = f"http://127.0.0.1:{link.port}"
        assert httpx.get(f"{base}/health").status_code == 200
        routes = [path for _, path in fleet.PROTOBUF_REQUEST_TYPES if path.startswith(fleet.PREFIX)]
        assert len(routes) == 12
        for path in routes:
            assert httpx.get(base + path).status_code == 404
            assert httpx.post(base + path, content=b"").status_code == 415
            assert httpx.post(base + path, content=b"", headers={"content-type": "application/protobuf"}).status_code == 401


def _status(call: object, *arguments: object) -> int:
    try:
        call(*arguments)  # type: ignore[operator]
    except httpx.HTTPStatusError as error:
        return error.response.status_code
    return 200


def test_a_stranger_and_a_large_body_are_refused_before_the_body_is_read() -> None:
    """The body is announced and never sent: an answer shows that nobody waited for it."""
    with Link("127.0.0.1", 0) as link:
        client = FleetClient(f"127.0.0.1:{link.port}", None, ec.generate_private_key(ec.SECP256R1()))
        for name, request, status in (
            ("push-object", message_pb2.PushObjectRequest(), 401),
            ("register-node", fleet_pb2.RegisterNodeFleetRequest(public_key=client.public_key), 413),
        ):
            with socket.create_connection(("127.0.0.1", link.port), timeout=20) as raw:
                signed = client.sign(name, request.SerializeToString())
                head = "".join(f"{key}: {value}\r\n" for key, value in signed.headers.items() if key != "content-length")
                raw.sendall(f"POST /v1/fleet/{name} HTTP/1.1\r\n{head}content-length: {600 << 20}\r\n\r\n".encode())
                assert raw.recv(4096).startswith(f"HTTP/1.1 {status}".encode())
        client.close()


def test_a_node_cannot_speak_for_another() -> None:
    with Link("127.0.0.1", 0) as link:
        clients = [FleetClient(f"127.0.0.1:{link.port}", None, ec.generate_private_key(ec.SECP256R1())) for _ in range(2)]
        ids = [
            client.call("register-node", fleet_pb2.RegisterNodeFleetRequest(public_key=client.public_key), fleet_pb2.RegisterNodeFleetResponse)[0].node_id
            for client in clients
        ]
        pull = fleet_pb2.PullMessagesRequest(node=node_pb2.Node(node_id=ids[1]))
        assert _status(clients[0].call, "pull-messages", pull, fleet_pb2.PullMessagesResponse) == 401
        for client in clients:
            client.close()


def test_only_listed_keys_join_and_each_client_has_its_files_name(start_node, secrets, joined, task, until) -> None:
    listed, stranger = secrets.key("C1"), secrets.key("C9")
    (secrets.folder / "clients" / "C9.pub").unlink()
    trust, lines = load_root_certificates(secrets.tls["certfile"]), []
    with Link("127.0.0.1", 0, **secrets.tls, client_keys=secrets.folder / "clients", log=lines.append) as link, link.run({}) as (grid, _):
        refused = start_node(link.port, trust=trust, key=load_private_key(stranger))
        keyless = start_node(link.port, trust=trust)
        start_node(link.port, trust=trust, key=load_private_key(listed))
        (node,) = joined(grid, 1)
        assert [info.name for info in grid.get_nodes()] == ["C1"]
        (reply,) = grid.send_and_receive([task(node)], timeout=60)
        assert reply.has_content()
        until(lambda: refused.said("does not know this client's key"), what="the stranger says why")
        until(lambda: keyless.said("give --private-key"), what="the keyless one says why")
        assert sorted(line.partition(": ")[2].partition(" SHA256")[0] for line in lines) == ["it has no listed key", "its key"]
        assert not any("connected" in line for running in (refused, keyless) for line in running.lines)


def test_a_taken_port_names_its_holder() -> None:
    with Link("127.0.0.1", 0) as link, pytest.raises(PortInUse) as caught, Link("127.0.0.1", link.port):
        pass
    assert caught.value.exit_code == 4
    assert f"port {link.port} is in use by process {os.getpid()} (" in str(caught.value)


def test_addresses_that_are_not_this_machines() -> None:
    for host in ("192.0.2.1", "no such host"):
        with pytest.raises(UserError, match=host), Link(host, 0):
            pass


def test_wrong_files_are_named(tmp_path: Path, secrets) -> None:
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    (tmp_path / "keys").mkdir()
    cases = [
        ({"certfile": bad, "keyfile": secrets.tls["keyfile"]}, "bad.pem"),
        ({"certfile": tmp_path / "absent.pem", "keyfile": secrets.tls["keyfile"]}, "absent.pem"),
        ({"certfile": secrets.tls["certfile"]}, "--keyfile"),
        ({"client_keys": tmp_path / "keys"}, "without TLS"),
        (secrets.tls | {"client_keys": tmp_path / "keys"}, "holds no .pub or .pem file"),
        (secrets.tls | {"client_keys": tmp_path / "absent"}, "absent"),
    ]
    for arguments, words in cases:
        with pytest.raises(UserError, match=words):
            Link("127.0.0.1", 0, **arguments)
    rsa_key = rsa.generate_private_key(65537, 2048).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    ec_key = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name, content, words in (
        ("C1.pub", b"garbage", "C1.pub is no public key"),
        ("C1.pub", rsa_key, "C1.pub is no elliptic-curve"),
        ("C1.pem", secrets.tls["keyfile"].read_bytes(), "C1.pem is a private key"),
        ("C 1.pem", ec_key, "letters, digits"),
    ):
        path = tmp_path / "keys" / name
        path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            Link("127.0.0.1", 0, **secrets.tls, client_keys=tmp_path / "keys")
        path.unlink()
    for name in ("C1.pem", "C2.pem"):
        (tmp_path / "keys" / name).write_bytes(ec_key)
    with pytest.raises(UserError, match="same key as that of C1"):
        Link("127.0.0.1", 0, **secrets.tls, client_keys=tmp_path / "keys")


def test_the_server_side_needs_no_tensorflow() -> None:
    code = "import sys, poweranger.server.superlink; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    root = Path(__file__).resolve().parents[4]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_a_message_whose_delivery_was_cut_off_is_delivered_again(task) -> None:
    """The node reads a first delivery, as if it had been lost on the way, and asks again as it does after a cut."""
    with Link("127.0.0.1", 0, hold=0) as link, link.run({}) as (grid, _):
        client = FleetClient(f"127.0.0.1:{link.port}", None, ec.generate_private_key(ec.SECP256R1()))
        client.call("register-node", fleet_pb2.RegisterNodeFleetRequest(public_key=client.public_key), fleet_pb2.RegisterNodeFleetResponse)
        activate = fleet_pb2.ActivateNodeRequest(public_key=client.public_key, heartbeat_interval=30)
        node = node_pb2.Node(node_id=client.call("activate-node", activate, fleet_pb2.ActivateNodeResponse)[0].node_id)

        def pull(got: str) -> tuple[list[str], int]:
            request = fleet_pb2.PullMessagesRequest(node=node)
            answer, objects = client.call("pull-messages", request, fleet_pb2.PullMessagesResponse, prefer=str(Preference(got=got)))
            return [message.metadata.message_id for message in answer.messages_list], len(objects)

        first, second = grid.push_messages([task(node.node_id, 1), task(node.node_id, 2)])
        (once,), count = pull("")
        assert count > 1 and once in (first, second)
        assert pull("") == ([once], count)
        other = ({first, second} - {once}).pop()
        assert pull(once)[0] == [other]
        grid.withdraw([first, second])
        assert pull(once) == ([], 0)
        assert len(link.state.object_store) == 0
        client.close()


def test_a_key_that_is_added_or_revoked_counts_at_once(start_node, secrets, joined, task, until) -> None:
    secrets.key("C0")
    public, trust, lines = secrets.folder / "clients" / "C1.pub", load_root_certificates(secrets.tls["certfile"]), []
    with Link("127.0.0.1", 0, **secrets.tls, client_keys=secrets.folder / "clients", log=lines.append) as link, link.run({}) as (grid, _):
        running = start_node(link.port, trust=trust, key=load_private_key(secrets.key("C1")))
        (node,) = joined(grid, 1)
        assert "C1 may join now: its key was added" in lines
        (reply,) = grid.send_and_receive([task(node)], timeout=60)
        assert reply.has_content()
        (peer,) = grid.peers.values()
        assert peer.address == "127.0.0.1" and peer.answered is not None and peer.answered >= peer.since
        public.unlink()
        (secrets.folder / "clients" / "C2.pub").write_text("half a file")
        start_node(link.port, trust=trust)  # any call makes the server look
        joined(grid, 0)
        assert "C1 is out: its key was revoked" in lines
        assert any("C2.pub is no public key" in line for line in lines)
        until(lambda: running.said("does not know this client's key"), what="the client says why")
        assert any("refused a client at 127.0.0.1: its key SHA256:" in line for line in lines)


def test_a_client_that_breaks_off_tls_is_named_with_the_reason(start_node, secrets, tmp_path, until) -> None:
    lines: list[str] = []
    with Link("127.0.0.1", 0, **secrets.tls, log=lines.append) as link:
        own = start_node(link.port, trust=ssl.create_default_context())
        until(lambda: own.said("its certificate does not fit (self"), what="the client says why")
        until(lambda: any(line.startswith("refused a client at 127.0.0.1: it does not trust this server's certificate") for line in lines))
        start_node(link.port)
        until(lambda: any("it does not speak TLS" in line for line in lines), what="the plain one is named, too")
