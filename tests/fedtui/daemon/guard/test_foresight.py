"""What processes will need, where their growth leads, and what is remembered of it."""
from __future__ import annotations

import math
import random
import re
from pathlib import Path

import pytest

from fedtui.daemon.guard.estimates import BARE_CLIENT_MB, BARE_FORK_MB, Estimate, Estimates
from fedtui.daemon.guard.forecast import foresee, growth
from fedtui.daemon.guard.history import LINE_BYTES, History


def peaks(size, rounds: int = 10) -> list[list[float]]:
    noise = random.Random(1)
    return [[float(number), size(number) + noise.uniform(-3, 3)] for number in range(1, rounds + 1)]


class TestForecast:
    def test_a_steady_growth_is_told_with_its_end(self) -> None:
        (found,) = foresee({"C3": peaks(lambda number: 400 + 40 * number), "C1": peaks(lambda number: 450)}, 280, rounds=50)
        assert found.slope_mb == pytest.approx(40, abs=1)
        assert re.fullmatch("C3 grows 40 MB a round: reaches the limit about round 1[67]", str(found))

    def test_a_limit_beyond_the_run_s_end_is_no_alarm(self) -> None:
        (found,) = foresee({"C3": peaks(lambda number: 400 + 40 * number)}, 280, rounds=12)
        assert found.round is None and str(found) == "C3 grows 40 MB a round"

    def test_all_that_grow_share_what_is_left(self) -> None:
        growing = peaks(lambda number: 400 + 40 * number)
        alone, *_ = foresee({"C1": growing}, 800, rounds=0)
        together, *_ = foresee({"C1": growing, "C2": growing}, 800, rounds=0)
        assert alone.round and together.round and alone.round - 10 == 2 * (together.round - 10)

    @pytest.mark.parametrize(
        "size",
        [
            lambda number: 450,
            lambda number: 600 - 200 * math.exp(-number / 2),  # warming up
            lambda number: 400 + 30 * min(number, 4),
            lambda number: 450 + 60 * (number % 3 == 0),
            lambda number: 600 - 10 * number,
        ],
    )
    def test_a_curve_that_has_flattened_or_only_sways_is_none(self, size) -> None:
        for rounds in range(8, 40):
            assert growth(peaks(size, rounds)) == 0

    def test_few_rounds_say_nothing(self) -> None:
        assert growth([]) == growth(peaks(lambda number: 400 + 40 * number, 5)) == 0


class TestEstimates:
    def test_a_start_needs_what_the_last_one_did_else_what_its_like_did_else_a_bare_process(self, tmp_path: Path) -> None:
        estimates = Estimates(tmp_path / "memory.json")
        assert estimates.need("C1", "client", cache_mb=lambda: 256.0) == BARE_CLIENT_MB + 256
        one = estimates.get("C1")
        one.begin(1, 700)
        for size, status in ((300, "loading"), (620, "round 1, training"), (580, "round 1, evaluating"), (500, "idle")):
            one.see(size, "running", status)
        assert one.peaks == {"waiting": 500, "training": 620, "evaluating": 580}
        assert one.rounds == [[1, 620]]
        one.begin(2, 620)
        one.see(100, "starting", "")
        assert estimates.need("C1", "client") == 620, "a start that did not train yet says nothing"
        estimates.get("simulation").see(6000, "running", "round 1 of 3, training")
        assert estimates.need("C2", "client", cache_mb=lambda: 256.0) == 620, "a whole federation in one process is no client's like"
        assert estimates.need("C1", "client", forked=True) == estimates.need("C2", "client", forked=True) == BARE_FORK_MB
        one.begin(3, BARE_FORK_MB, forked=True)
        one.see(160, "running", "round 1, training")
        assert [estimates.need("C2", "client", forked) for forked in (True, False)] == [160, BARE_CLIENT_MB], "a fork takes far less than a process"
        estimates.save(["C1"])
        assert Estimates(tmp_path / "memory.json").get("C1") == one

    def test_a_new_run_begins_its_rounds_anew(self) -> None:
        estimate = Estimate()
        for number in (1, 2, 3, 1):
            estimate.see(100.0 + number, "running", f"round {number}, training")
        assert estimate.rounds == [[1, 101]]

    def test_a_damaged_file_is_learned_anew(self, tmp_path: Path) -> None:
        (tmp_path / "memory.json").write_text('{"C1": {"strange": 1}}')
        assert Estimates(tmp_path / "memory.json").of == {}


class TestHistory:
    def test_lines_are_added_and_the_last_are_read(self, tmp_path: Path) -> None:
        history = History(tmp_path / "memory-guard.jsonl")
        assert history.last(1) == []
        for number in range(3):
            history.add({"number": number, "text": "x" * 10})
        with history.path.open("ab") as file:
            file.write(b'{"cut o')
        assert [entry["number"] for entry in history.last(2)] == [1, 2]
        history.add({"number": 3})
        assert [entry["number"] for entry in history.last(2)] == [2, 3]
        assert history.path.stat().st_mode & 0o777 == 0o600

    def test_of_a_long_one_only_the_end_is_read(self, tmp_path: Path) -> None:
        history = History(tmp_path / "memory-guard.jsonl")
        history.path.write_text(f'{{"text": "{"x" * LINE_BYTES}"}}\n{{"number": 1}}\n')
        assert history.last(1) == [{"number": 1}]
        assert len(history.last(2)) == 2, "lines that many clients make long are read, too"
