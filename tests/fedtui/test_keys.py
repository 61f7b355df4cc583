"""Keys of a federation over several machines: what is made, who gets what, and what is refused."""
from __future__ import annotations

import datetime
import os
import resource
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedtui import certificates, keys
from fedtui.cli.doctor import check_keys
from fedtui.config_edit import become_site
from fedtui.daemon.commands import Commands, RunWish, federation
from fedtui.project import Project, Roster
from poweranger.client.connection import load_private_key, load_root_certificates
from poweranger.errors import UserError
from poweranger.server.superlink import Link
from poweranger.server.superlink.keys import read_client_keys
from tests.fedtui.conftest import Fedtui

ROSTER = '[tool.flwr.app]\npublisher = "test"\n[tool.fedtui]\nserver-address = "0.0.0.0:8081"\n[tool.fedtui.clients.C1]\n[tool.fedtui.clients.C2]\n'


def project(folder: Path, text: str = ROSTER) -> Project:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(text)
    return Project.find(folder)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A server's project with keys for `fl.example.org`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = project(tmp_path / "server")
    assert keys.init(made, ["fl.example.org", "192.0.2.1"]) == ["C1", "C2"]
    return made


def test_what_is_made_is_its_owners_alone_and_what_the_programs_take(server: Project) -> None:
    folder = server.keys
    for path in (folder.path, *folder.path.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert (folder.path / ".gitignore").read_text() == "*\n"
    assert set(read_client_keys(folder.clients)) == {"C1", "C2"}
    for name in ("C1", "C2"):
        assert load_private_key(folder.private(name)).curve.name == "secp256r1"
    context = load_root_certificates(folder.ca)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with Link("127.0.0.1", 0, certfile=folder.server, keyfile=folder.server_key, client_keys=folder.clients) as link:
        import httpx

        assert httpx.get(f"https://127.0.0.1:{link.port}/health", verify=context).status_code == 200
    assert keys.server_names(server)[:2] == ["fl.example.org", "192.0.2.1"]


def test_an_authority_is_never_overwritten(server: Project) -> None:
    before = server.keys.ca_key.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        keys.init(server, ["other.example.org"])
    assert server.keys.ca_key.read_bytes() == before


@pytest.mark.parametrize("name", ["a b", "-x", "fl.example.org:8081", "192.0.2.300", "", "x" * 300])
def test_a_name_that_is_none_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    made = project(tmp_path / "server")
    with pytest.raises(UserError, match="is no host name"):
        keys.init(made, [name])
    assert os.listdir(made.root) == ["pyproject.toml"]


def test_a_site_gets_its_key_and_never_that_of_the_authority(server: Project, tmp_path: Path) -> None:
    packed = keys.export(server, "C1")
    assert packed.server_address == "fl.example.org:8081"
    text = keys.export_text(packed)
    for secret in (server.keys.ca_key, server.keys.server_key, server.keys.private("C2")):
        own = secret.read_bytes().splitlines()[2:-1]  # the first lines are a header and the same in all
        assert own and not any(line in text for line in own)
    path = tmp_path / "C1.keys.toml"
    path.write_bytes(text)
    site = project(tmp_path / "site", '[tool.flwr.app]\npublisher = "test"\n')
    (site.root / "images").mkdir()
    read = keys.read_export(path)
    keys.take_in(site, read)
    become_site(site, read.server_address, read.client, "images")
    assert sorted(path.name for path in site.keys.path.rglob("*") if path.is_file()) == [".gitignore", "C1.key", "ca.pem"]
    roster = site.roster()
    assert (roster.role, roster.server_address, roster.server_local) == ("site", "fl.example.org:8081", False)
    (client,) = roster.effective()
    assert (client.name, client.data_dir) == ("C1", str(site.root / "images"))
    command = Commands(site).client(roster, client)
    assert command[command.index("--root-certificates") + 1] == str(site.keys.ca)
    assert load_private_key(Path(command[command.index("--private-key") + 1])).public_key() == load_private_key(server.keys.private("C1")).public_key()
    keys.take_in(site, read)  # again is no mistake


def test_a_server_and_a_site_do_not_mix(server: Project, tmp_path: Path) -> None:
    path = tmp_path / "C1.keys.toml"
    path.write_bytes(keys.export_text(keys.export(server, "C1")))
    packed = keys.read_export(path)
    with pytest.raises(UserError, match="holds the certificate authority"):
        keys.take_in(server, packed)
    other = project(tmp_path / "other")
    keys.init(other, ["other.example.org"])
    site = project(tmp_path / "site")
    keys.take_in(site, keys.export(other, "C1"))
    with pytest.raises(UserError, match="trusts another server's authority"):
        keys.take_in(site, packed)
    with pytest.raises(UserError, match="no certificate authority"):
        keys.add(site, ["C3"])


@pytest.mark.parametrize("damage", [lambda text: text[:200], lambda text: text.replace("client =", "klient ="), lambda text: text.replace("BEGIN CERT", "BEGIN ROT"), lambda text: ""])
def test_a_damaged_export_is_refused(server: Project, tmp_path: Path, damage) -> None:
    path = tmp_path / "file"
    path.write_text(damage(keys.export_text(keys.export(server, "C1")).decode()))
    with pytest.raises(UserError, match="is no file of `fedtui keys export`"):
        keys.read_export(path)


def test_revoked_and_renewed(server: Project) -> None:
    old = server.keys.private("C2").read_bytes()
    keys.renew_client(server, "C2")
    assert server.keys.private("C2").read_bytes() != old
    keys.revoke(server, "C1")
    assert set(read_client_keys(server.keys.clients)) == {"C2"}
    assert not server.keys.private("C1").exists()
    assert [(row.name, row.state) for row in keys.list_keys(server)] == [("ca", "ok"), ("server", "ok"), ("C2", "ok"), ("C1", "revoked")]
    with pytest.raises(UserError, match="its key was revoked"):
        keys.export(server, "C1")
    for wrong in (keys.revoke, keys.renew_client):
        with pytest.raises(UserError, match="C9 has no key"):
            wrong(server, "C9")
    with pytest.raises(UserError, match="C1 has no key .* `fedtui keys add C1` makes it"):
        server.keys.check_clients(["C2", "C1"])
    with pytest.raises(UserError, match="C2 has a key already"):
        keys.add(server, ["C3", "C2"])
    assert not server.keys.private("C3").exists()
    keys.add(server, ["C1"])
    server.keys.check_clients(["C1", "C2"])


def test_the_servers_certificate_is_renewed_and_sites_go_on_trusting_it(server: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, before = server.keys.ca.read_bytes(), server.keys.server.read_bytes()
    assert keys.renew_server(server) is False
    assert server.keys.server.read_bytes() != before and server.keys.ca.read_bytes() == ca
    assert keys.server_names(server)[:2] == ["fl.example.org", "192.0.2.1"]
    keys.renew_server(server, ["new.example.org"])
    assert keys.export(server, "C1").server_address == "new.example.org:8081"
    x509.load_pem_x509_certificate(server.keys.server.read_bytes()).verify_directly_issued_by(x509.load_pem_x509_certificate(ca))
    server.keys.server.unlink()
    monkeypatch.setattr(certificates, "SERVER_DAYS", certificates.CA_DAYS + 1)  # the authority has to be renewed, too, but not by a call that fails
    for names, said in (([], "--name HOST"), (["no name"], "'no name' is no host name")):
        with pytest.raises(UserError, match=said):
            keys.renew_server(server, names)
    assert server.keys.ca.read_bytes() == ca


def test_what_cannot_be_written_leaves_key_and_certificate_together(server: Project) -> None:
    before = server.keys.server_key.read_bytes(), server.keys.server.read_bytes()
    usual, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, most))  # a key fits, a certificate does not: as on a full disk
    try:
        with pytest.raises(OSError, match="too large"):
            keys.renew_server(server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (usual, most))
    assert (server.keys.server_key.read_bytes(), server.keys.server.read_bytes()) == before
    assert not list(server.keys.path.glob(".server*"))


