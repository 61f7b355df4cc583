"""The ClientApp, spoken to in Flower's messages as a server does."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import DEFAULT_TTL, ArrayRecord, ConfigRecord, Context, Message, Metadata, RecordDict
from PIL import Image

from poweranger.client import client_app
from poweranger.counts import CONFUSION
from poweranger.errors import UserError
from poweranger.messages import (
    ARRAYS,
    CONFIG,
    DESCRIBE,
    INITIAL,
    METRICS,
    NUM_EXAMPLES,
    REFUSE,
    Site,
    unpack,
)
from poweranger.run_config import KEYS
from poweranger.server.model import split_flat

SIZE = 32
VALUES: dict[str, Any] = {key.name: key.default for key in KEYS if key.reader == "clients"}
VALUES |= {"channels": 0, "image-size": SIZE, "synthetic-examples": 45, "batch-size": 8}


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is kept from the test before, and the tester's own DATA_DIR does not matter."""
    monkeypatch.delenv("DATA_DIR", raising=False)
    client_app._sites.clear()
    yield
    client_app._sites.clear()


@pytest.fixture
def cells(tmp_path: Path, shared_data: Path) -> Path:
    """A site of 60 real colour images in three classes."""
    for name in ("Platelets", "RBC", "WBC"):
        (tmp_path / "site" / name).mkdir(parents=True)
        for file in sorted((shared_data / "bccd_cells" / name).iterdir())[:20]:
            shutil.copy(file, tmp_path / "site" / name)
    return tmp_path / "site"


def node(client_id: str = "C1", **node_config: Any) -> Context:
    return Context(1, 7, {"client-id": client_id} | node_config, RecordDict(), {})


def virtual(index: int, count: int) -> Context:
    """A node of Flower's simulation."""
    return Context(1, index, {"partition-id": index, "num-partitions": count}, RecordDict(), {})


def send(kind: str, context: Context, arrays: ArrayRecord | None = None, **values: Any) -> RecordDict:
    content = RecordDict({CONFIG: ConfigRecord(VALUES | {key.replace("_", "-"): value for key, value in values.items()})})
    if arrays is not None:
        content[ARRAYS] = arrays
    metadata = Metadata(1, "m", 1, 7, "", "", time.time(), DEFAULT_TTL, kind)
    return client_app.app(Message(metadata=metadata, content=content), context).content


def describe(context: Context, **values: Any) -> Site:
    return Site.from_record(send(DESCRIBE, context, **values).config_records[CONFIG])


def task_of(site: Site, **values: Any) -> dict[str, Any]:
    """A round's configuration, for a federation of this one site."""
    return {
        "server-round": 1, "num-server-rounds": 3, "run": "r", "classes": site.classes, "class-counts": site.train_counts,
        "channels": site.channels, "mean": [0.5] * site.channels, "std": [0.25] * site.channels,
    } | values


def first_model(context: Context, task: dict[str, Any]) -> ArrayRecord:
    return send(INITIAL, context, **task).array_records[ARRAYS]


def test_a_site_describes_itself_in_numbers_and_names_no_file(cells: Path) -> None:
    (cells / "WBC" / "Smith^John.png").write_bytes(b"no image")
    reply = send(DESCRIBE, node())  # no data: made-up images, and it says so
    made_up = Site.from_record(reply.config_records[CONFIG])
    assert made_up.synthetic
    assert made_up.synthetic_reason

    context = node("C2", **{"data-dir": str(cells)})
    reply = send(DESCRIBE, context)
    site = Site.from_record(reply.config_records[CONFIG])
    assert site.client_id == "C2"
    assert site.classes == ["Platelets", "RBC", "WBC"]
    assert np.add(site.train_counts, site.validation_counts).tolist() == [20, 20, 20]
    assert (site.channels, site.unreadable, site.synthetic) == (3, 1, False)
    assert site.pixel_count == site.num_train * SIZE * SIZE
    assert all(0 < total < site.pixel_count for total in site.pixel_sum)
    assert {"python", "tensorflow", "keras", "numpy", "poweranger"} <= site.versions.keys()
    said = str(dict(reply.config_records[CONFIG]))
    assert "Smith" not in said
    assert str(cells) not in said


