"""Nothing leaves a site but what is on the list, and the page in the docs is that list."""
from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from poweranger.client import client_app
from poweranger.errors import UserError
from poweranger.messages import Site, pack
from poweranger.privacy.declared import DECLARED, Harmless, Undeclared, check, declared_mod, markdown_table
from poweranger.run_config import KEYS
from tests.poweranger.privacy.conftest import letter

PAGE = Path(__file__).resolve().parents[3] / "docs" / "privacy.md"


def test_the_page_lists_exactly_what_is_declared() -> None:
    table = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    start = table.index(markdown_table().splitlines()[0])
    listed = table[start : start + len(markdown_table().splitlines())]
    assert listed == markdown_table().splitlines()
    assert {name for line in listed for name in re.findall(r"^\| \w+ \| `([\w-]+)`", line)} == {item.name for items in DECLARED.values() for item in items}


def test_a_description_has_the_declared_fields() -> None:
    assert {field.name for field in fields(Site)} == {item.name for item in DECLARED["describe"]}


def reply(metrics: dict[str, Any] | None = None, **records: Any) -> RecordDict:
    whole = {"num-examples": 10, "loss": 0.5, "accuracy": 0.5} | (metrics or {})
    return RecordDict({"arrays": pack([np.zeros(4)]), "metrics": MetricRecord(whole), **records})


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (reply({"patient-age": 47}), "patient-age"),
        (reply({"num-examples": 3.5}), "num-examples"),
        (reply({"num-examples": -1}), "num-examples"),
        (reply({"accuracy": 1.5}), "accuracy"),
        (reply({"loss": [0.1, 0.2]}), "loss"),
        (reply({"confusion": [1, 2, 3, 4]}), "confusion"),
        (reply(notes=ConfigRecord({"name": "Jane"})), "notes"),
        (reply(config=ConfigRecord({"name": "Jane"})), "name"),
        (reply(arrays=ArrayRecord({"weights": Array(np.zeros(4))})), "weights"),  # float64
        (reply(arrays=ArrayRecord({"weights": Array(np.zeros((2, 2), np.float32))})), "weights"),
        (reply(arrays=ArrayRecord({"weights": Array(np.zeros(4, np.float32)), "image": Array(np.zeros(4, np.uint8))})), "image"),
        (reply(arrays=ArrayRecord({"masked": Array(np.zeros(4, np.uint64))})), "masked"),
    ],
)
def test_what_is_not_declared_is_named(content: RecordDict, word: str) -> None:
    with pytest.raises(Undeclared, match=word):
        check("train", content, {"classes": 2})


def test_counts_have_the_shape_of_the_classes() -> None:
    content = RecordDict({"metrics": MetricRecord({"num-examples": 6, "confusion": [3, 1, 0, 2]})})
    check("evaluate", content, {"classes": 2})
    with pytest.raises(Undeclared, match="confusion is declared as list of integer, classes x classes.*of length 4"):
        check("evaluate", content, {"classes": 3})


def test_under_secure_aggregation_plain_figures_are_undeclared() -> None:
    with pytest.raises(Undeclared, match="under secure aggregation"):
        check("train", reply(), {}, masked=True)
    check("train", RecordDict({"arrays": ArrayRecord({"masked": Array(np.zeros(4, np.uint64))})}), {}, masked=True)


def answer(content: RecordDict | Exception) -> Message:
    """What a ClientApp with the mod makes of this reply or exception."""
    app = ClientApp(mods=[declared_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        if isinstance(content, Exception):
            raise content
        return Message(content, reply_to=message)

    message = letter(RecordDict({"config": ConfigRecord({"classes": ["a", "b"]})}), "train")
    return app(message, Context(1, 7, {}, RecordDict(), {}))


def test_the_client_keeps_back_what_is_not_declared() -> None:
    assert answer(reply()).content.metric_records["metrics"]["loss"] == 0.5
    with pytest.raises(Harmless) as kept:
        answer(reply({"patient-age": 47}))
    assert "patient-age" in str(kept.value.__cause__) and "patient" not in str(kept.value)


@pytest.mark.parametrize("secret", [OSError(2, "No such file", "/data/Jane Doe/scan.png"), KeyError("Jane Doe.png"), UserError("/data/Jane Doe: no image")])
def test_of_an_exception_no_path_and_no_content_leaves(secret: Exception) -> None:
    with pytest.raises(Harmless, match="see the client's log") as kept:
        answer(secret)
    assert kept.value.__cause__ is secret and "Jane" not in str(kept.value)
    with pytest.raises(Harmless, match="3 is no size"):
        answer(UserError("3 is no size"))


def test_a_data_file_named_without_its_folder_is_not_named_to_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jane.npz").write_bytes(b"no archive")
    monkeypatch.chdir(tmp_path)
    values: dict[str, Any] = {key.name: key.default for key in KEYS if key.reader == "clients"} | {"channels": 0}
    with pytest.raises(Harmless) as said:
        client_app.app(letter(RecordDict({"config": ConfigRecord(values)}), "query.describe"), Context(1, 7, {"client-id": "C1", "data-dir": "jane.npz"}, RecordDict(), {}))
    assert "jane" in str(said.value.__cause__) and str(said.value) == "C1: see the client's log"


@pytest.mark.parametrize(("asked", "own"), [(1000, ""), (0, "1000")])
def test_a_site_too_small_to_hide_anyone_says_no_more_than_that(asked: int, own: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.setenv("MIN_SITE_EXAMPLES", own)
    values: dict[str, Any] = {key.name: key.default for key in KEYS if key.reader == "clients"} | {"channels": 0, "image-size": 16, "synthetic-examples": 30, "min-site-examples": asked}
    site = Context(1, 7, {"client-id": "small"}, RecordDict(), {})
    with pytest.raises(Harmless) as refusal:
        client_app.app(letter(RecordDict({"config": ConfigRecord(values)}), "query.describe"), site)
    assert "min-site-examples" in str(refusal.value) and not re.search(r"\d", str(refusal.value))
    assert re.search(r"\d+ training images, and min-site-examples = 1000", capsys.readouterr().out)
    values["min-site-examples"] = 10
    monkeypatch.delenv("MIN_SITE_EXAMPLES")
    assert client_app.app(letter(RecordDict({"config": ConfigRecord(values)}), "query.describe"), site).has_content()
