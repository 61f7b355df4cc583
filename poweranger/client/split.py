"""Who gets which image: training or validation, and which client.

Both are decided by a hash of each image's content and a seed. Neither the order of a directory nor a file's name
matters, so a restart, a renamed or a moved file changes nothing, and byte-identical copies stay together: no image is
validated that was trained on under another name, and no client validates what another trains on.
"""
from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from poweranger.errors import UserError

DRAWS = 1000  # of a Dirichlet partition, before it is called impossible


def content_hash(data: bytes) -> bytes:
    """16 bytes that stand for `data`."""
    return hashlib.blake2b(data, digest_size=16).digest()


def validation_mask(contents: Sequence[bytes], labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Which images are for validation: stratified, about `fraction` of each class.

    Every class with two different images gets at least one for validation and keeps at least one for training.

    Parameters
    ----------
    contents : content hash of each image.
    labels : (N,), class of each image.

    Returns
    -------
    ndarray of bool (N,)
    """
    mask = np.zeros(len(labels), dtype=bool)
    groups = _copies(contents)
    own_class = {content: int(labels[rows].min()) for content, rows in groups.items()}
    for label in np.unique(labels):
        members = [content for content in groups if own_class[content] == label]
        members.sort(key=lambda content: hashlib.blake2b(content, key=str(seed).encode()).digest())
        wanted = max(1, round(fraction * sum(len(groups[content]) for content in members)))
        taken = 0
        for content in members[:-1]:
            if taken >= wanted:
                break
            mask[groups[content]] = True
            taken += len(groups[content])
    return mask


def deal(contents: Sequence[bytes], labels: np.ndarray, clients: int, alpha: float, seed: int,
         min_classes: int = 1) -> list[np.ndarray]:
    """Share images out over `clients`: disjoint, complete, each client with at least a few.

    Parameters
    ----------
    contents, labels : content hash and class of each image.
    alpha : 0 deals every class out evenly (IID); else each class is cut in shares drawn from a symmetric Dirichlet
        distribution (Hsu et al. 2019, arXiv:1909.06335; small is skewed).
    min_classes : draw again until every client has images of this many classes.

    Returns
    -------
    list of ndarray
        For each client the indices of its images.

    Raises
    ------
    UserError
        When there are too few images, or no draw leaves every client enough.
    """
    groups = _copies(contents)
    members = sorted(groups)
    if len(members) < 2 * clients:
        raise UserError(f"{len(members)} different images are too few for {clients} clients: take fewer clients")
    own_class = np.array([labels[groups[content]].min() for content in members], dtype=np.int64)
    at_least = max(1, min(max(10, len(members) // 50), len(members) // (4 * clients)))
    classes = int(own_class.max()) + 1
    rng = np.random.default_rng([seed, clients])
    for _ in range(DRAWS):
        owner = _draw_owners(own_class, clients, alpha, rng)
        counts = np.bincount(owner * classes + own_class, minlength=clients * classes).reshape(clients, classes)
        if counts.sum(1).min() >= at_least and (counts > 0).sum(1).min() >= min_classes:
            return [np.sort(np.concatenate([groups[members[index]] for index in np.flatnonzero(owner == client)]))
                    for client in range(clients)]
    raise UserError(f"alpha = {alpha:g} over {clients} clients leaves some client with too few images or classes in every "
                    f"draw: take a larger alpha or fewer clients")


def _draw_owners(classes: np.ndarray, clients: int, alpha: float, rng: np.random.Generator) -> np.ndarray:
    """The client of each image, (N,)."""
    owner = np.zeros(len(classes), dtype=np.int64)
    dealt = 0
    for label in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == label))
        if alpha == 0:  # one after another, going on where the class before ended: sizes differ by one at most
            owner[members] = (dealt + np.arange(len(members))) % clients
            dealt += len(members)
        else:
            cuts = (np.cumsum(rng.dirichlet([alpha] * clients))[:-1] * len(members)).astype(int)
            for client, part in enumerate(np.split(members, cuts)):
                owner[part] = client
    return owner


def _copies(contents: Sequence[bytes]) -> dict[bytes, np.ndarray]:
    """The rows of each different content."""
    rows: dict[bytes, list[int]] = {}
    for row, content in enumerate(contents):
        rows.setdefault(content, []).append(row)
    return {content: np.array(where) for content, where in rows.items()}
