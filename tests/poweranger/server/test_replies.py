"""A reply is whatever a node sends: its weights may be no weights, its reason no sentence."""
from __future__ import annotations

import io

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict

from poweranger.messages import reason_of
from poweranger.server.replies import Unusable, read_weights
from tests.poweranger.privacy.conftest import letter


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, weights=np.zeros(4, np.float32))
    return file.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        Array("float32", (4,), "numpy.ndarray", b""),
        Array("float32", (4,), "numpy.ndarray", b"PK\x03\x04 no archive"),
        Array("float32", (4,), "numpy.ndarray", archive()),
        Array("float32", (4,), "numpy.ndarray", b"no array at all"),
        Array("float32", (4,), "another format", b""),
    ],
)
def test_weights_that_are_none_are_unusable(array: Array) -> None:
    with pytest.raises(Unusable, match="it sent no usable weights"):
        read_weights(letter(RecordDict({"arrays": ArrayRecord({"weights": array})}), "train"), 4)


def test_a_reason_is_one_line_for_any_terminal() -> None:
    said = "\x1b]0;owned\x07 \x9b31m\u202e\n2026-01-01 00:00:00 run finished" + "x" * 100_000
    reply = Message(Error(0, said), reply_to=letter(RecordDict(), "train"))
    reason = reason_of(reply)
    assert reason.isprintable() and reason.startswith("]0;owned 31m 2026-01-01") and len(reason) <= 500


@pytest.mark.parametrize(("kind", "reason"), [("poweranger.errors.UserError", "/data/x has no class folders: put"), ("ValueError", "ValueError: /data/x has no class folders: put")])
def test_the_reason_of_a_virtual_client_is_the_cause_in_its_traceback(kind: str, reason: str) -> None:
    direct = "\n\nThe above exception was the direct cause of the following exception:\n\n"
    said = f"<class 'RayTaskError'>:<'\x1b[36mray::run()\n  File \"a.py\"\n    raise\n{kind}: /data/x has no class folders: put{direct}ray::run()\nHarmless: see the client's log{direct}"
    assert reason_of(Message(Error(0, said), reply_to=letter(RecordDict(), "train"))) == reason