def test_a_round_trains_and_evaluates_on_the_site_s_images(cells: Path) -> None:
    context = node(**{"data-dir": str(cells)})
    site = describe(context)
    task = task_of(site)
    shapes_reply = send(INITIAL, context, **task)
    shapes = [tuple(map(int, text.split(","))) for text in shapes_reply.config_records[CONFIG]["shapes"]]
    arrays = shapes_reply.array_records[ARRAYS]
    assert [w.shape for w in split_flat(unpack(arrays), shapes)] == shapes

    losses = []
    for number in range(1, 5):
        trained = send("train", context, arrays, **task | {"server-round": number})
        arrays = trained.array_records[ARRAYS]
        metrics = trained.metric_records[METRICS]
        assert metrics[NUM_EXAMPLES] == site.num_train
        assert {"accuracy", "seconds"} <= metrics.keys()
        losses.append(metrics["loss"])
    assert losses[-1] < losses[0]

    metrics = send("evaluate", context, arrays, **task).metric_records[METRICS]
    confusion = np.reshape(metrics[CONFUSION], (3, 3))
    assert metrics[NUM_EXAMPLES] == site.num_validation
    assert confusion.sum(1).tolist() == site.validation_counts  # a row a true class
    assert metrics["accuracy"] == pytest.approx(np.trace(confusion) / confusion.sum())


def test_the_first_model_follows_the_run_s_seed() -> None:
    task = task_of(describe(node()))
    first, again, other = (unpack(first_model(node(), task | {"seed": seed})) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_restarted_client_trains_as_if_it_had_never_stopped() -> None:
    task = task_of(describe(node()))
    arrays = first_model(node(), task)
    kept = send("train", node(), arrays, **task).array_records[ARRAYS]
    client_app._sites.clear()
    client_app._trainer = None
    restarted = send("train", node(), arrays, **task).array_records[ARRAYS]
    assert np.array_equal(unpack(kept), unpack(restarted))
    another_client = send("train", node("C2"), arrays, **task).array_records[ARRAYS]
    assert not np.array_equal(unpack(kept), unpack(another_client))


def test_classes_are_matched_by_name_to_the_federation_s_order(cells: Path) -> None:
    """A federation with a class more, in another order: each image still counts for its own class."""
    context = node(**{"data-dir": str(cells)})
    site = describe(context)
    order = ["WBC", "Elsewhere", "RBC", "Platelets"]
    counts = {"Elsewhere": 40} | dict(zip(site.classes, site.train_counts, strict=True))
    task = task_of(site, **{"classes": order, "class-counts": [counts[name] for name in order]})
    arrays = first_model(context, task)
    trained = send("train", context, arrays, **task)
    assert np.isfinite(unpack(trained.array_records[ARRAYS])).all()
    confusion = np.reshape(send("evaluate", context, arrays, **task).metric_records[METRICS][CONFUSION], (4, 4))
    validation = dict(zip(site.classes, site.validation_counts, strict=True))
    assert confusion.sum(1).tolist() == [validation.get(name, 0) for name in order]

    with pytest.raises(UserError, match="does not have this site's classes RBC"):
        send("train", context, arrays, **task | {"classes": ["WBC", "Elsewhere", "Red", "Platelets"]})


def test_grey_and_colour_federations(cells: Path) -> None:
    """A grey site works in a colour federation, a colour site in a grey one."""
    for context, channels in ((node("grey"), 3), (node("colour", **{"data-dir": str(cells)}), 1)):
        site = describe(context)
        assert site.channels == 4 - channels  # its own, until the federation decides
        task = task_of(site, channels=channels, mean=[0.5] * channels, std=[0.25] * channels)
        arrays = first_model(context, task)
        trained = send("train", context, arrays, **task).metric_records[METRICS]
        assert trained[NUM_EXAMPLES] == site.num_train
    forced = describe(node("colour", **{"data-dir": str(cells)}), channels=1)
    assert forced.channels == len(forced.pixel_sum) == 1


def test_a_site_without_validation_images_says_so_without_nan(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)).save(tmp_path / name / "only.png")
    context = node(**{"data-dir": str(tmp_path)})
    site = describe(context)
    assert (site.num_train, site.num_validation) == (2, 0)
    task = task_of(site)
    arrays = first_model(context, task)
    assert send("train", context, arrays, **task).metric_records[METRICS][NUM_EXAMPLES] == 2
    metrics = send("evaluate", context, arrays, **task).metric_records[METRICS]
    assert metrics[NUM_EXAMPLES] == 0
    assert all(np.isfinite(value) for value in metrics.values())


