from __future__ import annotations

import csv
import datetime
import io
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedtui.metrics import Table, config_differences, decimate, find_run, run_tables, summaries
from poweranger import results
from poweranger.errors import UserError

HEADER = b"round,client_id,num_examples,loss\r\n"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "fit_client_metrics.csv"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def opened(path: Path, data: bytes) -> Table:
    path.write_bytes(data)
    table = Table(path)
    table.poll()
    return table


def tuples(table: Table) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in table.rows()]


# --- following ---


def test_rows_as_objects_numbers_as_numbers(path):
    table = opened(path, HEADER + b"1,C1,150,0.5\r\n1,C2,,\r\n2,C1,150,1e-3\r\n")
    assert table.rows() == [
        {"round": 1, "client_id": "C1", "num_examples": 150, "loss": 0.5},
        {"round": 1, "client_id": "C2", "num_examples": None, "loss": None},
        {"round": 2, "client_id": "C1", "num_examples": 150, "loss": 0.001},
    ]
    assert table.rows(last=1) == table.rows()[2:]
    assert table.rows(last=99) == table.rows()
    assert table.texts("client_id") == ["C1", "C2", "C1"]
    np.testing.assert_array_equal(table.numbers("loss"), [0.5, math.nan, 0.001])
    for read, name in ((table.numbers, "client_id"), (table.texts, "loss"), (table.numbers, "dice")):
        with pytest.raises(KeyError):
            read(name)


def test_absent_then_there_then_gone(path):
    table = Table(path)
    assert (table.poll(), table.columns, table.rows()) == (False, (), [])
    path.write_bytes(HEADER + b"1,C1,1,0.5\r\n")
    assert table.poll()
    assert not table.poll()
    path.unlink()
    assert table.poll()
    assert (len(table), table.columns) == (0, ())
    assert not table.poll()


def test_a_half_written_row_waits(path):
    table = opened(path, HEADER[:10])
    assert table.columns == ()
    append(path, HEADER[10:] + b"1,C1,1,0.")
    assert table.poll()
    assert len(table) == 0
    assert not table.poll()
    append(path, b"25\r\n2,")
    assert table.poll()
    assert tuples(table) == [(1, "C1", 1, 0.25)]


def test_a_quoted_field_may_hold_newlines_commas_and_quotes(path):
    table = opened(path, b"round,reason,seconds\r\n1,\"late, it said\n")
    assert len(table) == 0
    append(path, b'""no""",2.5\r\n')
    assert table.poll()
    assert tuples(table) == [(1, 'late, it said "no"', 2.5)]


def test_the_real_writer_widens_the_header(tmp_path):
    path = tmp_path / "eval_metrics.csv"
    writer, reader = results.Table(path, ["round", "loss"]), Table(path)
    writer.append([{"round": 1, "loss": 0.5}])
    assert reader.poll()
    writer.append([{"round": 2, "loss": float("nan"), "accuracy": 0.75}])
    assert reader.poll()
    assert reader.rows() == [{"round": 1, "loss": 0.5, "accuracy": None}, {"round": 2, "loss": None, "accuracy": 0.75}]
    writer.cut_after(1)
    assert reader.poll()
    assert len(reader) == 1


@pytest.mark.parametrize("data", [HEADER + b"7,C9,1,9\r\n", HEADER + b"7,C9,1,9\r\n8,C9,1,9\r\n" * 9])
def test_another_content_under_the_same_name(path, data):
    """Truncated and written anew in place: shorter than what was read, or longer."""
    table = opened(path, HEADER + b"1,C1,1,0.5\r\n2,C1,1,0.5\r\n")
    path.write_bytes(data)
    assert table.poll()
    assert tuples(table) == tuples(opened(path, data))


def test_the_link_to_another_run(tmp_path):
    for run, value in (("a", b"1"), ("b", b"2")):
        (tmp_path / run).mkdir()
        (tmp_path / run / "x.csv").write_bytes(b"round\n" + value + b"\n")
    (tmp_path / "metrics").symlink_to("a")
    table = Table(tmp_path / "metrics" / "x.csv")
    table.poll()
    (tmp_path / "new").symlink_to("b")
    os.replace(tmp_path / "new", tmp_path / "metrics")
    assert table.poll()
    assert tuples(table) == [(2,)]


