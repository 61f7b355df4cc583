"""What leaves a site: the one list. A client refuses to send anything else, the server to take it.

    python -m poweranger.privacy.declared      prints the list as docs/privacy.md shows it
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from poweranger.counts import CALIBRATION, CONFIDENCE_BINS, CONFUSION, SCORES
from poweranger.errors import UserError
from poweranger.messages import ARRAYS, CONFIG, METRICS, NUM_EXAMPLES

LONGEST = 200  # characters of a text
LARGEST = 2**48  # count that is taken for one
MASKED, SECAGG = "masked", "secagg"
Next = Callable[[Message, Context], Message]  # the rest of a ClientApp, as a Flower mod calls it
RECORDS = {ARRAYS: ArrayRecord, METRICS: MetricRecord, CONFIG: ConfigRecord, SECAGG: ConfigRecord}


class Undeclared(ValueError):
    """Why a reply must not leave its site, or is not taken, as a sentence."""


class Harmless(UserError):
    """What may be said outside of an exception, which is its cause."""


@dataclass(frozen=True)
class Item:
    """One thing that may leave a site.

    Attributes
    ----------
    record, name : where it stands in the reply.
    form : `float32`, `uint64` (one flat vector), `integer`, `number` (NaN says that it is not known), `text`, `flag` or `bytes`.
    length : empty for a single value, else the length of the list, in words of `sizes`: `classes`, `channels`,
        products of them and of numbers, or `any`.
    low, high : bounds of each number, inclusive.
    says : what it tells, for the page in the docs.
    mean : over sites it is a mean weighted by their images; else a sum.
    most : entries of a list whose length is `any`.
    """

    record: str
    name: str
    form: str
    says: str
    length: str = ""
    low: float = -math.inf
    high: float = math.inf
    mean: bool = False
    most: int = 1000

    def size(self, sizes: Mapping[str, int]) -> int | None:
        """Entries that a list must have; None when `sizes` does not settle it."""
        found = [int(word) if word.isdigit() else sizes.get(word) for word in self.length.split(" x ")]
        return None if None in found else math.prod(filter(None, found))

    @property
    def shape(self) -> str:
        """Type, shape and range in words."""
        form = {"float32": "vector of float32", "uint64": "vector of uint64"}.get(self.form, self.form)
        if self.form in ("float32", "uint64"):
            return form
        if self.length:
            form = f"list of {form}" + ("" if self.length == "any" else f", {self.length}")
        if self.low > -math.inf:
            form += f", {self.low:g} to {self.high:g}" if self.high < LARGEST else f", at least {self.low:g}"
        return form


def _count(record: str, name: str, says: str, length: str = "") -> Item:
    return Item(record, name, "integer", says, length, low=0, high=LARGEST)


_WORK = (_count(METRICS, NUM_EXAMPLES, "images it used"),)
_SCORES = (
    Item(METRICS, "loss", "number", "mean loss over them", low=0, mean=True),
    Item(METRICS, "accuracy", "number", "share it got right", low=0, high=1, mean=True),
    Item(METRICS, "seconds", "number", "how long it took", low=0, mean=True),
)
_SEALED = (Item(ARRAYS, MASKED, "uint64", "under secure aggregation, in place of all the others: their masked sum terms"),)

DECLARED: dict[str, tuple[Item, ...]] = {
    "describe": (
        Item(CONFIG, "client_id", "text", "its name"),
        Item(CONFIG, "classes", "text", "names of its classes", "any"),
        _count(CONFIG, "train_counts", "training images of each class", "classes"),
        _count(CONFIG, "validation_counts", "validation images of each class", "classes"),
        Item(CONFIG, "channels", "integer", "grey or colour", low=1, high=3),
        _count(CONFIG, "pixel_count", "pixels of all its training images"),
        Item(CONFIG, "pixel_sum", "number", "their sum, scaled to 0..1", "channels", low=0),
        Item(CONFIG, "pixel_square_sum", "number", "the sum of their squares", "channels", low=0),
        _count(CONFIG, "unreadable", "files it skipped"),
        Item(CONFIG, "synthetic", "flag", "whether its images are made up"),
        Item(CONFIG, "synthetic_reason", "text", "why they are"),
        Item(CONFIG, "federation", "text", "which project it belongs to"),
        Item(CONFIG, "versions", "text", "versions of Python and libraries", "any"),
    ),
    "initial": (
        Item(ARRAYS, "weights", "float32", "the first model, made from the seed and no image"),
        Item(CONFIG, "shapes", "text", "the shapes of its arrays", "any"),
    ),
    "refuse": (),
    "train": (
        Item(ARRAYS, "weights", "float32", "the model as its images changed it"),
        *_WORK,
        *_SCORES,
        Item(METRICS, "clipped", "integer", "under differential privacy: whether its update was clipped", low=0, high=1),
        *_SEALED,
    ),
    "evaluate": (
        *_WORK,
        *_SCORES,
        _count(METRICS, CONFUSION, "images of each class by the class they were taken for", "classes x classes"),
        replace(_count(METRICS, SCORES, "histograms of the scores for each class, as pairs of a bin and its images", "any"), most=2**22),
        _count(METRICS, CALIBRATION, "images by the model's confidence, and how many it got right", f"3 x {CONFIDENCE_BINS}"),
        *_SEALED,
    ),
    "secagg_keys": (
        Item(SECAGG, "mask_key", "bytes", "a public key of this phase, for masks"),
        Item(SECAGG, "share_key", "bytes", "a public key of this phase, for shares"),
    ),
    "secagg_shares": (Item(SECAGG, "shares", "bytes", "a share of its secrets for each other client, which only that one can read", "any"),),
    "secagg_unmask": (Item(SECAGG, "shares", "bytes", "of each client one share: of its own mask when it answered, of its mask key when it did not", "any"),),
}


def reply_kind(message_type: str) -> str:
    """The list's entry for the answer to a message: `query.describe` gives `describe`."""
    return message_type.rpartition(".")[2]


