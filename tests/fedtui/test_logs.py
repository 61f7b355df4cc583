from __future__ import annotations

import datetime
import os
import threading
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedtui.daemon.rotate import Rotation
from fedtui.logs import Follower, clean, compile_pattern, level_of, merge, parse_since, read_lines, since, tail
from poweranger.errors import UserError

# --- cleaning ---


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\x1b[2J\x1b[Hb", "ab"),
        ("a\x1b]52;c;ZXZpbA==\x07b", "ab"),  # clipboard
        ("a\x1b]0;title\x1b\\b", "ab"),
        ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
        ("a\x1bP1$r0m\x1b\\b", "ab"),  # DCS
        ("a\x1b_app\x1b\\b\x1b^pm\x1b\\c\x1bXsos\x1b\\d", "abcd"),
        ("a\x9b31mb\x9d52;c;x\x9cc\x90q\x9cd", "abcd"),  # C1
        (b"a\x9b31mb\x9d0;t\x07c".decode("utf-8", "surrogateescape"), "abc"),  # C1 as single bytes
        ("a\x1b]52;c;never ended", "a52;c;never ended"),
        ("a\x1b\x1b[31m[31mb", "a[31mb"),  # what is left must not make a new one
        ("a\x1b]0;\x1b[31mx", "a0;x"),
        ("a\x1b(0b\x1b#8c\x1bcd\x1b", "abcd"),
        ("50%\r100%\r\n", "50% 100%"),
        ("a\x00b\x07c\x08d\x7fe\x85f", "abcdef"),
        ("a\tb", "a       b"),
        ("a\nb\u2028c\u00a0d\u3000e", "a b c d e"),
        ("user\u202etxt.exe\u2066x\u2069\u200e", "usertxt.exex"),  # bidi
        ("pay\u200bpal\ufeff\u2060\u00ad\u3164\u034f\U000e0041", "paypal"),  # invisible
        ("\ud800x\udfff", "\ufffdx\ufffd"),
        ("\ue000\U0010ffff", "\ufffd\ufffd"),
        ("é ñ 日本語 한국어 עברית ❤️ 😀 e\u0301", "é ñ 日本語 한국어 עברית ❤️ 😀 e\u0301"),
    ],
)
def test_clean(hostile, shown):
    assert clean(hostile) == shown


def test_clean_marks_what_it_cuts():
    assert clean("x" * 50, 50) == "x" * 50
    assert clean("x" * 51, 50) == "x" * 49 + "…"
    assert clean("\x1b[31m" * 10_000_000, 50) == "…"


anything = st.one_of(
    st.text(),
    st.text(st.characters(codec=None), max_size=300),
    st.binary(max_size=300).map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.lists(st.sampled_from(["\x1b", "[", "]", "P", "\\", "0", ";", "m", "\x07", "\x9b", "\x9c", "\x9d", "\u202e", "é", "\r", "\udc9b"])).map("".join),
)


@given(anything, st.integers(1, 400))
@settings(deadline=None)
def test_whatever_is_cleaned_is_printable_short_and_clean(text, limit):
    shown = clean(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in shown)
    assert clean(shown, limit) == shown


@given(st.text(st.characters(categories=["L", "N", "P", "Sm", "Sc"])))
def test_ordinary_text_stays(text):
    hidden = {"\u115f", "\u1160", "\u3164", "\uffa0"}  # letters without a glyph
    assert clean(text) == "".join(char for char in text if char not in hidden)


@pytest.mark.parametrize("text", ["\x1b]" * 10**6, "\x9d" * 10**6, "\x1b[" + "0;" * 10**6, "\u202e" * 10**6, "\t" * 10**6])
def test_a_huge_hostile_line_comes_out_short(text):
    shown = clean(text)
    assert len(shown) <= 2000
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026-01-01 10:00:00 round 3/5  FAILED: no usable answer", "error"),
        ("Traceback (most recent call last):", "error"),
        ("ModuleNotFoundError: No module named 'x'", "error"),
        ("server: port 8081 is taken", "error"),
        ("E0000 00:00:1 cuda_dnn.cc:8310] Unable to register", "error"),
        ("2026-01-01 10:00:00.123456: E external/local_xla/x.cc:1] failed", "error"),
        ("2026-01-01 10:00:00 WARNING: open to the network", "warning"),
        ("W0000 00:00:1 x.cc:1] y", "warning"),
        ("/x.py:1: UserWarning: y", "info"),
        ("2026-01-01 10:00:00 round 3/5  loss 0.3  error-free", "info"),
    ],
)
def test_levels(line, level):
    assert level_of(line) == level