# --- strange content ---


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"\xef\xbb\xbfround,loss\n1,2\n", [(1, 2.0)]),
        (b"round,loss\n1\x00,\x002\n", [(1, 2.0)]),
        (b"round,loss\n1,abc\n2,true\n3,[1]\n4,null\n5,0x10\n", [(n, None) for n in range(1, 6)]),
        (b"round,loss\n1,nan\n2,inf\n3,-1e999\n4,.5\n5,+1\n6, 7 \n", [(1, None), (2, None), (3, None), (4, 0.5), (5, 1.0), (6, 7.0)]),
        (b"round,loss\n1\n2,3,4\n\n,5\n", [(1, None), (2, 3.0), (None, 5.0)]),
        (b"round,loss\n1\n2,3,4\n", [(1, None), (2, 3.0)]),  # as many cells as two whole rows have
        (b"round,loss\n1," + b"9" * 500 + b"\n2,3\n", [(1, None), (2, 3.0)]),
        (b"round,reason\n1," + b"x" * 500 + b"\n", [(1, "x" * 199 + "…")]),
        (b"round,reason\n1,\x1b]52;c;x\x07a\x9b\xe2\x80\xae\xff\n", [(1, "a\ufffd\ufffd")]),
        (b'round,reason\n1,"' + b"x" * 3_000_000 + b'"\n2,b\n', [(2, "b")]),
        (b"round,reason\n1," + b"x" * 5_000_000 + b"\n2,b\n3,c\n", [(2, "b"), (3, "c")]),
        (b'round,reason\n1,"never closed\n' + b"2,b\n" * 30_000, None),
        (b"round,round,,\x1b[31mred\n1,2,3,4\n", [(1, 2.0, 3.0, 4.0)]),
        (b"\n1\n", [(1.0,)]),
        (b"round,loss\r1,2\n", []),
    ],
    ids=range(15),
)
def test_strange_content(path, data, rows):
    table = opened(path, data)
    if rows is None:
        assert tuples(table)[-1] == (2, "b")  # the rest of the file is read
    else:
        assert tuples(table) == rows
    assert all(name.isprintable() for name in table.columns)


def test_an_endless_line_is_skipped_while_it_grows(path):
    table = opened(path, b"round,reason\n1,a\n2,")
    for _ in range(5):
        append(path, b"x" * 1_000_000)
        table.poll()
    append(path, b"\n3,c\n")
    assert table.poll()
    assert tuples(table) == [(1, "a"), (3, "c")]


def test_as_many_texts_as_rows_stay_bounded(path):
    table = opened(path, b"round,reason\n" + b"".join(b"1,reason %d\n" % n for n in range(30_000)))
    assert len(table) == 30_000
    assert table.texts("reason")[0] == "reason 0"
    assert len(set(table.texts("reason"))) <= 10_001


soup = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"\n", b"\r\n", b",", b'"', b'""', b"\0", b"\xef\xbb\xbf", b"round,client_id,loss\n", b"1,C1,0.5\n", b"2,,\n", b"\xff", b"1e999", b"nan"]),
    ),
    max_size=30,
).map(b"".join)


@given(st.lists(soup, max_size=5))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_raise_and_polls_add_up(path, pieces):
    path.unlink(missing_ok=True)
    table = Table(path)
    for piece in pieces:
        append(path, piece)
        table.poll()
        for row in table.rows():
            assert all(value is None or isinstance(value, (int, float)) or value.isprintable() for value in row.values())
    if pieces:
        whole = opened(path, b"".join(pieces))
        assert (table.columns, tuples(table)) == (whole.columns, tuples(whole))


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.text("abcé1 ", max_size=9), st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))), max_size=30
    ),
    st.randoms(),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_the_csv_module_writes_is_read_back(path, rows, random):
    """Written in pieces cut anywhere; the fast way through (no quotes) and the other give the same."""
    text = io.StringIO()
    csv.writer(text).writerows([("round", "client_id", "loss"), *rows])
    data = text.getvalue().encode()
    path.unlink(missing_ok=True)
    table = Table(path)
    begin = 0
    while begin < len(data):
        end = begin + random.randint(1, 40)
        append(path, data[begin:end])
        table.poll()
        begin = end
    assert tuples(table) == rows
    body = data.partition(b"\n")[2]
    quoted = opened(path, data[: len(data) - len(body)] + re.sub(rb"^(\d+)", rb'"\1"', body, flags=re.MULTILINE))
    assert tuples(quoted) == rows


