"""A server and two sites on machines of their own (network namespaces), with TLS and keys, on a line that fails."""
from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.network import SERVER, Network, NotPossible, network
from fedtui import keys
from fedtui.client import DaemonClient
from fedtui.project import Project
from tests.e2e.conftest import TOY, Federation
from tests.fedtui.conftest import Fedtui

ALL = "fraction-fit=1 fraction-evaluate=1 min-available-clients=2 "
PORT = 8081
PROJECT = '[tool.flwr.app]\npublisher = "test"\n[tool.fedtui]\nrole = "server"\nserver-address = "0.0.0.0:8081"\n'
CUT_S = 30.0

Rows = Callable[[Path], list[dict[str, str]]]


class Machines(Federation):
    """A federation whose processes each run on a host of a network: the server, and the site of a client's name."""

    def __init__(self, root: Path, net: Network) -> None:
        super().__init__(root)
        self.net = net
        (root / "pyproject.toml").write_text(PROJECT)
        self.project = Project.find(root)
        keys.init(self.project, [net.address[SERVER]])
        keys.add(self.project, ["C1", "C2"])

    def prefix(self, name: str) -> list[str]:
        return self.net.on(name if name in self.net.address else "C2")

    def serve(self, config: str, *more: object) -> None:
        self.server(config, "--host", "0.0.0.0", *self.project.keys.server_options(), *more, port=PORT)
        self.see("server", "listening on")

    def site(self, name: str, behaviour: str = "", ca: Path | str | None = None, key: Path | str | None = None) -> None:
        """Start a client; without `ca` and `key` with the right ones, "" is none."""
        folder = self.project.keys
        address = f"{self.net.address[SERVER]}:{PORT}"
        self.spawn(name, TOY, name, address, behaviour, folder.ca if ca is None else ca, folder.private(name) if key is None else key)


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    root = tmp_path / "server"
    root.mkdir()
    try:
        with network("C1", "C2") as net:
            made = Machines(root, net)
            try:
                yield made
            finally:
                made.close()
    except NotPossible as reason:
        pytest.skip(str(reason))


def outcomes(rows: Rows, federation: Federation) -> set[tuple[str, str]]:
    """Each client's part in the run: (client, outcome)."""
    return {(row["client_id"], row["outcome"]) for row in rows(federation.run / "metrics" / "participation.csv")}


