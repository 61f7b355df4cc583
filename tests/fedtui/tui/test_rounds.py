"""Place 3: who took part in which round, what went wrong, and the way to the log."""
from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest

from fedtui.tui.rounds import EVAL, FIT, Part, duration, spell
from fedtui.tui.widgets.log_view import LogView
from fedtui.tui.widgets.round_grid import RoundGrid
from tests.fedtui.tui.conftest import Screen
from tests.fedtui.tui.runs_for_tests import Hospital

WENT_WRONG = {
    "C2": {"outcome": "failed", "seconds": 2.0, "reason": "out of memory"},
    "C3": {"outcome": "late", "seconds": 31.0, "reason": "no answer within 30 s"},
    "C4": {"outcome": "excluded", "reason": "weights are not finite"},
}


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Hospital(tmp_path / "project")


def row(screen: Screen, client: str) -> str:
    """The row of a client in the grid."""
    grid = screen.app.query_one(RoundGrid)
    return next((text for text in (grid.render_line(y).text for y in range(grid.size.height)) if text[2:].startswith(f"{client} ")), "")


class TestGrid:
    def test_without_a_run_the_key_that_starts_one_is_named(self, hospital: Hospital) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("No run yet", "u starts the server and all clients")

        hospital.open("rounds", script)

    def test_cells_tell_what_came_of_each_part_and_how_long_it_took(self, hospital: Hospital) -> None:
        run = hospital.run("first", rounds=2)
        hospital.round(run, 3, parts=WENT_WRONG)

        async def script(screen: Screen) -> None:
            await screen.shows("▲5.0s ◆0.4s", "✗2.0s", "⊘5.3s")
            assert "6/6" in row(screen, "C1") and row(screen, "C1").count("▲5.0s ◆0.4s") == 3
            assert "4/5" in row(screen, "C2") and "✗2.0s" in row(screen, "C2")
            assert "◷31s" in row(screen, "C3") and "⊘5.3s" in row(screen, "C4")

        hospital.open("rounds", script)

    def test_the_reason_stands_below_and_what_went_wrong_is_listed(self, hospital: Hospital) -> None:
        run = hospital.run("first", rounds=2)
        hospital.round(run, 3, parts=WENT_WRONG)

        async def script(screen: Screen) -> None:
            await screen.shows("C1 · round 3", "fit  ok after 5.0 s")
            await screen.press("j")
            await screen.shows("C2 · round 3", "failed after 2.0 s: out of memory", "eval was not asked")
            await screen.press("tab", "j", "j")
            await screen.shows("C4 · round 3", "excluded after 5.3 s: weights are not finite")

        hospital.open("rounds", script)

    def test_stragglers_are_marked(self, hospital: Hospital) -> None:
        run = hospital.run("first", rounds=2)
        hospital.round(run, 3, parts={"C2": {"seconds": 42.0}})

        async def script(screen: Screen) -> None:
            await screen.shows("▲42s !")
            await screen.press("j")
            await screen.shows("the others took 5.2 s: a straggler", "! straggler")

        hospital.open("rounds", script)

    def test_the_round_that_goes_on_shows_who_has_answered(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=2)
        hospital.progress.update(phase="fit", round=3, sampled=["C1", "C2"], replied=["C2"])

        async def script(screen: Screen) -> None:
            await screen.shows("C1 · round 3 · going on", "has not answered yet")
            assert row(screen, "C1").rstrip().endswith("·") and row(screen, "C2").rstrip().endswith("▲")
            assert "6/6" not in row(screen, "C1") and "4/4" in row(screen, "C1")
            hospital.progress.update(phase="eval", sampled=["C1", "C2"], replied=["C1"])
            screen.app.look_again()
            await screen.until(lambda: row(screen, "C2").rstrip().endswith("▲     ·"), "the evaluation")  # C1 dropped out of training
            assert row(screen, "C1").rstrip().endswith("◆")

        hospital.open("rounds", script)

    def test_the_cursor_follows_the_latest_round_until_it_is_moved(self, hospital: Hospital) -> None:
        run = hospital.run("first", rounds=2)

        async def script(screen: Screen) -> None:
            await screen.shows("C1 · round 2")
            hospital.round(run, 3)
            screen.app.look_again()
            await screen.shows("C1 · round 3")
            await screen.press("left", "left", "down")
            await screen.shows("C2 · round 1")
            hospital.round(run, 4)
            screen.app.look_again()
            await screen.until(lambda: "8/8" in row(screen, "C1"), "round 4")
            await screen.shows("C2 · round 1")
            await screen.press("G")
            await screen.shows("C2 · round 4")

        hospital.open("rounds", script)

    @pytest.mark.parametrize("size", [(80, 24), (200, 50)])
    def test_many_rounds_and_clients_scroll(self, hospital: Hospital, size: tuple[int, int]) -> None:
        run = hospital.run("first")
        clients = tuple(f"C{number}" for number in range(1, 17))
        for number in range(1, 13):
            hospital.round(run, number, clients=clients)

        async def script(screen: Screen) -> None:
            await screen.shows("C1 · round 12", " C2 ", "enter shows the log")
            await screen.press("g", *["down"] * 15)
            await screen.shows("C16 · round 1")
            assert row(screen, "C16")
            await screen.press("minus", "minus")
            assert row(screen, "C16").count("▲◆") > 10
            await screen.press("plus", "plus")
            assert "▲6.5s ◆0.4s" in row(screen, "C16")

        hospital.open("rounds", script, size=size)

    def test_hostile_and_long_names_do_not_shift_the_columns(self, hospital: Hospital) -> None:
        run = hospital.run("first")
        hospital.round(run, 1, clients=("C1", "Klinik 東京 🏥 " * 4, "\x1b[31mred\x1b]0;x\x07"))

        async def script(screen: Screen) -> None:
            await screen.shows("Klinik", "red")
            grid = screen.app.query_one(RoundGrid)
            from rich.cells import cell_len

            rows = [grid.render_line(y).text for y in range(1, 4)]
            assert len({cell_len(text[: text.index("▲")]) for text in rows}) == 1
            assert "\x1b" not in screen.text

        hospital.open("rounds", script)