# --- reading ---


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_tail_reads_on_in_rotated_logs(tmp_path):
    log = write(tmp_path / "C1.log", b"5\n6\n7")
    write(tmp_path / "C1.log.1", b"3\n4\n")
    write(tmp_path / "C1.log.2", b"1\n2\n")
    assert tail(log, 2) == ["6", "7"]
    assert tail(log, 6) == ["2", "3", "4", "5", "6", "7"]
    assert tail(log, 100) == list(read_lines(log)) == ["1", "2", "3", "4", "5", "6", "7"]
    assert tail(log, 0) == []


def test_no_log_no_lines(tmp_path):
    assert tail(tmp_path / "C1.log", 5) == list(read_lines(tmp_path / "C1.log")) == Follower(tmp_path / "C1.log").poll() == []
    assert tail(write(tmp_path / "empty", b""), 5) == []


@given(st.lists(st.binary(max_size=5).filter(lambda data: b"\n" not in data), max_size=30), st.booleans(), st.integers(0, 35))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tail_is_the_end_of_all_lines(tmp_path, lines, ended, count):
    log = write(tmp_path / "log", b"\n".join(lines) + (b"\n" if ended and lines else b""))
    everything = list(read_lines(log))
    assert tail(log, count) == everything[max(len(everything) - count, 0) :]


def test_lines_of_10_mb_nuls_and_bad_utf8_are_cut(tmp_path):
    log = write(tmp_path / "log", b"first\n" + b"x" * 10_000_000 + b"\n" + b"\0" * 10_000_000 + b"\n\xff\xfe\n" + b"y" * 10_000_000)
    lines = list(read_lines(log))
    assert [line[:3] for line in lines] == ["fir", "xxx", "…", "\ufffd\ufffd", "yyy"]
    assert all(len(line) <= 2000 for line in lines)
    assert tail(log, 3) == lines[2:]
    follower = Follower(log, last=4)
    followed: list[str] = []
    while got := follower.poll():
        followed += got
    assert followed == lines[1:4]
    assert follower.unfinished == lines[4]


# --- following ---


def test_follow_from_the_end_or_a_little_before(tmp_path):
    log = write(tmp_path / "log", b"1\n2\n3")
    end, before = Follower(log), Follower(log, last=2)
    with log.open("ab") as file:
        file.write(b"+\n4\n5")
    assert end.poll() == ["3+", "4"]
    assert before.poll() == ["2", "3+", "4"]
    assert (before.poll(), before.unfinished) == ([], "5")


def test_the_last_lines_may_lie_in_a_rotated_log(tmp_path):
    log = write(tmp_path / "log", b"5\n")
    write(tmp_path / "log.1", b"3\n4\n")
    assert Follower(log, last=2).poll() == ["4", "5"]


def test_a_log_that_comes_later(tmp_path):
    follower = Follower(tmp_path / "log", last=10)
    assert follower.poll() == []
    write(tmp_path / "log", b"1\n2\n")
    assert follower.poll() == ["1", "2"]


def test_truncation_and_replacement_begin_anew(tmp_path):
    log = write(tmp_path / "log", b"1\n2\n3")
    follower = Follower(log, last=10)
    assert follower.poll() == ["1", "2"]
    write(log, b"4\n")
    assert follower.poll() == ["3", "4"]
    write(tmp_path / "new", b"5\n6 is longer\n")
    os.replace(tmp_path / "new", log)
    assert follower.poll() == ["5", "6 is longer"]


def test_a_log_renamed_away_is_read_to_its_end(tmp_path):
    log = write(tmp_path / "log", b"1\n")
    follower = Follower(log)
    with log.open("ab") as file:
        file.write(b"2\n")
    log.rename(tmp_path / "log.1")
    write(log, b"3\n4\n")
    lines = follower.poll()
    assert lines + follower.poll() == ["2", "3", "4"]


def test_a_rotation_at_its_last_step_repeats_nothing(tmp_path):
    """The daemon's rotation: the copy is in place, the log itself is not cut yet."""
    log = write(tmp_path / "log", b"1\n2\n3\n")
    follower = Follower(log, last=2)
    write(tmp_path / "log.1", b"1\n2\n3\n")
    assert follower.poll() == []
    write(log, b"4\n")
    lines = follower.poll()
    assert lines + follower.poll() == ["2", "3", "4"]


def test_a_rotation_between_its_steps_repeats_nothing(tmp_path):
    """The daemon's rotation: the last old log has moved on, the copy is not in its place yet."""
    log = write(tmp_path / "log", b"3\n4\n")
    write(tmp_path / "log.1", b"1\n2\n")
    follower = Follower(log, last=1)
    (tmp_path / "log.1").rename(tmp_path / "log.2")
    early = follower.poll()
    write(tmp_path / "log.1", b"3\n4\n5\n")
    write(log, b"6\n")
    assert early + drain(follower) == ["4", "5", "6"]


operations = st.lists(
    st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from([b"\n", b"\n\n"]), st.sampled_from(["rotate", "poll"])), max_size=60
)


