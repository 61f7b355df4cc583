"""A picture of some images of each class, so that sideways, inverted or misplaced ones are seen."""
from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL = 128  # pixels of an image's side at most; smaller ones are enlarged by whole numbers
PER_CLASS = 8
MAX_CLASSES = 50
GAP, LINE = 6, 20
INK, PAPER = (240, 240, 240), (40, 40, 40)


def cell(image: np.ndarray) -> Image.Image:
    """An image of the model, uint8 (size, size, 1 or 3), as it goes on the sheet: small, so that many can be kept."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if len(image) > CELL:
        return picture.resize((CELL, CELL), Image.Resampling.BILINEAR)
    side = CELL // len(image) * len(image)
    return picture.resize((side, side), Image.Resampling.NEAREST)


def draw(classes: Mapping[str, Sequence[Image.Image]]) -> Image.Image:
    """One row a class, under its name; `PER_CLASS` cells of `MAX_CLASSES` classes at most."""
    rows = list(classes.items())[:MAX_CLASSES]
    side = max((cell.width for _, cells in rows for cell in cells), default=CELL)
    sheet = Image.new("RGB", (GAP + PER_CLASS * (side + GAP), GAP + len(rows) * (LINE + side + GAP)), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, (name, cells) in enumerate(rows):
        top = GAP + row * (LINE + side + GAP)
        pen.text((GAP, top), _plain(name), INK, font)
        for column, picture in enumerate(cells[:PER_CLASS]):
            sheet.paste(picture, (GAP + column * (side + GAP), top + LINE))
    return sheet


def _plain(name: str) -> str:
    """The name in ASCII, accents left out: the font that comes with Pillow has no more."""
    letters = (char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    return "".join(letters).encode("ascii", "replace").decode()