def test_images_are_loaded_once_and_again_when_a_new_run_finds_the_folder_changed(
    cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = client_app.load_site
    monkeypatch.setattr(client_app, "load_site", lambda *given, **named: loads.append(named) or load(*given, **named))
    context = node(**{"data-dir": str(cells)})
    task = task_of(describe(context))
    arrays = first_model(context, task)
    for number in (1, 2):
        send("train", context, arrays, **task | {"server-round": number})
        send("evaluate", context, arrays, **task | {"server-round": number})
    describe(context)
    assert len(loads) == 1

    extra = sorted((cells / "RBC").iterdir())[0]
    Image.open(extra).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(cells / "RBC" / "new.png")
    send("train", context, arrays, **task)  # the run that goes on keeps what it described
    assert len(loads) == 1
    site = describe(context)
    assert len(loads) == 2
    assert site.num_train + site.num_validation == 61

    elsewhere = (cells / "RBC").rename(cells.parent / "RBC")  # as on a share: the class folder is a link
    (cells / "RBC").symlink_to(elsewhere)
    describe(context)
    (elsewhere / "new.png").unlink()
    assert sum(describe(context).train_counts + describe(context).validation_counts) == 60


def test_virtual_clients_share_one_folder_out(cells: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(cells))
    sites = [describe(virtual(index, 3)) for index in range(3)]
    assert [site.client_id for site in sites] == ["C1", "C2", "C3"]
    assert sum(site.num_train + site.num_validation for site in sites) == 60
    whole = describe(virtual(0, 1))
    assert whole.num_train + whole.num_validation == 60


def test_few_sites_stay_in_memory() -> None:
    for index in range(client_app.MOST_SITES + 2):
        describe(virtual(index, 8), **{"synthetic-examples": 12})
    assert list(client_app._sites) == ["C3", "C4", "C5", "C6"]


def test_a_refusal_is_said_loudly(capsys: pytest.CaptureFixture[str]) -> None:
    reply = send(REFUSE, node(), reason="C1 has the class 'x', which the federation does not have")
    assert "the server does not take this site: C1 has the class 'x'" in capsys.readouterr().out
    send(REFUSE, node(), reason="\x1b]0;owned\x07\nC1 all is well")
    assert capsys.readouterr().out.endswith("'\\x1b]0;owned\\x07\\nC1 all is well'\n")  # the server writes no line and no escape sequence
    assert not reply.array_records


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"batch-size": 0}, "batch-size = 0 is not allowed"),
        ({"learning-rate": float("nan")}, "learning-rate = nan is not allowed"),
        ({"local-epochs": "many"}, "local-epochs = \"many\" is not allowed"),
        ({"image-size": 100_000}, "image-size = 100000 is not allowed"),
        ({"channels": 2}, "channels = 2 is not allowed"),
        ({"channels": 0}, "channels = 0"),
        ({"server-round": -1}, "server-round = -1"),
        ({"classes": ["a", "a", "b"]}, "two or more different classes"),
        ({"class-counts": [1]}, "one class-count"),
        ({"class-counts": [-1, 2, 3]}, "one class-count"),
        ({"mean": [0.1, 0.2]}, "one finite mean a channel"),
        ({"std": [0.0]}, "std that is not above 0"),
        ({"std": [float("inf")]}, "one finite std a channel"),
    ],
)
def test_what_the_server_says_is_checked(change: dict[str, Any], sentence: str) -> None:
    task = {
        "server-round": 1, "num-server-rounds": 3, "classes": ["a", "b", "c"], "class-counts": [1, 2, 3],
        "channels": 1, "mean": [0.5], "std": [0.25],
    }  # fmt: skip
    with pytest.raises(UserError, match=sentence):
        send("train", node(), client_app.pack([np.zeros(3, np.float32)]), **task | change)


def test_strict_data_is_the_site_s_own_word() -> None:
    with pytest.raises(UserError, match="DATA_DIR"):
        describe(node(**{"strict-data": True}))
    assert describe(node(**{"data-dir": f"{__file__}/x"}), **{"synthetic-examples": 12}).synthetic_reason == "DATA_DIR does not exist"


def test_a_process_starts_light_and_preload_makes_it_ready() -> None:
    """The app alone imports no TensorFlow; `preload` does, with the threads asked for, and touches no device."""
    code = (
        "import sys\n"
        "from poweranger.client import client_app\n"
        "assert 'tensorflow' not in sys.modules\n"
        "client_app.preload(1, 0)\n"
        "import tensorflow as tf\n"
        "from tensorflow.python.eager import context\n"
        "assert tf.config.threading.get_intra_op_parallelism_threads() == 1\n"
        "assert not context.context()._initialized\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
