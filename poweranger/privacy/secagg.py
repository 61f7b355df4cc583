"""Secure aggregation: the arithmetic that sites and server share. The server learns sums and nothing else.

The protocol is SecAgg (Bonawitz et al., 2017, https://eprint.iacr.org/2017/281), which is SecAgg+ (Bell et al., 2020,
https://eprint.iacr.org/2020/704) where everyone is everyone's neighbour: federations of hospitals are small. Flower's
mod and workflow are of its older API and mask the weights only; its primitives are used for key agreement, Shamir's
shares and their encryption. Two parts are our own. Flower's mask generator folds a 32 byte seed into the 32 bits that
NumPy's generator takes, which a server could try out: here a mask is a key stream of AES-256. And its quantisation rounds
to 22 bits: here every number is a fixed point of 64 bits, and a sum of integers is exact.
"""
from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt, generate_shared_key
from flwr.common.secure_aggregation.secaggplus_utils import share_keys_plaintext_concat, share_keys_plaintext_separate

from poweranger.counts import shapes
from poweranger.privacy.declared import DECLARED
from poweranger.privacy.rules import FEWEST

__all__ = ["FEWEST", "combine_shares", "create_shares"]

KEYS, SHARES, UNMASK = "query.secagg_keys", "query.secagg_shares", "query.secagg_unmask"
FRACTION_BITS = 30  # of a number that is no count: it is off by 2**-31 at the most, less than float32 rounds a weight
CURVE = ec.SECP256R1()
PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey


def new_key() -> PrivateKey:
    """A private key for one phase."""
    return ec.generate_private_key(CURVE)


def private_bytes(key: PrivateKey) -> bytes:
    """The key's 32 bytes, which are shared out."""
    return key.private_numbers().private_value.to_bytes(32, "big")


def read_private(data: bytes) -> PrivateKey:
    """What `private_bytes` gave; raises ValueError when it is no key."""
    return ec.derive_private_key(int.from_bytes(data, "big"), CURVE)


def public_bytes(key: PrivateKey) -> bytes:
    """The public half, 33 bytes."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def read_public(data: bytes) -> PublicKey:
    """A public half; raises ValueError when it is none."""
    return PublicKey.from_encoded_point(CURVE, data)


def seal(own: PrivateKey, other: bytes, sender: int, receiver: int, mask_share: bytes, key_share: bytes) -> bytes:
    """Shares for the client with the public key `other`, readable by it only."""
    text = share_keys_plaintext_concat(sender, receiver, mask_share, key_share)
    return encrypt(generate_shared_key(own, read_public(other)), text)


def unseal(own: PrivateKey, other: bytes, sender: int, receiver: int, sealed: bytes) -> tuple[bytes, bytes]:
    """The shares that `sender` sealed for `receiver`.

    Raises
    ------
    ValueError
        When they were sealed by or for somebody else.
    """
    try:
        found_sender, found_receiver, mask_share, key_share = share_keys_plaintext_separate(decrypt(generate_shared_key(own, read_public(other)), sealed))
    except Exception as error:  # Fernet's own, and of whatever a wrong text makes struct and int say
        raise ValueError(f"a share cannot be read: {type(error).__name__}") from None
    if (found_sender, found_receiver) != (sender, receiver):
        raise ValueError("a share is another client's")
    return mask_share, key_share


def stream(seed: bytes, size: int) -> np.ndarray:
    """A mask from 32 secret bytes that are used once: uint64 (size,), AES-256 in counter mode."""
    encryptor = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(encryptor.update(bytes(8 * size)), dtype="<u8")


def pair_mask(own: PrivateKey, own_index: int, other: bytes, other_index: int, size: int) -> np.ndarray:
    """What `own_index` adds for its pair with `other_index`, who adds the opposite: the two vanish from the sum."""
    mask = stream(base64.urlsafe_b64decode(generate_shared_key(own, read_public(other))), size)
    return mask if own_index < other_index else np.negative(mask)


def threshold_of(clients: int, share: float) -> int:
    """How many of `clients` have to stay, at `share` of them: more than half in any case."""
    return max(2, clients // 2 + 1, math.ceil(round(clients * share, 9)))


@dataclass(frozen=True)
class Field:
    """A part of the summed vector; `real` numbers are fixed points, the others counts."""

    name: str
    size: int
    real: bool


def fields(kind: str, classes: int, weights: int) -> list[Field]:
    """The vector's parts for `train` or `evaluate`: each mean and each count with the weight it comes with.

    Parameters
    ----------
    classes : of the federation.
    weights : size of the model.
    """
    parts = [Field("examples", 1, False)]
    for item in DECLARED[kind]:
        if item.name == "weights":
            parts.append(Field(item.name, weights, True))
        elif item.name == "clipped":
            parts.append(Field(item.name, 1, False))
        elif item.mean:
            parts += [Field(item.name, 1, True), Field(f"{item.name} of", 1, False)]
    if kind == "evaluate":
        for name, shape in shapes(classes).items():
            parts += [Field(name, math.prod(shape), False), Field(f"{name} of", 1, False)]
    return parts


def encode(parts: Iterable[Field], values: dict[str, Any], clients: int) -> np.ndarray:
    """The parts as one vector, uint64, whose sum over `clients` cannot overflow.

    Raises
    ------
    ValueError
        When a number is not finite, or too large; the text names it.
    """
    limit = 2.0**62 / clients
    pieces = []
    for part in parts:
        value = np.broadcast_to(np.asarray(values.get(part.name, 0), np.float64 if part.real else np.int64), (part.size,))
        scaled = value * 2.0**FRACTION_BITS if part.real else value
        if not (np.abs(scaled) <= limit).all():  # also when it is NaN
            raise ValueError(f"its {part.name} are not finite, or too large to be summed up securely")
        pieces.append(np.rint(scaled).astype(np.int64))
    return np.concatenate(pieces).view(np.uint64)


def decode(parts: Iterable[Field], total: np.ndarray) -> dict[str, np.ndarray]:
    """The parts of a sum of `encode`'s vectors: float64, or int64 for counts."""
    signed, found, start = total.view(np.int64), {}, 0
    for part in parts:
        piece = signed[start : start + part.size]
        found[part.name] = piece / 2.0**FRACTION_BITS if part.real else piece
        start += part.size
    return found
