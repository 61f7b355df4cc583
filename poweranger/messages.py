"""What server and clients say to one another: message types, record names, and the site's description.

Everything travels in Flower's public records. Nothing here carries an image or a file name.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

DESCRIBE = "query.describe"  # server asks a site what it holds
INITIAL = "query.initial"  # server asks one client for the first model
REFUSE = "query.refuse"  # server tells a site why it cannot take part
ARRAYS, METRICS, CONFIG = "arrays", "metrics", "config"
WEIGHTS = "weights"  # the one array of an `ArrayRecord`
NUM_EXAMPLES = "num-examples"  # the counts' names: `counts.py`
LONGEST_REASON = 500  # characters
CAUSE = re.compile(r"^(\S+: .*)\n\nThe above exception was the direct cause", re.MULTILINE)  # the first in a traceback


def pack(weights: Sequence[np.ndarray]) -> ArrayRecord:
    """Weights as one flat float32 vector: one object to send instead of one a layer (20 times fewer calls)."""
    flat = np.concatenate([np.asarray(w, dtype=np.float32).ravel() for w in weights])
    return ArrayRecord({WEIGHTS: Array(flat)})


def unpack(record: ArrayRecord) -> np.ndarray:
    """The flat float32 vector that `pack` made, shape (n,).

    Raises
    ------
    ValueError
        When the record holds anything but one one-dimensional vector.
    """
    arrays = [array.numpy() for array in record.values()]
    if len(arrays) != 1 or arrays[0].ndim != 1:
        raise ValueError(f"expected one flat vector of weights, got shapes {[a.shape for a in arrays]}")
    return arrays[0].astype(np.float32, copy=False)


def reason_of(reply: Message) -> str:
    """Why a node could not answer, as it says: one printable line, whatever it sent."""
    said = reply.error.reason or ""
    if cause := CAUSE.search(said):  # a virtual client's traceback, as Ray hands it on: its site is this machine
        said = cause[1].removeprefix("poweranger.errors.UserError: ")
    return one_line(said)


def one_line(text: str) -> str:
    """A client's words as one printable line of bounded length: they go to logs, tables and terminals."""
    return " ".join("".join(char if char.isprintable() else " " for char in text[:LONGEST_REASON]).split())


@dataclass
class Site:
    """What one site says of itself: numbers and class names only.

    Attributes
    ----------
    classes : names of its classes; `train_counts` and `validation_counts` follow their order.
    channels : 1 (grey) or 3 (RGB), as its images are.
    pixel_count, pixel_sum, pixel_square_sum : of its training images scaled to 0..1, per channel; from these the
        federation's mean and deviation come.
    unreadable : number of files that were skipped.
    synthetic : True when the images are made up; `synthetic_reason` says why.
    federation : what `FEDERATION_ID` says where the client runs; see `server/sites.py`.
    """

    client_id: str
    classes: list[str]
    train_counts: list[int]
    validation_counts: list[int]
    channels: int
    pixel_count: int
    pixel_sum: list[float]
    pixel_square_sum: list[float]
    unreadable: int = 0
    synthetic: bool = False
    synthetic_reason: str = ""
    federation: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def to_record(self) -> ConfigRecord:
        """This description as a record; `from_record` reads it back."""
        values: dict[str, Any] = dict(vars(self))
        values["versions"] = [f"{name}={version}" for name, version in self.versions.items()]
        return ConfigRecord(values)

    @classmethod
    def from_record(cls, record: ConfigRecord) -> Site:
        """Read a description.

        Raises
        ------
        ValueError
            When a field is missing or its type or length does not fit.
        """
        try:
            values: dict[str, Any] = {name: record[name] for name in cls.__dataclass_fields__}
        except KeyError as error:
            raise ValueError(f"the site's description has no field {error.args[0]!r}") from error
        values["versions"] = dict(item.split("=", 1) for item in values["versions"])
        site = cls(**values)
        classes = len(site.classes)
        if not classes or len(site.train_counts) != classes or len(site.validation_counts) != classes:
            raise ValueError("the site's description does not give one count a class")
        if site.channels not in (1, 3) or len(site.pixel_sum) != site.channels:
            raise ValueError("the site's description does not give one pixel sum a channel")
        most = site.pixel_count * 1.000001  # of pixels from 0 to 1; NaN is no less
        if not all(0 <= value <= most for value in (*site.pixel_sum, *site.pixel_square_sum)):
            raise ValueError("the site's description gives pixel sums that so many pixels from 0 to 1 cannot have")
        return site

    @property
    def num_train(self) -> int:
        """Number of training images."""
        return sum(self.train_counts)

    @property
    def num_validation(self) -> int:
        """Number of validation images."""
        return sum(self.validation_counts)


def metric_reply(metrics: dict[str, Any], arrays: ArrayRecord | None = None) -> RecordDict:
    """A reply's content: one MetricRecord and, after training, one ArrayRecord. No ConfigRecord: it costs a call."""
    records: dict[str, Any] = {METRICS: MetricRecord(metrics)}
    if arrays is not None:
        records[ARRAYS] = arrays
    return RecordDict(records)