@given(operations, st.integers(2, 4))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_polls_together_are_the_log(tmp_path, steps, keep):
    for path in tmp_path.iterdir():
        path.unlink()
    log = write(tmp_path / "log", b"")
    follower = Follower(log)
    whole, followed, rotations, writes = b"", [], 0, 0
    for step in steps:
        if step == "poll":
            followed += drain(follower)
            rotations = 0
        elif step == "rotate":
            if rotations < keep:  # more between two polls throw lines away
                rotation = Rotation(log, keep)
                rotation.copy()
                rotations += rotation.cut(lambda _: None) > 0
        else:
            writes += 1
            data = step + b" %d " % writes  # no two logs begin alike
            whole += data
            with log.open("ab") as file:
                file.write(data)
    followed += drain(follower)
    lines = whole.decode("utf-8", "surrogateescape").split("\n")
    assert followed == [clean(line) for line in lines[:-1]]
    assert follower.unfinished == clean(lines[-1])


def test_following_while_it_is_written_and_rotated(tmp_path):
    """As in life: the writer is held only for the cut, the follower never."""
    log = write(tmp_path / "log", b"")
    follower, holding, count = Follower(log), threading.Lock(), 60_000
    written = threading.Event()

    def writer() -> None:
        with log.open("ab", buffering=0) as file:
            for begin in range(0, count, 20):
                with holding:
                    file.write(b"".join(b"line %d\n" % number for number in range(begin, begin + 20)))
        written.set()

    def rotator() -> None:
        while not written.is_set():
            if log.stat().st_size > 50_000:
                rotation = Rotation(log, 99)  # so many that none is thrown away
                rotation.copy()
                with holding:
                    rotation.cut(lambda _: None)

    threads = [threading.Thread(target=writer), threading.Thread(target=rotator)]
    for thread in threads:
        thread.start()
    lines: list[str] = []
    while not written.is_set() or threads[1].is_alive():
        lines += follower.poll()
    lines += drain(follower)
    assert lines == [f"line {number}" for number in range(count)]


def drain(follower: Follower) -> list[str]:
    lines: list[str] = []
    while got := follower.poll():
        lines += got
    return lines


# --- choosing and merging ---


def test_a_bad_pattern_is_a_sentence():
    assert compile_pattern(r"loss \d").search("loss 1")
    for bad in ("(", "*", "[z-a]", "a{99999999999999999999}"):
        with pytest.raises(UserError, match="is no regular expression"):
            compile_pattern(bad)


NOW = datetime.datetime(2026, 3, 1, 12, 0, 0)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", datetime.datetime(2026, 3, 1, 11, 58, 30)),
        ("10m", datetime.datetime(2026, 3, 1, 11, 50)),
        ("1.5h", datetime.datetime(2026, 3, 1, 10, 30)),
        ("2d", datetime.datetime(2026, 2, 27, 12)),
        ("2026-02-28", datetime.datetime(2026, 2, 28)),
        ("2026-02-28T08:09:10", datetime.datetime(2026, 2, 28, 8, 9, 10)),
    ],
)
def test_times(text, moment):
    assert parse_since(text, NOW) == moment


def test_a_time_of_another_zone_is_made_local():
    utc = datetime.datetime(2026, 2, 28, 8, tzinfo=datetime.UTC)
    assert parse_since("2026-02-28T08:00:00+00:00") == utc.astimezone().replace(tzinfo=None)


@pytest.mark.parametrize("text", ["", "yesterday", "10", "m", "9999999999999d", "2026-13-01"])
def test_a_bad_time_is_a_sentence(text):
    with pytest.raises(UserError, match="is no time"):
        parse_since(text, NOW)


SERVER = ["2026-03-01 10:00:00 start", "2026-03-01 10:00:05 round 1", "Traceback", "  File", "2026-03-01 10:00:09 end"]
CLIENT = ["tensorflow banner", "2026-03-01 10:00:03 C1 here", "2026-03-01 10:00:05 C1 trains", "2026-03-01 10:00:01 clock set back", "2026-03-01T10:00:07 x"]


def test_since_keeps_lines_that_belong_to_a_later_one():
    assert list(since(SERVER, datetime.datetime(2026, 3, 1, 10, 0, 5))) == SERVER[1:]
    assert list(since(SERVER, datetime.datetime(2026, 3, 1, 10, 0, 6))) == SERVER[4:]


def test_merged_in_time_order_each_log_in_its_own():
    merged = list(merge({"server": SERVER, "C1": CLIENT}))
    assert merged == [
        ("C1", CLIENT[0]), ("server", SERVER[0]), ("C1", CLIENT[1]), ("server", SERVER[1]), ("server", SERVER[2]), ("server", SERVER[3]),
        ("C1", CLIENT[2]), ("C1", CLIENT[3]), ("C1", CLIENT[4]), ("server", SERVER[4]),
    ]  # fmt: skip
