"""Makes, hands out, takes in and takes back the keys of a federation over several machines."""
from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import shutil
import tomllib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path

import tomli_w
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from fedtui import certificates as made
from fedtui.key_folder import KeyFolder
from fedtui.project import Project
from fedtui.roster import check_address, check_client_name
from poweranger.errors import UserError
from poweranger.files import make_private_folder, replace_files

HERE = ("localhost", "127.0.0.1", "::1")  # the server's certificate is for clients on its own machine, too
SOON = datetime.timedelta(days=30)
EXPORTED = "# What the site {name} needs to take part: `fedtui keys import` takes it. It holds the site's private key:\n# send it on a way that nobody else can read, and delete it once it is imported.\n"


@dataclass(frozen=True)
class Export:
    """What a site needs: its name and key, whom to call, and the certificate to check it with. Keys are texts in PEM."""

    client: str
    server_address: str
    private_key: str
    ca_certificate: str


@dataclass(frozen=True)
class Listed:
    """One line of `keys list`.

    Attributes
    ----------
    kind : `authority`, `server` or `client`.
    state : `ok`, `revoked`, `expires soon` or `expired`.
    ends : when a certificate ends; None for a client's key, which ends when it is revoked.
    detail : what the certificate is for, or the key's fingerprint.
    """

    name: str
    kind: str
    state: str
    ends: datetime.datetime | None
    detail: str


def init(project: Project, names: Sequence[str]) -> list[str]:
    """Make the authority, the server's certificate for `names` and for this machine, and a key for each client of the roster.

    Returns
    -------
    list of str
        The clients that have a key now.

    Raises
    ------
    UserError
        When there are keys already, or a name is none.
    """
    folder = project.keys
    if folder.path.exists():
        raise UserError(f"{folder.path} exists already, and sites may trust what is in it: `fedtui keys renew` renews the server's certificate; to begin anew, move that folder away")
    roster = project.roster()
    clients = [client.name for client in roster.effective()]
    beside = KeyFolder(folder.path.with_name(f".keys.{os.getpid()}"))  # all of it, or nothing
    make_private_folder(beside.path)
    try:
        _write({beside.path / ".gitignore": b"*\n"})
        make_private_folder(beside.clients)
        key = made.new_key()
        _write({beside.ca_key: made.key_text(key), beside.ca: made.certificate_text(made.make_authority(key, f"{project.root.name} (fedtui)"))})
        _certify(beside, _hosts([*names, roster.host]))
        for name in clients:
            _make_client(beside, name)
        beside.path.rename(folder.path)
    except BaseException:
        shutil.rmtree(beside.path, ignore_errors=True)
        raise
    return clients


def add(project: Project, names: Sequence[str]) -> None:
    """Make a key for each client; a client that has one is refused, and then none is made."""
    folder = _authority(project)
    for name in names:
        if _public(folder, check_client_name(name)).exists():
            raise UserError(f"{name} has a key already: `fedtui keys renew {name}` makes a new one")
    for name in names:
        _make_client(folder, name)


def export(project: Project, name: str) -> Export:
    """What the site of a client needs.

    Raises
    ------
    UserError
        When the client has no key here, or the server's certificate names no address that a site could call.
    """
    folder = _authority(project)
    if not _public(folder, name).exists() or not folder.private(name).exists():
        why = "its key was revoked" if (folder.revoked / f"{name}.pub").exists() else "it has no key here"
        raise UserError(f"{name} cannot be exported, {why}: `fedtui keys add {name}` makes one")
    return Export(name, _address(project, folder), folder.private(name).read_text(), folder.ca.read_text())


def export_text(export: Export) -> bytes:
    """The file that `read_export` reads."""
    values = {"client": export.client, "server-address": export.server_address, "private-key": export.private_key, "ca-certificate": export.ca_certificate}
    return (EXPORTED.format(name=export.client) + tomli_w.dumps(values, multiline_strings=True)).encode()


def read_export(path: Path) -> Export:
    """An exported file, checked.

    Raises
    ------
    UserError
        When it cannot be read, or is something else.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        export = Export(*(str(values[key]) for key in ("client", "server-address", "private-key", "ca-certificate")))
        key = load_ssh_private_key(export.private_key.encode(), None)
        certificate = x509.load_pem_x509_certificate(export.ca_certificate.encode())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, UnsupportedAlgorithm):
        raise UserError(f"{path} is no file of `fedtui keys export`, or it is damaged: have it sent again") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not made.is_authority(certificate):
        raise UserError(f"{path} holds no elliptic-curve key and certificate of an authority: have it exported anew")
    check_client_name(export.client)
    check_address(export.server_address)
    return export


def take_in(project: Project, export: Export) -> None:
    """Write a site's keys.

    Raises
    ------
    UserError
        When this project has an authority of its own, or trusts another one.
    """
    folder = project.keys
    if folder.ca_key.exists():
        raise UserError(f"{folder.path} holds the certificate authority of a server: import at the site, in a project of its own")
    if folder.ca.exists():
        known, new = made.read_certificate(folder.ca), x509.load_pem_x509_certificate(export.ca_certificate.encode())
        if known.public_key() != new.public_key():
            raise UserError(f"{folder.path} trusts another server's authority: move that folder away, if this project shall change over")
    make_private_folder(folder.private(export.client).parent)
    _write({
        folder.path / ".gitignore": b"*\n", folder.ca: export.ca_certificate.encode(), folder.private(export.client): export.private_key.encode(),
    })  # fmt: skip


def revoke(project: Project, name: str) -> None:
    """Take a client's key back; a `UserError` when it has none."""
    folder = _authority(project)
    public = _public(folder, name)
    if not public.exists():
        raise UserError(f"{name} has no key that could be revoked: `fedtui keys list` lists those that count")
    make_private_folder(folder.revoked)
    os.replace(public, folder.revoked / public.name)
    folder.private(name).unlink(missing_ok=True)


