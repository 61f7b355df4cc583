"""Key and certificate files: read once, refused with the file's name."""
from __future__ import annotations

import re
import ssl
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key, load_ssh_public_key

from poweranger.errors import UserError

MAKE_A_KEY = "make one with: ssh-keygen -t ecdsa -b 256 -N '' -f NAME"


def read_public_key(path: Path) -> bytes:
    """A public key file, OpenSSH or PEM, as the PEM bytes that nodes send.

    Raises
    ------
    UserError
        When it cannot be read, or is no elliptic-curve public key.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"client key {path} cannot be read: {error.strerror}") from None
    if b"PRIVATE KEY" in data:
        raise UserError(f"client key {path} is a private key: keep it at the client and put its .pub file here")
    try:
        key = load_pem_public_key(data) if data.lstrip().startswith(b"-----BEGIN") else load_ssh_public_key(data)
    except Exception as error:  # the library raises many kinds
        raise UserError(f"client key {path} is no public key ({type(error).__name__}): {MAKE_A_KEY}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UserError(f"client key {path} is no elliptic-curve (ECDSA) key: {MAKE_A_KEY}")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_files(folder: Path) -> list[Path]:
    """The `.pub` and `.pem` files of a folder of client keys, sorted; a `UserError` when it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in (".pub", ".pem") and not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"folder of client keys {folder} cannot be read: {error.strerror}") from None


def read_client_keys(folder: Path) -> dict[str, bytes]:
    """The `.pub` and `.pem` files of a folder: client name (file name without ending) to PEM public key.

    Raises
    ------
    UserError
        When the folder is absent or holds no key, a file is unusable, or two files name one client or hold one key.
    """
    paths = key_files(folder)
    if not paths:
        raise UserError(f"folder of client keys {folder} holds no .pub or .pem file: nobody could join")
    keys: dict[str, bytes] = {}
    for path in paths:
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", path.stem):
            raise UserError(f"client key {path}: a client's name has letters, digits, '.', '_' and '-' only, 64 at most")
        key = read_public_key(path)
        if path.stem in keys:
            raise UserError(f"client key {path}: another file already holds a key of {path.stem}")
        if key in keys.values():
            other = next(name for name, known in keys.items() if known == key)
            raise UserError(f"client key {path} is the same key as that of {other}: each client needs its own")
        keys[path.stem] = key
    return keys


def check_certificate(certfile: Path, keyfile: Path) -> None:
    """Refuse a certificate or key that TLS cannot use, naming the file."""
    for path in (certfile, keyfile):
        try:
            path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None

    def no_password() -> str:
        raise UserError(f"{keyfile} is encrypted: the server cannot ask for its password, give an unencrypted key")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile, no_password)
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            raise UserError(f"{keyfile} is not the key of certificate {certfile}") from None
        raise UserError(f"{certfile} and {keyfile} are no certificate and key in PEM format ({error.reason or 'unreadable'})") from None
