"""A message and its objects in one call, where node and server are both ours.

Flower's Fleet API has one call for each object: a dozen a message. A node that names the preference `objects` (RFC 7240)
gets a pulled message's objects behind it; a server that says so (`preference-applied`) takes an answer's objects behind
it. A stock peer knows neither, and the plain calls follow. Each pull names the message that the node got last: when
another one was handed out since, its answer was lost on the way, and it is handed out again.
"""
from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

PREFER, APPLIED = "prefer", "preference-applied"  # header names
OBJECTS = "objects"
LARGEST = 4 << 20  # bytes of one bundle: what is larger goes object by object
_WANT = re.compile(r'objects; have="([0-9a-f ]*)"; got="([0-9a-f]*)"')
_SIZE = struct.Struct("!I")


@dataclass(frozen=True)
class Preference:
    """A node that sends or takes bundles: the ids of the objects it `held` and of the message it `got` last ("" for none)."""

    held: frozenset[str] = frozenset()
    got: str = ""

    def __str__(self) -> str:
        return f'{OBJECTS}; have="{" ".join(sorted(self.held))}"; got="{self.got}"'


def preference_in(prefer: str) -> Preference | None:
    """What a Prefer header says; None when the node does not want bundles."""
    match = _WANT.fullmatch(prefer)
    return Preference(frozenset(match[1].split()), match[2]) if match else None


def object_ids(tree: Any) -> list[str]:
    """The ids of an object tree, each once, children first: the message itself is the last."""
    return list(dict.fromkeys([*(found for child in tree.children for found in object_ids(child)), tree.object_id]))


def join(parts: Iterable[bytes]) -> bytes:
    """Parts one behind the other, each after its length (4 bytes, big-endian)."""
    return b"".join(piece for part in parts for piece in (_SIZE.pack(len(part)), part))


def split(body: bytes) -> list[bytes]:
    """The parts that `join` put together, at least one.

    Raises
    ------
    ValueError
        When the lengths do not fit.
    """
    parts: list[bytes] = []
    start = 0
    while start < len(body) or not parts:
        end = start + _SIZE.size
        if len(body) < end:
            raise ValueError("a bundle breaks off")
        start, end = end, end + _SIZE.unpack_from(body, start)[0]
        if len(body) < end:
            raise ValueError("a bundle breaks off")
        parts.append(body[start:end])
        start = end
    return parts