def renew_client(project: Project, name: str) -> None:
    """Give a client a new key; the old one does not count any more."""
    folder = _authority(project)
    if not _public(folder, name).exists():
        raise UserError(f"{name} has no key: `fedtui keys add {name}` makes one")
    _make_client(folder, name)


def renew_server(project: Project, names: Sequence[str] = ()) -> bool:
    """Make the server's certificate anew, for the names it had or for `names`; whether the authority's had to be, too."""
    folder = _authority(project)
    try:
        had = names or server_names(project)
    except UserError as error:
        raise UserError(f"{error}: `fedtui keys renew --name HOST` makes it anew, with the name or address that sites call the server by") from None
    wanted = _hosts(had)  # before anything is written
    ca = made.read_certificate(folder.ca)
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=made.SERVER_DAYS)
    if short := ca.not_valid_after_utc < ends:
        name = str(ca.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
        _write({folder.ca: made.certificate_text(made.make_authority(made.read_key(folder.ca_key), name))})
    _certify(folder, wanted)
    return short


def list_keys(project: Project, now: datetime.datetime | None = None) -> list[Listed]:
    """The certificates, then the clients; empty without keys."""
    folder, moment = project.keys, now or datetime.datetime.now(datetime.UTC)
    found = []
    for name, kind, path in (("ca", "authority", folder.ca), ("server", "server", folder.server)):
        if path.exists():
            certificate = made.read_certificate(path)
            ends = certificate.not_valid_after_utc
            state = "expired" if ends <= moment else "expires soon" if ends - moment <= SOON else "ok"
            found.append(Listed(name, kind, state, ends, ", ".join(made.names_of(certificate))))
    for state, place in (("ok", folder.clients), ("revoked", folder.revoked)):
        found += [Listed(path.stem, "client", state, None, _fingerprint(path)) for path in sorted(place.glob("*.pub"))]
    return found


def expiry_notes(project: Project, now: datetime.datetime | None = None) -> list[str]:
    """What is about to end within 30 days, and what to do about it."""
    at_site = not project.keys.ca_key.exists()
    remedy = "ask the server's operator for a new export and import it" if at_site else "`fedtui keys renew` renews it"
    what = {"authority": "the certificate authority's certificate", "server": "the server's certificate"}
    return [
        f"{what[row.kind]} {'ended' if row.state == 'expired' else 'ends'} on {row.ends:%Y-%m-%d}: {remedy}"
        for row in list_keys(project, now) if row.ends and row.state != "ok"
    ]


def server_names(project: Project) -> list[str]:
    """The names and addresses that the server's certificate is for."""
    return made.names_of(made.read_certificate(project.keys.server))


def _authority(project: Project) -> KeyFolder:
    if not project.keys.ca_key.exists():
        raise UserError(f"there is no certificate authority in {project.keys.path}: `fedtui keys init` makes one, on the server's machine")
    return project.keys


def _hosts(names: Sequence[str]) -> list[str]:
    """What the server's certificate is for; a `UserError` when a name is none."""
    return [made.check_host(name) for name in dict.fromkeys([*names, *HERE]) if name not in ("0.0.0.0", "::")]


def _certify(folder: KeyFolder, names: Sequence[str]) -> None:
    key = made.new_key()
    certificate = made.make_server(key, names, made.read_certificate(folder.ca), made.read_key(folder.ca_key))
    _write({folder.server_key: made.key_text(key), folder.server: made.certificate_text(certificate)})


def _address(project: Project, folder: KeyFolder) -> str:
    """Where sites reach the server: the roster's host, when the certificate has it, else the certificate's first other name."""
    roster = project.roster()
    names = [name for name in server_names(project) if name not in HERE and not _is_loopback(name)]
    if not names:
        raise UserError(f"{folder.server} names this machine only: `fedtui keys renew --name HOST`, with the name or address that sites call the server by")
    host = roster.host if roster.host in names else names[0]
    return f"[{host}]:{roster.port}" if ":" in host else f"{host}:{roster.port}"


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _make_client(folder: KeyFolder, name: str) -> None:
    private, public = made.ssh_texts(made.new_key())
    make_private_folder(folder.private(name).parent)
    _write({folder.private(name): private, _public(folder, name): public})


def _public(folder: KeyFolder, name: str) -> Path:
    return folder.clients / f"{check_client_name(name)}.pub"


def _write(contents: Mapping[Path, bytes]) -> None:
    """Replace files, all of them or, when one cannot be written, none: a key and what belongs to it stay together."""
    replace_files([(path, methodcaller("write", content)) for path, content in contents.items()])


def _fingerprint(path: Path) -> str:
    """As `ssh-keygen -l` prints it."""
    try:
        blob = b64decode(path.read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return "unreadable"
    return "SHA256:" + b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
