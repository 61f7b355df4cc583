"""A MedMNIST-style `.npz`: `train_images`, `train_labels`, `val_…`, `test_…`; read in pieces, never as a whole."""
from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from PIL import Image

from poweranger.client import decode
from poweranger.errors import UserError

PIECE_BYTES = 2**24  # of images read at once
MOST_CLASSES = 1000  # that a site may describe (privacy/declared.py); a larger label is no class number


class Npz:
    """The splits of one file.

    Source of the layout: Yang et al., MedMNIST v2, Scientific Data 10:41 (2023). Images are uint8, (N, H, W),
    (N, H, W, 1) or (N, H, W, 3); labels are integers, (N,) or (N, 1). Nothing is unpickled.

    Raises
    ------
    UserError
        From every method, when the file is damaged, lacks an array or holds one of another kind.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with self._archive() as archive:
            self._names = set(archive.namelist())

    def has(self, split: str) -> bool:
        """Whether there are images of `split` (`train`, `val` or `test`)."""
        return f"{split}_images.npy" in self._names

    def labels(self, split: str) -> np.ndarray:
        """The labels of a split, int32 (N,)."""
        key = f"{split}_labels"
        with self._member(key) as file:
            labels = np.lib.format.read_array(file, allow_pickle=False)
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim == 2:
            raise UserError(f"{self.path}: {key} has {labels.shape[1]} labels an image; only one class an image is supported")
        if labels.ndim != 1 or labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
            raise UserError(f"{self.path}: {key} must hold class numbers from 0, of shape (N,) or (N, 1)")
        if labels.size and labels.max() >= MOST_CLASSES:
            raise UserError(f"{self.path}: {key} holds {labels.max()}, and class numbers go up to {MOST_CLASSES - 1}: number the classes from 0")
        count = self.shape(split)[0]
        if len(labels) != count:
            raise UserError(f"{self.path}: {split} has {count} images and {len(labels)} labels")
        return labels.astype(np.int32)

    def shape(self, split: str) -> tuple[int, int, int, int]:
        """(N, H, W, C) of a split's images."""
        with self._member(f"{split}_images") as file:
            return self._header(file, f"{split}_images")

    def pieces(self, split: str) -> Iterator[np.ndarray]:
        """A split's images in order, some at a time: uint8 (n, H, W, C)."""
        key = f"{split}_images"
        with self._member(key) as file:
            count, *shape = self._header(file, key)
            row = int(np.prod(shape))
            step = max(1, PIECE_BYTES // row)
            for start in range(0, count, step):
                wanted = min(step, count - start) * row
                data = file.read(wanted)
                if len(data) < wanted:
                    raise EOFError("it ends too early")
                yield np.frombuffer(data, dtype=np.uint8).reshape(-1, *shape)

    def read_into(self, split: str, x: np.ndarray, slots: np.ndarray) -> None:
        """Write a split's images to their rows of `x`, uint8 (M, size, size, channels); slot -1 leaves one out."""
        size, channels = x.shape[1], x.shape[3]
        start = 0
        for piece in self.pieces(split):
            rows = slots[start : start + len(piece)]
            start += len(piece)
            if piece.shape[1:] == x.shape[1:]:
                x[rows[rows >= 0]] = piece[rows >= 0]
                continue
            for row, image in zip(rows[rows >= 0], piece[rows >= 0], strict=True):
                grey = image.shape[2] == 1
                x[row] = decode.fit(Image.fromarray(image[:, :, 0] if grey else image), size, channels)

    def _header(self, file: IO[bytes], key: str) -> tuple[int, int, int, int]:
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[np.lib.format.read_magic(file)[0]](file)
        if dtype != np.uint8:
            raise UserError(f"{self.path}: {key} is {dtype}; images must be uint8")
        if len(shape) == 3:
            shape = (*shape, 1)
        if len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape[1:]:
            raise UserError(f"{self.path}: {key} has shape {shape}; it must be (N, H, W) or (N, H, W, 3)")
        if fortran:
            raise UserError(f"{self.path}: {key} is stored column by column; save it with numpy.ascontiguousarray")
        return shape

    @contextmanager
    def _member(self, key: str) -> Iterator[IO[bytes]]:
        if f"{key}.npy" not in self._names:
            there = ", ".join(name.removesuffix(".npy")[:40] for name in sorted(self._names)[:6]) or "nothing"
            raise UserError(f"{self.path} holds no {key}: a MedMNIST-style file has train_images and train_labels, and so on for val and test; here is {there}")
        with self._archive() as archive, archive.open(f"{key}.npy") as file:
            yield file

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, OSError, RuntimeError) as error:  # the last: it is encrypted
            raise UserError(f"{self.path} cannot be read as an .npz file: {error}") from None