def test_a_million_rows(path):
    """Through many chunks, and one row more after them."""
    path.write_bytes(HEADER + b"".join(b"%d,C%d,150,%d.25\r\n" % (n // 10, n % 10, n) for n in range(1_000_000)))
    table = Table(path)
    assert table.poll()
    assert len(table) == 1_000_000
    assert table.rows(last=1) == [{"round": 99_999, "client_id": "C9", "num_examples": 150, "loss": 999_999.25}]
    append(path, b"100000,C0,150,-1\r\n")
    assert table.poll()
    assert table.numbers("loss")[-1] == -1


# --- drawing ---


@given(st.lists(st.floats(width=32), max_size=300), st.integers(1, 20))
@settings(deadline=None)
def test_decimation_keeps_extremes_order_and_ends(values, buckets):
    x, y = decimate(range(len(values)), values, buckets)
    finite = [(place, value) for place, value in enumerate(values) if math.isfinite(value)]
    points = list(zip(x.tolist(), y.tolist(), strict=True))
    assert set(points) <= set(finite)
    assert points == sorted(points)
    assert len(points) <= 2 * buckets + 2
    if finite:
        assert (points[0], points[-1]) == (finite[0], finite[-1])
        assert (min(y), max(y)) == (min(v for _, v in finite), max(v for _, v in finite))
    if len(finite) <= 2 * buckets + 2:
        assert points == finite


# --- runs ---


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "results"


def test_runs_newest_first_with_what_they_reached(folder, monkeypatch):
    assert summaries(folder) == []
    first = results.Run.create(folder, "a", {"num-server-rounds": 2, "seed": 0, "batch-size": 16})
    for number, accuracy in ((1, 0.5), (2, 0.75)):
        first.commit_round(number, {"eval_metrics": [{"round": number, "loss": 1.0, "accuracy": accuracy}]}, None)
    first.close("finished")
    later = results.now() + datetime.timedelta(seconds=5)
    monkeypatch.setattr(results, "now", lambda: later)
    second = results.Run.create(folder, "b", {"num-server-rounds": 5, "seed": 0})
    newest, oldest = summaries(folder)
    assert (oldest.name, oldest.outcome, oldest.rounds_done, oldest.rounds, oldest.best_accuracy) == (first.name, "finished", 2, 2, 0.75)
    assert oldest.start is not None
    assert oldest.end is not None
    assert oldest.seconds == (oldest.end - oldest.start).total_seconds()
    assert (newest.outcome, newest.rounds_done, newest.rounds, newest.best_accuracy, newest.end) == ("running", 0, 5, None, None)
    assert newest.seconds is not None
    assert config_differences([newest, oldest]) == {
        second.name: {"num-server-rounds": 5, "batch-size": None},
        first.name: {"num-server-rounds": 2, "batch-size": 16},
    }
    assert find_run(folder) == second.path
    assert find_run(folder, first.name) == first.path
    with pytest.raises(UserError, match=f"no run zzz.*{second.name}"):
        find_run(folder, "zzz")
    assert (newest.best_round, newest.best_value, newest.stopped_early) == (None, None, False)
    second.update(best={"round": 3, "metric": "auc", "value": 0.9}, stopped_early=True)
    assert (summaries(folder)[0].best_round, summaries(folder)[0].best_metric, summaries(folder)[0].best_value) == (3, "auc", 0.9)
    assert summaries(folder)[0].stopped_early
    second.close("failed", "nobody came")
    assert (summaries(folder)[0].outcome, summaries(folder)[0].reason) == ("failed", "nobody came")


def test_a_run_whose_server_is_gone_is_interrupted(folder):
    run = results.Run.create(folder, "a", {})
    run.update(pid=2**22 + 1, pid_start=1.0)
    assert summaries(folder)[0].outcome == "interrupted"


@pytest.mark.parametrize(("content", "outcome"), [
    (b"not toml", "failed"), (b"\xff", "failed"), (b"", "failed"),
    (b"outcome = 3\nstart = 'x'\nconfig = 1\nrounds_done = 'many'\n", "failed"),
    (b"outcome = 'running'\npid = 'x'\npid_start = 'y'\n", "interrupted"),
])
def test_a_damaged_run_hides_no_other(folder, content, outcome):
    results.Run.create(folder, "good", {}).close("finished")
    (folder / "runs" / "damaged").mkdir()
    (folder / "runs" / "damaged" / "run.toml").write_bytes(content)
    assert {run.name: run.outcome for run in summaries(folder)}["damaged"] == outcome
    assert len(summaries(folder)) == 2


def test_no_run_yet(folder):
    with pytest.raises(UserError, match="`fedtui up` starts one"):
        find_run(folder)


def test_tables_of_a_run(folder):
    run = results.Run.create(folder, "a", {})
    run.commit_round(1, {"participation": [{"round": 1, "phase": "fit", "client_id": "C1", "outcome": "late", "seconds": 2.5, "reason": "no, \"not\" me"}]}, None)
    tables = run_tables(run.path)
    assert set(tables) == set(results.TABLES)
    assert all(table.poll() for table in tables.values())
    assert tables["participation"].rows() == [
        {"round": 1, "phase": "fit", "client_id": "C1", "outcome": "late", "seconds": 2.5, "reason": 'no, "not" me'}
    ]
    assert tables["fit_metrics"].columns == ("round",)
