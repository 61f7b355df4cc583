"""A client's connection: its key, the certificates it trusts, and signed calls to the Fleet API."""
from __future__ import annotations

import datetime
import email.utils
import importlib.metadata
import ssl
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key, load_ssh_private_key
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.supercore.constant import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    FLWR_COMPONENT_NAME_METADATA_KEY,
    FLWR_PACKAGE_NAME_METADATA_KEY,
    FLWR_PACKAGE_VERSION_METADATA_KEY,
)
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from google.protobuf.message import DecodeError

from poweranger.bundle import APPLIED, OBJECTS, PREFER, Preference, join, split
from poweranger.errors import UserError

Reply = TypeVar("Reply")
CONNECT = 5.0  # seconds; a new try gets through sooner than the kernel's, when a link is back
RUNTIME = {  # Flower's own function for these three would import FastAPI: 13 MB
    FLWR_PACKAGE_NAME_METADATA_KEY: "flwr",
    FLWR_PACKAGE_VERSION_METADATA_KEY: importlib.metadata.version("flwr"),
    FLWR_COMPONENT_NAME_METADATA_KEY: "SuperNode",
}


def load_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A client's key, OpenSSH or PEM, not encrypted.

    Raises
    ------
    UserError
        When the file cannot be read or holds no such key.
    """
    make_one = "make one with: ssh-keygen -t ecdsa -b 256 -N '' -f NAME"
    try:
        data = path.read_bytes()
        key = load_ssh_private_key(data, None) if b"OPENSSH" in data else load_pem_private_key(data, None)
    except OSError as error:
        raise UserError(f"private key {path} cannot be read: {error.strerror}") from None
    except TypeError:
        raise UserError(f"private key {path} is encrypted: this program cannot ask for its password, {make_one}") from None
    except (ValueError, UnsupportedAlgorithm):
        if data.startswith((b"ecdsa-", b"ssh-", b"-----BEGIN PUBLIC")):
            raise UserError(f"{path} is a public key: give the private one, the file without .pub") from None
        raise UserError(f"{path} is no private key in OpenSSH or PEM format, or it is encrypted: {make_one}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"private key {path} is no elliptic-curve (ECDSA) key: {make_one}")
    return key


def load_root_certificates(path: Path) -> ssl.SSLContext:
    """A TLS context that trusts the certificates in a PEM file; raises UserError when it cannot be read."""
    try:
        return ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        raise UserError(f"root certificates {path} hold no certificate in PEM format") from None
    except OSError as error:
        raise UserError(f"root certificates {path} cannot be read: {error.strerror}") from None


class FleetClient:
    """One node's signed calls to the Fleet API.

    Parameters
    ----------
    address : `host:port`.
    trust : None for plain HTTP.

    Attributes
    ----------
    bundles : whether the server has shown that it takes an answer with its objects.
    """

    def __init__(self, address: str, trust: ssl.SSLContext | None, key: ec.EllipticCurvePrivateKey) -> None:
        self._key, self.bundles = key, False
        self.public_key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        host = address.rpartition(":")[0].strip("[]")
        self._http = httpx.Client(
            base_url=f"{'https' if trust else 'http'}://{address}/v1/fleet/",
            verify=trust or False,
            trust_env=host not in ("localhost", "::1") and not host.startswith("127."),  # no proxy on the way to this machine
            limits=httpx.Limits(keepalive_expiry=60),
            headers={
                "content-type": PROTOBUF_MEDIA_TYPE,
                "accept": PROTOBUF_MEDIA_TYPE,
                FLEET_HTTP_PUBLIC_KEY_HEADER: b64encode(self.public_key).decode(),
                **RUNTIME,
            },
        )

    def call(
        self, name: str, request: Any, answer: type[Reply], *, objects: Sequence[bytes] = (), timeout: float = 30.0, prefer: str = ""
    ) -> tuple[Reply, list[bytes]]:
        """One call; the answer, and the objects behind it (see `poweranger/bundle.py`).

        Parameters
        ----------
        objects : sent behind the request; only for a server that `bundles`.
        prefer : the Prefer header (RFC 7240), which a server may follow or not.

        Raises
        ------
        httpx.HTTPError
            When the server is not reached (`TransportError`) or answers an error (`HTTPStatusError`).
        """
        content = request.SerializeToString()
        if objects:
            content, prefer = join([content, *objects]), str(Preference())
        signed = self.sign(name, content, timeout)
        if prefer:
            signed.headers[PREFER] = prefer
        response = self._http.send(signed)
        response.raise_for_status()
        body, contents = response.content, []
        try:
            if response.headers.get(APPLIED) == OBJECTS:
                self.bundles = True
                body, *contents = split(body)
            return answer.FromString(body), contents  # type: ignore[attr-defined]
        except (DecodeError, ValueError):
            raise httpx.DecodingError("it speaks no Fleet API, check the address") from None

    def sign(self, name: str, content: bytes, timeout: float = 30.0) -> httpx.Request:
        """The HTTP request of a call: the key's owner and the time are signed, the body is protected by TLS."""
        stamp = _now().isoformat()
        headers = {
            TIMESTAMP_HEADER: stamp,
            FLEET_HTTP_SIGNATURE_HEADER: b64encode(self._key.sign(stamp.encode(), ec.ECDSA(hashes.SHA256()))).decode(),
        }
        limits = httpx.Timeout(timeout, connect=min(timeout, CONNECT))
        return self._http.build_request("POST", name, content=content, headers=headers, timeout=limits)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def why_refused(response: httpx.Response, has_key: bool) -> str:
    """Why a server does not let a client join, and what to do."""
    if response.status_code == 401:
        date = email.utils.parsedate_to_datetime(response.headers.get("date", email.utils.format_datetime(_now())))
        ahead = (_now() - date).total_seconds()
        if abs(ahead) > 4:
            return f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's, set it"
        return "it does not accept this client's signature"
    if response.status_code == 412 and not has_key:
        return "it takes only clients with a listed key, give --private-key"
    if response.status_code == 412:
        return "it does not know this client's key, have its .pub file put into the server's folder of client keys"
    if response.status_code == 404:
        return "it speaks no Fleet API, check the address"
    return f"{response.status_code} {response.text[:200]}"


def why_unreachable(error: BaseException, tls: bool) -> str:
    """What to do about a failed call; empty when the server is just not there."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate does not fit ({cause.verify_message}), check --root-certificates and the address"
        if isinstance(cause, ssl.SSLError):
            return "it does not speak TLS, start it with --certfile and --keyfile or leave out --root-certificates"
        if isinstance(cause, ConnectionRefusedError):
            return ""
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.RemoteProtocolError) and not tls:
        return "it does not speak plain HTTP, give --root-certificates if it uses TLS"
    return "" if isinstance(error, (httpx.ReadError, httpx.RemoteProtocolError)) else str(error)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