def check(kind: str, content: RecordDict, sizes: Mapping[str, int], *, masked: bool = False) -> None:
    """Compare a reply with the list.

    Parameters
    ----------
    kind : an entry of `DECLARED`.
    sizes : what is known of `classes` and `channels`.
    masked : whether secure aggregation is on: then a reply of training or evaluation is its masked vector and no more.

    Raises
    ------
    Undeclared
        When it holds anything that is not on the list, or not in the type, shape or range that the list gives.
    """
    if kind not in DECLARED:
        raise Undeclared(f"nothing is declared for a reply to {kind!r}")
    items = {(item.record, item.name): item for item in DECLARED[kind]}
    sealed = kind in ("train", "evaluate") and masked
    items = {place: item for place, item in items.items() if (item.name == MASKED) == sealed or kind not in ("train", "evaluate")}
    for record, values in content.items():
        if type(values) is not RECORDS.get(record):
            raise Undeclared(f"it holds {_quoted(record)}, which is no declared record")
        for name, value in values.items():
            item = items.get((record, name))
            if item is None:
                mode = " under secure aggregation" if sealed else ""
                raise Undeclared(f"{_quoted(name)} is not declared for a reply to {kind}{mode}")
            problem = _misfit(item, value, sizes)
            if problem:
                raise Undeclared(f"{name} is declared as {item.shape}, and is {problem}")


def _misfit(item: Item, value: Any, sizes: Mapping[str, int]) -> str:
    """What is wrong with a value, in words; empty when it is as declared."""
    if item.form in ("float32", "uint64"):
        found = f"a {value.dtype} array of shape {tuple(value.shape)}"
        return "" if value.dtype == item.form and len(value.shape) == 1 else found
    if not item.length:
        return _misfit_of_one(item, value)
    if not isinstance(value, list):
        return "no list"
    size = item.size(sizes)
    if len(value) > item.most if size is None else len(value) != size:
        return f"of length {len(value)}"
    if item.form == "integer" and value and set(map(type, value)) == {int}:  # histograms are long: the extremes tell
        value = [min(value), max(value)]
    return next(filter(None, (_misfit_of_one(item, entry) for entry in value)), "")


def _misfit_of_one(item: Item, value: Any) -> str:
    wanted = {"integer": (int,), "number": (int, float), "text": (str,), "flag": (bool,), "bytes": (bytes,)}[item.form]
    if type(value) not in wanted:
        return f"{type(value).__name__}"
    if item.form == "text" and (len(value) > LONGEST or not value.isprintable()):
        return f"longer than {LONGEST} characters, or unprintable"
    if item.form in ("integer", "number") and not math.isnan(value) and not item.low <= value <= item.high:
        return f"{value:g}"
    return ""


def _quoted(name: str) -> str:
    return repr(name[:40])


def declared_mod(message: Message, context: Context, call_next: Next) -> Message:
    """Flower mod, the outermost: lets a reply pass when it is as declared; of an exception only a harmless sentence.

    Raises
    ------
    Harmless
        For an exception of the app, and instead of sending what is not declared; the cause says it all.
    """
    config = message.content.config_records.get(CONFIG, ConfigRecord())
    sizes = {"classes": len(names)} if isinstance(names := config.get("classes"), list) else {}
    masked, kind = config.get("secure-aggregation") is True, reply_kind(message.metadata.message_type)
    try:
        reply = call_next(message, context)
    except Exception as error:
        said, name = harmless(error), context.node_config.get("client-id")
        if kind == "describe" and name:  # the server does not know yet whose failure it is
            said = Harmless(f"{name}: {said}")
        raise said from error
    if reply.has_content():
        if kind == "describe":
            sizes = sizes_of(reply.content)
        try:
            check(kind, reply.content, sizes, masked=masked)
        except Undeclared as error:
            raise Harmless("the reply is kept back: it holds what is not declared, see the client's log") from UserError(f"the reply is kept back: {error}")
    return reply


def sizes_of(description: RecordDict) -> dict[str, int]:
    """The sizes by which the counts of a site's description are measured: its own."""
    record = description.config_records.get(CONFIG, ConfigRecord())
    classes, channels = record.get("classes"), record.get("channels")
    sizes = {"classes": len(classes)} if isinstance(classes, list) else {}
    return sizes | ({"channels": channels} if type(channels) is int else {})


def harmless(error: Exception) -> Harmless:
    """An exception in words that may leave the site: of a `UserError` its sentence, unless a path stands in it; of any other its kind.

    What libraries say may hold anything: a file's name, or what stands in the file.
    """
    if not isinstance(error, UserError):
        return Harmless(f"{type(error).__name__}: see the client's log")
    text = " ".join(str(error).split())
    return Harmless("see the client's log" if "/" in text or "\\" in text else text)


def markdown_table() -> str:
    """The list as `docs/privacy.md` shows it."""
    rows = ["| answer to | name | type, shape, range | what it tells |", "| --- | --- | --- | --- |"]
    for kind, items in DECLARED.items():
        rows += [f"| {kind} | `{item.name}` | {item.shape} | {item.says} |" for item in items] or [f"| {kind} | | | nothing |"]
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown_table())
