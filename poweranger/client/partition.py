"""Split one folder of class folders into site folders, by links: `python -m poweranger.client.partition`.

    python -m poweranger.client.partition --data DIR --clients 4 --alpha 0.5 --out sites/

makes `sites/site_1/CLASS/FILE` and so on, each a DATA_DIR for one client. Nothing is copied: the files are hard links,
or symbolic links where that is impossible (another disk, a system that forbids it).
"""
from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from poweranger.client.folder import report_unreadable, scan, shown
from poweranger.client.split import deal
from poweranger.errors import UserError, run_program
from poweranger.text import aligned


def partition(data: Path, clients: int, alpha: float, out: Path, seed: int = 0,
              copy_mode: str = "hard") -> tuple[list[str], np.ndarray]:
    """Make `out` with one folder of links a site; it appears whole or not at all.

    Parameters
    ----------
    alpha : skew of the classes (see `split.deal`); 0 deals them out evenly. Every site gets two classes or more.
    copy_mode : `hard` for hard links where possible, `symlink` for symbolic links.

    Returns
    -------
    list of str, ndarray of int (clients, classes)
        Class names and the number of images of each site and class.

    Raises
    ------
    UserError
        When the data is no folder of two classes or more, `out` is not empty, or the images do not suffice.
    """
    data, out = data.resolve(), out.absolute()
    if data.suffix == ".npz":
        raise UserError(f"{data} is an .npz file: only a folder of images can be split without copying it")
    if out.resolve().is_relative_to(data):
        raise UserError(f"--out {out} lies inside {data}, where it would count as a class: choose a folder elsewhere")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} is not an empty folder: choose a new one")
    try:
        folder = scan(str(data), print)
    except OSError as error:
        raise UserError(f"--data {data} cannot be read: {error.strerror}") from None
    report_unreadable(folder.unreadable, print)
    if len(folder.classes) < 2:
        raise UserError(f"{data} has usable images of {len(folder.classes)} classes: a classifier needs two or more")

    labels = np.array([file.label for file in folder.files])
    shares = deal([file.content for file in folder.files], labels, clients, alpha, seed, min_classes=2)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".sites-", dir=out.parent))  # mode 0700
    except OSError as error:
        raise UserError(f"--out {out} cannot be made: {error.strerror}") from None
    try:
        for site, share in enumerate(shares, start=1):
            for row in share:
                source = Path(folder.files[row].path)
                _link(source, unfinished / f"site_{site}" / source.relative_to(data), copy_mode)
        os.replace(unfinished, out)
    except OSError as error:
        shutil.rmtree(unfinished)
        raise UserError(f"--out {out} cannot be made: {error.strerror}") from None
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    return folder.classes, np.stack([np.bincount(labels[share], minlength=len(folder.classes)) for share in shares])


def table(classes: list[str], counts: np.ndarray) -> str:
    """The counts as text: a row a site, a column a class, with totals."""
    rows = [["site", *map(shown, classes), "all"]]
    for name, row in zip([*(f"site_{site}" for site in range(1, len(counts) + 1)), "all"],
                         [*counts, counts.sum(0)], strict=True):
        rows.append([name, *(str(count) for count in row), str(row.sum())])
    return "\n".join(aligned(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m poweranger.client.partition", allow_abbrev=False,
                                     description="Split a folder of class folders into site folders, by links.")
    parser.add_argument("--data", type=Path, required=True, help="folder of class folders")
    parser.add_argument("--clients", type=int, required=True, help="number of sites")
    parser.add_argument("--alpha", type=float, default=0.0, help="Dirichlet skew of the classes; without it, even shares")
    parser.add_argument("--out", type=Path, required=True, help="folder for the site folders; new or empty")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copy-mode", choices=("hard", "symlink"), default="hard", help="kind of link")
    wanted = parser.parse_args(arguments)
    if wanted.clients < 1:
        parser.error(f"--clients {wanted.clients}: give 1 or more")
    if not 0 <= wanted.alpha <= 1000:
        parser.error(f"--alpha {wanted.alpha}: give a number from 0 to 1000")
    if wanted.seed < 0:
        parser.error(f"--seed {wanted.seed}: give 0 or more")
    print(table(*partition(wanted.data, wanted.clients, wanted.alpha, wanted.out, wanted.seed, wanted.copy_mode)))
    return 0


def _link(source: Path, target: Path, copy_mode: str) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    real = source.resolve()  # of a symbolic link, what it points to
    if copy_mode == "hard":
        try:
            os.link(real, target)
            return
        except OSError:
            pass
    target.symlink_to(real)


if __name__ == "__main__":
    run_program("partition", main)