def test_who_may_not_join_is_told_and_so_is_the_server(machines: Machines, tmp_path: Path) -> None:
    """Without a key, with a revoked one, and with a certificate of its own making."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "pyproject.toml").write_text('[tool.flwr.app]\n[tool.fedtui]\nrole = "server"\n')
    own = Project.find(tmp_path / "own")
    keys.init(own, [machines.net.address[SERVER]])
    machines.serve(ALL + "num-server-rounds=2")
    machines.site("C1")
    machines.site("keyless", key="")
    machines.site("stranger", ca=own.keys.ca, key=machines.project.keys.private("C1"))
    machines.site("plain", ca="", key="")
    machines.see("keyless", "10.77.0.1:8081 refuses this client: it takes only clients with a listed key, give --private-key")
    machines.see("stranger", r"waiting for 10.77.0.1:8081: its certificate does not fit \(.*\), check --root-certificates and the address")
    machines.see("plain", "it does not speak plain HTTP, give --root-certificates")
    machines.see("server", "refused a client at 10.77.0.3: it has no listed key")
    machines.see("server", r"refused a client at 10.77.0.3: it does not trust this server's certificate \(unknown ca\)")
    machines.see("server", "refused a client at 10.77.0.3: it does not speak TLS")
    machines.site("C2")
    assert machines.finish() == 0, machines.log("server")


def test_a_key_revoked_in_mid_run_is_out_at_once(machines: Machines, rows: Rows) -> None:
    machines.serve("fraction-fit=1 fraction-evaluate=1 start-clients=2 num-server-rounds=3")
    key = machines.project.keys.private("C2").read_bytes()
    machines.site("C1", "slow")
    machines.site("C2")
    machines.see("C2", "round 1: evaluated")  # C1 takes longer
    keys.revoke(machines.project, "C2")
    machines.see("server", "C2 is out: its key was revoked")
    machines.see("C2", "refuses this client: it does not know this client's key")
    machines.see("server", r"refused a client at 10.77.0.3: its key SHA256:\S+ is not among the client keys")
    assert machines.finish() == 0, machines.log("server")
    assert ("C1", "ok") in outcomes(rows, machines)
    stolen = machines.root / "stolen"
    stolen.write_bytes(key)
    machines.processes["C1"].kill()  # the server waits for somebody
    machines.processes["C2"].kill()
    machines.serve("num-server-rounds=4 start-clients=1 min-available-clients=1", "--resume", machines.run.name)
    machines.site("C2", key=stolen)
    machines.see("server", r"refused a client at 10.77.0.3: its key SHA256:\S+ is not among the client keys")


def test_a_line_cut_for_thirty_seconds_in_mid_round_costs_no_answer(machines: Machines, rows: Rows, until: Callable[..., None]) -> None:
    """C2's next message is sent into the cut line, and C1's answer to the same round, too."""
    machines.serve(ALL + "num-server-rounds=3")
    machines.site("C1", "slow")
    machines.site("C2")
    machines.see("C2", "round 1: evaluated")
    machines.net.lines["C2"].cut = True  # C1 still evaluates: round 2 is sent to both after that
    machines.see("C1", "round 2 begins")
    machines.net.lines["C1"].cut = True
    server = machines.processes["server"]
    with pytest.raises(TimeoutError):
        _wait(server.pid, CUT_S)
    for line in machines.net.lines.values():
        line.cut = False
    assert machines.finish(90) == 0, machines.log("server")
    assert outcomes(rows, machines) == {("C1", "ok"), ("C2", "ok")}, machines.log("server")
    assert machines.info["rounds_done"] == 3
    assert machines.log("C2").count("round 2 begins") == 1


def _wait(pid: int, seconds: float) -> None:
    """Return when a process ends; `TimeoutError` when it has not in time."""
    import select

    descriptor = os.pidfd_open(pid)
    try:
        if not select.select([descriptor], (), (), seconds)[0]:
            raise TimeoutError
    finally:
        os.close(descriptor)


def test_a_server_that_is_killed_and_resumed_finds_its_sites_again(machines: Machines, rows: Rows) -> None:
    machines.serve(ALL + "num-server-rounds=40")
    machines.site("C1")
    machines.site("C2")
    machines.see("server", "round 3/40")
    machines.processes["server"].send_signal(signal.SIGKILL)
    machines.processes["server"].wait()
    machines.see("C1", "waiting for 10.77.0.1:8081")
    machines.see("C2", "waiting for 10.77.0.1:8081")
    machines.serve("num-server-rounds=40", "--resume", machines.run.name)
    assert machines.finish() == 0, machines.log("server")
    assert machines.info["rounds_done"] == 40
    assert outcomes(rows, machines) == {("C1", "ok"), ("C2", "ok")}


def test_two_hospitals_and_a_server_by_the_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]) -> None:
    """docs/several_machines.md, with TensorFlow and made-up images."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    sites = ("hospital-a", "hospital-b")
    try:
        with network(*sites) as net:
            hosts: dict[str, Fedtui] = {}
            for host in net.address:
                (tmp_path / host).mkdir()
                text = PROJECT if host == SERVER else '[tool.flwr.app]\npublisher = "test"\n'
                (tmp_path / host / "pyproject.toml").write_text(text)
                hosts[host] = Fedtui(tmp_path / host)
                hosts[host].prefix = net.on(host)
            server = hosts[SERVER]
            try:
                _follow_the_guide(server, hosts, net, until)
            finally:
                for fedtui in hosts.values():
                    fedtui("down")
    except NotPossible as reason:
        pytest.skip(str(reason))


def _follow_the_guide(server: Fedtui, hosts: dict[str, Fedtui], net: Network, until: Callable[..., None]) -> None:
    sites = [host for host in hosts if host != SERVER]
    small = ("--set", "image-size=32", "--set", "fraction-fit=1", "--set", "fraction-evaluate=1", "--set", "synthetic-examples=24")
    assert server("keys", "init", "--name", net.address[SERVER]).code == 0
    assert server("keys", "add", *sites).code == 0
    for site in sites:
        assert server("keys", "export", site, "-o", f"../{site}/keys.toml").code == 0
        assert hosts[site]("keys", "import", "keys.toml").code == 0
    run = server.start("up", "--rounds", "30", "--set", "start-clients=2", *small, "--wait")
    for site in sites:
        done = hosts[site]("up", seconds=200)
        assert done.code == 0, done.err
        assert f"this is a site of {net.address[SERVER]}:8081" in done.err
        assert [process["name"] for process in DaemonClient(Project(hosts[site].folder)).processes()] == [site]
    daemon = DaemonClient(Project(server.folder))

    def remote() -> dict[str, dict[str, object]]:
        return {process["name"]: process for process in daemon.processes() if process["role"] == "remote"}

    until(lambda: set(remote()) == set(sites) and all(process["answered"] for process in remote().values()), what="both sites are listed at the server")
    assert {name: process["address"] for name, process in remote().items()} == {site: net.address[site] for site in sites}
    refused = server("stop", sites[0])
    assert refused.code != 0 and f"is connected from {net.address[sites[0]]}" in refused.err
    done = server.end(run, 200)
    assert done.code == 0, done.err
