"""The probabilities that a run's model gives to images.

    python -m poweranger.predict --run 20261125-145608-run scan_1.png folder_of_scans

Exit codes: 0 done, 1 no image could be read, 2 wrong use. A file that cannot be read is named and has a row all the same.
"""
from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from poweranger.client.folder import files_below, shown
from poweranger.errors import UserError, run_program
from poweranger.inference import Snapshot, add_snapshot_options, open_snapshot
from poweranger.statistics import softmax
from poweranger.text import aligned


def main(arguments: Sequence[str] | None = None) -> int:
    """The program; see the module's text for what it returns."""
    parser = argparse.ArgumentParser("python -m poweranger.predict", allow_abbrev=False, description="Ask a run's model about images.")
    add_snapshot_options(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="an image file, or a folder, of which all files are taken")
    parser.add_argument("--csv", action="store_true", help="print CSV: file, predicted, a probability a class, error")
    wanted = parser.parse_args(arguments)
    unlisted: list[tuple[str, str]] = []
    paths = list(_files(wanted.images, unlisted))
    if not paths and not unlisted:
        raise UserError(f"there is no file in {', '.join(map(shown, wanted.images))}")
    snapshot = open_snapshot(wanted.run, wanted.round)
    answers = [*zip(paths, snapshot.ask(paths, _talk), strict=True), *unlisted]
    for path, answer in answers:
        if isinstance(answer, str):
            _talk(f"{shown(path)} cannot be read: {answer}")
    rows = [_row(path, answer, snapshot) for path, answer in answers]
    head = ["file", "predicted", *snapshot.classes, "error"]
    if wanted.csv:
        sys.stdout.reconfigure(errors="surrogateescape", newline="")  # type: ignore[union-attr]  # names as the system has them
        name = shown if sys.stdout.isatty() else str
        csv.writer(sys.stdout).writerows([head, *([name(cell) for cell in row] for row in rows)])
    else:
        bare = not any(row[-1] for row in rows)
        print("\n".join([snapshot.name, "", *aligned([[shown(cell) for cell in (row[:-1] if bare else row)] for row in [head, *rows]])]))
    sys.stdout.flush()
    return 0 if any(not row[-1] for row in rows) else 1


def _files(given: Sequence[str], unlisted: list[tuple[str, str]]) -> Iterator[str]:
    """The files meant; hidden ones in folders are left out, and what cannot be listed is added to `unlisted`."""
    for path in given:
        if os.path.isdir(path):
            yield from files_below(path, [], unlisted)
        else:
            yield path


def _row(path: str, answer: np.ndarray | str, snapshot: Snapshot) -> list[str]:
    """Cells in the order of the head."""
    if isinstance(answer, str):
        return [path, "", *[""] * len(snapshot.classes), answer]
    share = softmax(answer[None])[0]
    return [path, snapshot.classes[int(share.argmax())], *(f"{p:.6f}" for p in share), ""]


def _talk(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_program("predict", main)