def test_an_authority_near_its_end_is_renewed_with_the_same_key(server: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    old = certificates.read_certificate(server.keys.ca)
    monkeypatch.setattr(certificates, "SERVER_DAYS", certificates.CA_DAYS + 1)
    assert keys.renew_server(server) is True
    new = certificates.read_certificate(server.keys.ca)
    assert new.serial_number != old.serial_number and (new.subject, new.public_key()) == (old.subject, old.public_key())
    certificates.read_certificate(server.keys.server).verify_directly_issued_by(old)


def test_ends_are_told_thirty_days_ahead(server: Project, tmp_path: Path) -> None:
    (finding,) = check_keys(server)
    assert finding.state == "ok"
    ends = certificates.read_certificate(server.keys.server).not_valid_after_utc
    for days, words in ((31, []), (29, [f"the server's certificate ends on {ends:%Y-%m-%d}: `fedtui keys renew` renews it"])):
        assert keys.expiry_notes(server, ends - datetime.timedelta(days=days)) == words
    assert "ended on" in keys.expiry_notes(server, ends)[0]
    site = project(tmp_path / "site")
    keys.take_in(site, keys.export(server, "C1"))
    (note,) = keys.expiry_notes(site, certificates.read_certificate(site.keys.ca).not_valid_after_utc)
    assert note.endswith("ask the server's operator for a new export and import it")


def test_the_doctor_sees_keys_that_ended_or_others_can_read_and_a_server_without_any(
    server: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "SERVER_DAYS", 0)
    keys.renew_server(server)
    (finding,) = check_keys(server)
    assert finding.state == "fail" and "ended on" in finding.detail and "fedtui keys renew" in finding.remedy
    server.keys.server.write_text("damaged")
    (finding,) = check_keys(server)
    assert finding.state == "fail" and "server.pem holds no certificate" in finding.detail and "fedtui keys renew --name" in finding.remedy
    with pytest.raises(UserError, match=r"server.pem holds no certificate in PEM format: `fedtui keys renew --name HOST` makes it anew"):
        keys.renew_server(server)
    server.keys.ca_key.chmod(0o644)
    (finding,) = check_keys(server)
    assert finding.state == "fail" and "ca.key" in finding.detail and finding.remedy.startswith("chmod")
    server.keys.server_key.rename(away := server.keys.path / "away")
    server.keys.ca_key.chmod(0o600)
    (finding,) = check_keys(server)
    assert finding.state == "fail" and "server.key is gone" in finding.detail
    away.rename(server.keys.server_key)
    server.keys.ca_key.unlink()
    server.keys.ca.unlink()
    (finding,) = check_keys(server)
    assert finding.state == "fail" and "ca.pem is gone" in finding.detail and "import the site's file again" in finding.remedy
    (finding,) = check_keys(project(tmp_path / "bare"))
    assert finding.state == "warn" and "open to the network without TLS" in finding.detail


def test_the_server_is_started_with_what_there_is(server: Project, tmp_path: Path) -> None:
    command = Commands(server).server(server.roster(), RunWish())
    assert command[command.index("--certfile") + 1] == str(server.keys.server)
    assert command[command.index("--client-keys") + 1] == str(server.keys.clients)
    server.keys.server.unlink()
    assert "--certfile" in Commands(server).server(server.roster(), RunWish()), "it says that the file is gone: it does not open the port to everybody"
    bare = project(tmp_path / "bare")
    tunnel = Roster("127.0.0.1:8081")
    assert federation(bare, tunnel) and not federation(server, tunnel), "who comes through a tunnel is known by its key"
    assert not {"--certfile", "--root-certificates"} & {*Commands(bare).server(bare.roster(), RunWish()), *Commands(bare).client(bare.roster(), bare.roster().clients[0])}


def test_a_server_that_names_only_itself_cannot_be_exported(tmp_path: Path) -> None:
    made = project(tmp_path / "server")
    keys.init(made, [])
    with pytest.raises(UserError, match=r"names this machine only: `fedtui keys renew --name HOST`"):
        keys.export(made, "C1")


def test_a_role_with_an_empty_roster_makes_up_no_client(tmp_path: Path) -> None:
    made = project(tmp_path / "server", '[tool.flwr.app]\n[tool.fedtui]\nrole = "server"\n')
    assert made.roster().effective() == () and made.roster().server_local
    with pytest.raises(UserError, match="role = 'gate' is not allowed"):
        project(tmp_path / "gate", '[tool.flwr.app]\n[tool.fedtui]\nrole = "gate"\n').roster()


def test_the_commands_from_init_to_a_site_that_starts_no_server(alone: Fedtui, fedtui_in, tmp_path: Path) -> None:
    made = alone("keys", "init", "--name", "192.0.2.1")
    assert made.code == 0 and 'set server-address = "0.0.0.0:8081"' in made.err
    assert alone("keys", "init").code == 2
    alone.prefix = ["prlimit", "--fsize=100"]  # as on a full disk
    assert "C2.keys.toml cannot be written" in alone("keys", "export", "C2").err
    alone.prefix = []
    assert alone("keys", "export", "C2").code == 0
    exported = alone.folder / "C2.keys.toml"
    assert exported.stat().st_mode & 0o777 == 0o600
    assert "exists already" in alone("keys", "export", "C2").err
    project(tmp_path / "site", '[tool.flwr.app]\npublisher = "test"\n')
    site = fedtui_in(tmp_path / "site")
    (in_the_way := tmp_path / "site" / "keys").touch()
    done = site("keys", "import", exported)
    assert (done.code, done.err.count("\n")) == (1, 1) and f"{in_the_way}/" in done.err and "Not a directory" in done.err
    in_the_way.unlink()
    done = site("keys", "import", exported)
    assert done.code == 0 and "would make synthetic ones" in done.err
    try:
        assert [process["name"] for process in site("ps", "--json").json] == ["C2"]
        for words in (["start", "server"], ["stop", "server"], ["up", "--wait"], ["up", "--rounds", "3"], ["up", "--name", "x"]):
            done = site(*words)
            assert done.code != 0 and "this is a site of 192.0.2.1:8081" in done.err and "Traceback" not in done.err
    finally:
        site("down")
    assert [(row["name"], row["state"]) for row in alone("keys", "list", "--json").json] == [("ca", "ok"), ("server", "ok"), ("C1", "ok"), ("C2", "ok")]
    load_pem_private_key((alone.folder / "keys" / "ca.key").read_bytes(), None)
