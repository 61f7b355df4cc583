"""What a folder or `.npz` holds, as a client would take it: `python -m poweranger.client.data_loader DIR`.

Counts by class and split, kinds and sizes of files, what is unreadable and why, what is there more than once, and a
contact sheet. Images are decoded one after the other and not kept.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from poweranger.client import cache, contact_sheet, decode, split
from poweranger.client.data_loader import check_classes
from poweranger.client.folder import ImageFile, report_unreadable, scan, shown
from poweranger.client.npz import Npz
from poweranger.errors import UserError
from poweranger.files import replace_file
from poweranger.origin import project_root
from poweranger.run_config import Value, find_key, from_environment, from_pyproject, resolve
from poweranger.text import aligned

MAX_LISTED = 20  # groups of copies that the table lists; JSON has them all
CANDIDATES = 3 * contact_sheet.PER_CLASS  # images of a class that are drawn for the sheet: some may not be decodable
SPLITS = ("training", "validation")


@dataclass(frozen=True)
class Looked:
    """One image.

    Attributes
    ----------
    content, seen : hashes of the file, and of what the model sees of it.
    cell : what the model sees, made ready for the contact sheet, when it is wanted there.
    split : training or validation, when the data say so themselves.
    """

    name: str
    label: int
    content: bytes
    header: decode.Header
    seen: bytes
    cell: Image.Image | None = None
    split: str | None = None


@dataclass
class Description:
    """What was found.

    Attributes
    ----------
    classes : images of each class, in training and in validation.
    kinds, sizes : images of each kind (`PNG L`) and of each (width, height).
    copies : groups of images that the model cannot tell apart; of each its name, class and split.
    unreadable : path and reason of each file that was left out.
    samples : cells of each class for the contact sheet.
    """

    path: str
    image_size: int
    channels: int = 1
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    copies: list[list[tuple[str, str, str]]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    samples: dict[str, list[Image.Image]] = field(default_factory=dict)

    @property
    def across_splits(self) -> int:
        """Groups of copies of which some are trained on and some validated."""
        return sum(len({where for *_, where in group}) > 1 for group in self.copies)

    @property
    def across_classes(self) -> int:
        """Groups of copies that are in more than one class: at least one of them is in the wrong one."""
        return sum(len({name for _, name, _ in group}) > 1 for group in self.copies)

    def as_json(self) -> dict[str, Any]:
        """All but the samples, in what JSON knows."""
        return {
            "path": self.path, "image_size": self.image_size, "channels": self.channels, "classes": self.classes,
            "kinds": dict(self.kinds.most_common()),
            "sizes": [{"width": width, "height": height, "images": n} for (width, height), n in self.sizes.most_common()],
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
            "copies": [[{"name": name, "class": of, "split": where} for name, of, where in group] for group in self.copies],
            "copies_across_splits": self.across_splits, "copies_across_classes": self.across_classes,
        }  # fmt: skip


def describe(path: str, config: dict[str, Value], log: Callable[[str], None]) -> Description:
    """Look through a folder of class folders or an `.npz`.

    Parameters
    ----------
    config : the run configuration: `image-size`, `channels`, `validation-fraction` and `seed` count.

    Raises
    ------
    UserError
        When it cannot be read, or is neither.
    """
    found = Description(path, int(config["image-size"]))
    try:
        if path.lower().endswith(".npz") and os.path.isfile(path):
            images = _open_npz(path, config, found)
        else:
            images = _open_folder(path, config, found, log)
        _count(images, config, found)
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read ({error.strerror}): give a folder of class folders or an .npz file") from None
    return found


def table(found: Description) -> str:
    """The description for people; names are made harmless."""
    total = sum(found.kinds.values())
    colour = "grey" if found.channels == 1 else "RGB"
    lines = [f"{shown(found.path)}: {total:,} images of {len(found.classes)} classes, {colour}, seen at {found.image_size} pixels", ""]
    counts = {shown(name): [sum(parts.values()), *parts.values()] for name, parts in found.classes.items()}
    counts["all"] = np.sum([*counts.values()], axis=0, dtype=int).tolist() if counts else [0, 0, 0]
    lines += aligned([["class", "all", *SPLITS], *([name, *map(str, row)] for name, row in counts.items())])
    if total:
        lines += ["", *aligned([["kind", "images"], *([shown(kind), str(count)] for kind, count in found.kinds.most_common())])]
        ordered = sorted(found.sizes, key=lambda size: size[0] * size[1])
        names = [f"{width} x {height}" for width, height in (ordered[0], ordered[-1], found.sizes.most_common(1)[0][0])]
        lines += ["", f"size: {names[0]} to {names[1]}, most often {names[2]}"]
    lines += ["", f"unreadable: {len(found.unreadable)}"]
    report_unreadable(found.unreadable, lambda line: lines.append(f"  {line}"))
    alike = sum(len(group) for group in found.copies)
    lines += [f"images that look the same: {alike} in {len(found.copies)} groups, of which {found.across_splits} lie across training and "
              f"validation and {found.across_classes} across classes"]
    for group in found.copies[:MAX_LISTED]:
        lines.append("  " + " = ".join(f"{shown(name)} ({shown(of)}, {where})" for name, of, where in group[:4]) + (" …" if group[4:] else ""))
    if len(found.copies) > MAX_LISTED:
        lines.append(f"  and {len(found.copies) - MAX_LISTED} groups more")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m poweranger.client.data_loader", allow_abbrev=False,
                                     description="Describe a folder of class folders, or an .npz file, before it is used.")
    parser.add_argument("data", metavar="DIR", help="folder of class folders, or .npz file")
    parser.add_argument("--out", type=Path, default=Path("contact_sheet.png"), metavar="PNG", help="the contact sheet (default %(default)s)")
    parser.add_argument("--image-size", metavar="N", help=find_key("image-size").help + " (default: the project's)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    wanted = parser.parse_args(arguments)
    flags = {"image-size": find_key("image-size").parse(wanted.image_size)} if wanted.image_size else {}
    config = resolve(from_pyproject(project_root() / "pyproject.toml"), from_environment(os.environ), flags)
    out = wanted.out.absolute()
    if out.resolve().is_relative_to(Path(wanted.data).resolve()):
        raise UserError(f"--out {out} lies inside the data, where it would count as one of them: choose another place")

    found = describe(wanted.data, config, lambda line: print(line, file=sys.stderr, flush=True))
    sheet = contact_sheet.draw({f"{name} ({sum(found.classes[name].values())})": images for name, images in found.samples.items()})
    try:
        replace_file(out, lambda file: sheet.save(file, "PNG"))
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}") from None
    if wanted.json:
        print(json.dumps(found.as_json() | {"contact_sheet": str(out)}, indent=2))
    else:
        print(f"{table(found)}\ncontact sheet: {shown(str(out))}")
    sys.stdout.flush()
    check_classes(wanted.data, list(found.classes), found.unreadable)
    return 0


def _open_folder(path: str, config: dict[str, Value], found: Description, log: Callable[[str], None]) -> Iterator[Looked]:
    folder = scan(path, log)
    found.channels = int(config["channels"]) or (3 if any(file.colour for file in folder.files) else 1)
    found.classes = {name: dict.fromkeys(SPLITS, 0) for name in folder.classes}
    found.unreadable += folder.unreadable
    return _decoded(folder.files, found, log)


def _decoded(files: list[ImageFile], found: Description, log: Callable[[str], None]) -> Iterator[Looked]:
    wanted = _candidates([file.label for file in files])
    look = partial(_look, files, found.image_size, found.channels, wanted)
    for file, result in zip(files, cache.in_parallel(look, range(len(files)), "decoding", log), strict=True):
        if isinstance(result, str):
            found.unreadable.append((file.path, result))
        else:
            yield result


def _look(files: list[ImageFile], size: int, channels: int, wanted: set[int], row: int) -> Looked | str:
    """Decode one file; the reason when that fails."""
    file = files[row]
    try:
        header, pixels = decode.read_header(file.path), decode.decode(file.path, size, channels)
    except decode.Unreadable as error:
        return str(error)
    cell = contact_sheet.cell(pixels) if row in wanted else None
    return Looked(file.path, file.label, file.content, header, split.content_hash(pixels.tobytes()), cell)


def _open_npz(path: str, config: dict[str, Value], found: Description) -> Iterator[Looked]:
    file = Npz(path)
    labels = {name: file.labels(name) for name in ("train", "val") if name == "train" or file.has(name)}
    found.channels = int(config["channels"]) or file.shape("train")[3]
    found.classes = {str(label): dict.fromkeys(SPLITS, 0) for label in range(max(int(y.max(initial=-1)) for y in labels.values()) + 1)}
    return _rows(file, labels, found)


def _rows(file: Npz, labels: dict[str, np.ndarray], found: Description) -> Iterator[Looked]:
    own = dict(zip(labels, SPLITS, strict=False)) if len(labels) > 1 else {}
    for name, y in labels.items():
        images = (image for piece in file.pieces(name) for image in piece)
        wanted = _candidates(y.tolist())
        for row, (image, label) in enumerate(zip(images, y.tolist(), strict=True)):
            colour = image.shape[2] == 3
            header = decode.Header("npz RGB" if colour else "npz L", image.shape[1], image.shape[0])
            pixels = decode.fit(Image.fromarray(image if colour else image[..., 0]), found.image_size, found.channels)
            content, seen = (split.content_hash(array.tobytes()) for array in (image, pixels))
            cell = contact_sheet.cell(pixels) if row in wanted else None
            yield Looked(f"{name} {row}", label, content, header, seen, cell, own.get(name))


def _candidates(labels: Sequence[int]) -> set[int]:
    """The rows of the first `CANDIDATES` images of each class that has a place on the sheet."""
    seen: Counter[int] = Counter()
    wanted = set()
    for row, label in enumerate(labels):
        seen[label] += 1
        if seen[label] <= CANDIDATES and label < contact_sheet.MAX_CLASSES:
            wanted.add(row)
    return wanted


def _count(images: Iterator[Looked], config: dict[str, Value], found: Description) -> None:
    """Count the images into `found`."""
    classes = list(found.classes)
    found.samples = {name: [] for name in classes}
    light: list[tuple[str, int, bytes, str | None]] = []  # all but the pixels: there may be a million of them
    groups: dict[bytes, list[int]] = {}
    for row, image in enumerate(images):
        found.kinds[image.header.kind] += 1
        found.sizes[image.header.width, image.header.height] += 1
        samples = found.samples[classes[image.label]]
        if image.cell and len(samples) < contact_sheet.PER_CLASS:
            samples.append(image.cell)
        light.append((image.name, image.label, image.content, image.split))
        groups.setdefault(image.seen, []).append(row)

    labels = np.array([label for _, label, *_ in light], dtype=int)
    contents = [content for *_, content, _ in light]
    drawn = split.validation_mask(contents, labels, float(config["validation-fraction"]), int(config["seed"]))
    where = [own or SPLITS[int(validation)] for (*_, own), validation in zip(light, drawn, strict=True)]
    for label, part in zip(labels, where, strict=True):
        found.classes[classes[label]][part] += 1
    found.classes = {name: parts for name, parts in found.classes.items() if sum(parts.values())}
    found.samples = {name: found.samples[name] for name in found.classes}
    alike = [rows for rows in groups.values() if len(rows) > 1]
    found.copies = [[(light[row][0], classes[light[row][1]], where[row]) for row in rows] for rows in alike]
