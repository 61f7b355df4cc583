"""Made-up grey phantom images, so that a federation can be tried before there is data.

A body of soft tissue with a few organs, seen through noise, with one finding at a random place: a disc, a ring or a
striped patch. Size, place and contrast vary, so a small network learns it over some rounds and not at once. Each client
has a scanner of its own (contrast, noise, brightness) and sees the classes in shares of its own.
"""
from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

CLASSES = ["disc", "ring", "stripes"]
CONTRAST = (0.50, 0.70)  # of a finding, in units of the full brightness range
NOISE = (0.02, 0.04)  # deviation of the noise, same unit


def labels_of(client_id: str, count: int, seed: int) -> np.ndarray:
    """Classes of a client's images, int32 (count,): every class is there, in shares that differ from client to client."""
    rng = _generator(seed, client_id, "classes")
    shares = rng.dirichlet([8.0] * len(CLASSES))
    extra = rng.choice(len(CLASSES), size=count, p=shares)
    return np.where(np.arange(count) < 2 * len(CLASSES), np.arange(count) % len(CLASSES), extra).astype(np.int32)


def phantom(client_id: str, index: int, label: int, size: int, seed: int) -> np.ndarray:
    """One phantom as uint8, (size, size): always the same for the same arguments."""
    style = _generator(seed, client_id, "scanner")
    contrast, noise, tissue = style.uniform(*CONTRAST), style.uniform(*NOISE), style.uniform(0.18, 0.28)
    rng = _generator(seed, client_id, str(index))
    v, u = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]

    body = _inside(u, v, rng.uniform(-0.05, 0.05, 2), rng.uniform(0.80, 0.95, 2), size)
    image = body * (tissue + 0.08 * _clouds(rng, size))
    for _ in range(3):
        organ = _inside(u, v, rng.uniform(-0.5, 0.5, 2), rng.uniform(0.12, 0.35, 2), size)
        image += body * organ * rng.uniform(-0.10, 0.12)

    angle, distance, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3), rng.uniform(0.35, 0.55)
    centre = distance * np.cos(angle), distance * np.sin(angle)
    finding = _inside(u, v, centre, (radius, radius), size)
    if CLASSES[label] == "ring":
        finding = finding - _inside(u, v, centre, (0.6 * radius, 0.6 * radius), size)
    elif CLASSES[label] == "stripes":
        turn = rng.uniform(0, np.pi)
        wave = np.sin((u * np.cos(turn) + v * np.sin(turn)) * 2 * np.pi / (0.6 * radius))
        finding = finding * (0.5 + 0.5 * wave)
    image += contrast * rng.uniform(0.6, 1.0) * finding
    image += rng.normal(0, noise, image.shape)
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _generator(seed: int, *words: str) -> np.random.Generator:
    """A random generator of its own for each text: independent of the order in which images are made."""
    digest = hashlib.blake2b("\0".join(words).encode(errors="surrogateescape"), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest)])


def _inside(u: np.ndarray, v: np.ndarray, centre: tuple[float, float] | np.ndarray,
            radii: tuple[float, float] | np.ndarray, size: int) -> np.ndarray:
    """1 inside an ellipse, 0 outside, with an edge of about two pixels."""
    distance = np.hypot((u - centre[0]) / radii[0], (v - centre[1]) / radii[1]) - 1
    return np.clip(0.5 - distance * min(radii) * size / 4, 0, 1)


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth random texture, about -1..1."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (6, 6)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
