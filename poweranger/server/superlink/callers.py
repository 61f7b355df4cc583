"""Who makes a call, and whether it speaks for itself."""
from __future__ import annotations

import datetime
import functools
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from fastapi import HTTPException
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature


def authenticate(headers: Mapping[str, str]) -> bytes:
    """The PEM public key whose owner signed the call's time just now, as Flower's `authenticate_node` checks it.

    That function also wants the parsed body, and parses the key in every call.
    """
    try:
        public_key = b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
        signature = b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER], validate=True)
        stamp = headers[TIMESTAMP_HEADER]
        age = (now() - datetime.datetime.fromisoformat(stamp)).total_seconds()
        if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
            raise ValueError("the time is too far off")
        if not verify_signature(_parsed(public_key), stamp.encode("ascii"), signature):
            raise ValueError("the signature is wrong")
    except (KeyError, ValueError, TypeError) as error:
        raise HTTPException(401) from error
    return public_key


@functools.lru_cache(1024)
def _parsed(public_key: bytes) -> ec.EllipticCurvePublicKey:
    return bytes_to_public_key(public_key)


def check_claims(message: Any, public_key: bytes, node_id: int | None) -> None:
    """Refuse a body that speaks for another node than the one that signed the call."""
    if hasattr(message, "public_key"):
        honest = message.public_key == public_key
    else:
        honest = node_id == (message.node.node_id if hasattr(message, "node") else message.node_id)
    if not honest:
        raise HTTPException(401, "the call speaks for another node")
    if any(reply.metadata.src_node_id != node_id for reply in getattr(message, "messages_list", ())):
        raise HTTPException(403, "the answer speaks for another node")


def fingerprint(public_key: bytes) -> str:
    """SHA-256 fingerprint of a PEM public key, as `ssh-keygen -l` prints it."""
    try:
        blob = load_pem_public_key(public_key).public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]
    except Exception:  # not a key that OpenSSH knows
        return "(unknown kind)"
    return "SHA256:" + b64encode(hashlib.sha256(b64decode(blob)).digest()).decode().rstrip("=")