class TestWays:
    def test_enter_leads_to_that_moment_in_the_clients_log(self, hospital: Hospital) -> None:
        run = hospital.run("first", rounds=8)
        log = hospital.project.logs / "C2.log"
        log.parent.mkdir(parents=True)
        lines = []
        for number in range(1, 401):
            at = datetime.datetime.fromtimestamp(1_700_000_000 + number // 50 * 60 + number % 50)
            lines.append(f"{at:%Y-%m-%d %H:%M:%S} C2 round {number // 50 + 1}: line {number}\n")
        log.write_text("".join(lines))
        assert run.name

        async def script(screen: Screen) -> None:
            await screen.shows("C1 · round 8")
            await screen.press("down", "left", "left", "left")
            await screen.shows("C2 · round 5")
            await screen.press("enter")
            await screen.until(lambda: screen.app.place == "logs" and screen.app.query_one(LogView).has_focus, "the log")
            await screen.shows("round 5: line 200")
            assert "round 4" not in screen.text

        hospital.open("rounds", script)

    def test_brackets_lead_to_older_and_newer_runs(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=3).close("finished")
        time.sleep(1.0 - time.time() % 1.0)
        run = hospital.run("second", rounds=5)

        async def script(screen: Screen) -> None:
            await screen.shows("C1 · round 5", "-second  ● running")
            run.close("finished")
            screen.app.look_again()
            await screen.shows("-second  ✓ finished")
            await screen.press("left_square_bracket")
            await screen.shows("C1 · round 3", "-first  ✓ finished")
            assert screen.app.store.viewed and screen.app.store.viewed.endswith("-first")
            await screen.press("right_square_bracket")
            await screen.shows("C1 · round 5")
            assert screen.app.store.viewed is None
            await screen.press("o", "j", "enter")
            await screen.shows("C1 · round 3")

        hospital.open("rounds", script)

    def test_the_cell_is_found_again(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=6)

        async def change(screen: Screen) -> None:
            await screen.shows("C1 · round 6")
            await screen.press("left", "left", "down", "minus")
            await screen.shows("C2 · round 4")

        async def look(screen: Screen) -> None:
            await screen.shows("C2 · round 4")
            assert "◆0.4s" not in row(screen, "C2")

        hospital.open("rounds", change)
        hospital.open("rounds", look)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.04, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (99.4, "99s"), (99.6, "2m"), (5960, "99m"), (5980, "2h"), (359_000, "100h"), (1e12, ""), (-1.0, "")],
)  # fmt: skip
def test_durations_are_four_characters_at_most(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text and len(text) <= 4


@pytest.mark.parametrize(("seconds", "usual", "straggles"), [(10.1, 5.0, True), (9.9, 5.0, False), (0.9, 0.1, False), (1.2, 0.1, True), (50.0, None, False)])
def test_who_takes_more_than_twice_as_long_straggles_unless_nobody_notices(seconds: float, usual: float | None, straggles: bool) -> None:
    assert Part("ok", seconds, "", usual).straggles is straggles
    assert not Part("late", seconds, "", usual).straggles


def test_a_part_is_spelt_in_a_sentence() -> None:
    assert spell(Part("failed", 2.0, "out of memory", 5.0)) == "failed after 2.0 s: out of memory"
    assert (FIT, EVAL) == ("fit", "eval")
