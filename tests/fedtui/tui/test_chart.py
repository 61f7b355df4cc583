"""The chart: what it shows, and that no values whatever take the process down."""
from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.style import Style
from textual.app import App, ComposeResult
from textual.geometry import Region

from fedtui.tui.widgets import scale
from fedtui.tui.widgets.canvas import Canvas
from fedtui.tui.widgets.chart import Chart, Look, Series
from fedtui.tui.widgets.picture import Inks, paint

ROOT = Path(__file__).parents[3]
PLAIN = Style()
INKS = Inks(PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, lambda number, faint: Style(color=f"color({number % 256})"))
NAN = float("nan")


def picture(*series: Series, width: int = 40, height: int = 10, title: str = "loss", named: bool = True, inks: Inks = INKS, **look: object) -> list[str]:
    painted = paint(title, series, Look(**look), inks, Canvas(), width, height, named=named, empty="no values yet")  # type: ignore[arg-type]
    assert len(painted.rows) == height and all(row.cell_length == width for row in painted.rows)
    return [row.text for row in painted.rows]


def dots(rows: list[str]) -> list[tuple[int, int]]:
    """Row and column of each cell that is drawn on."""
    return [(y, x) for y, row in enumerate(rows) for x, char in enumerate(row) if 0x2800 < ord(char) <= 0x28FF or char == "•"]


def test_a_rising_line_rises_and_its_last_figure_stands_in_the_border() -> None:
    rows = picture(Series("eval", range(1, 11), [k / 10 for k in range(1, 11)]))
    found = dots(rows)
    left, right = min(found, key=lambda dot: dot[1]), max(found, key=lambda dot: dot[1])
    assert left[0] == 8 and right[0] == 1
    assert rows[0].startswith("╭ loss ") and "eval 1" in rows[0]
    assert rows[-1].split("─")[-1] == "10╯" and "1" in rows[-1]


def test_axis_labels_stand_at_their_values() -> None:
    rows = picture(Series("a", [0, 10], [0.0, 10.0]), height=13)
    at = {row.split()[0].strip("│"): y for y, row in enumerate(rows[1:-1]) if row[1] == " " or row[1].isdigit()}
    assert rows[11][1:3].strip() == "0" and rows[1][1:3] == "10", at


def test_missing_values_leave_a_gap() -> None:
    values = [1.0] * 8 + [NAN, None, math.inf, NAN] + [1.0] * 8
    columns = {x for _, x in dots(picture(Series("a", range(20), values), width=60))}
    whole = {x for _, x in dots(picture(Series("a", range(20), [1.0] * 20), width=60))}
    assert len(whole) - len(columns) > 8 and columns < whole


def test_a_logarithmic_axis_has_decades_and_leaves_out_what_is_not_positive() -> None:
    rows = picture(Series("a", range(4), [1.0, 10.0, 100.0, 1000.0]), height=12, log_y=True)
    assert [row[1:6].strip() for row in rows[1:-1] if row[1:6].strip().isdigit()] == ["1000", "100", "10", "1"]
    assert "log" in rows[0]
    assert "no values yet" in "".join(picture(Series("a", range(3), [0.0, -1.0, NAN]), log_y=True))


def test_zooming_shows_only_a_part_and_lines_run_to_its_border() -> None:
    rows = picture(Series("a", [0, 100], [0.0, 100.0]), width=50, view=(40.0, 60.0))
    assert {x for _, x in dots(rows)} == set(range(min(x for _, x in dots(rows)), 49))
    assert "40" in rows[-1] and "100" not in rows[-1]
    assert rows[1][1:3] in ("60", "  ") and not any(row[1:4] == "100" for row in rows)


def test_the_cursor_reads_all_lines_off_at_its_round() -> None:
    series = [Series("fit", range(1, 6), [5.0, 4.0, 3.0, 2.0, 1.0]), Series("eval", [1, 2, 4, 5], [9.0, 8.0, 6.5, 6.0])]
    assert "fit 2" in picture(*series, cursor=4.0, width=50)[0] and "eval 6.5" in picture(*series, cursor=4.0, width=50)[0]
    assert "eval –" in picture(*series, cursor=3.0, width=50)[0]
    assert " 4 " in picture(*series, cursor=4.0, width=50)[-1]


def test_figures_without_room_in_the_border_stand_in_a_box_at_the_cursor() -> None:
    series = [Series(f"client-{k}", range(5), [k + 0.25] * 5) for k in range(12)]
    text = "\n".join(picture(*series, cursor=3.0, width=60, height=10))
    assert "client-11    11.25" in text and "+5" in text  # the largest on top, and how many there was no room for


def test_the_best_round_is_marked_in_the_line_and_in_the_border() -> None:
    rows = picture(Series("eval", range(1, 6), [5.0, 1.5, 3.0, 4.0, 5.0], best=(2.0, 1.5)), width=60)
    assert "★ 1.5 @2" in rows[0] and "★" in rows[-2]


def test_a_faint_line_has_no_figure() -> None:
    rows = picture(Series("eval", range(5), [2.0] * 5), Series("raw", range(5), [7.0, 1.0, 7.0, 1.0, 7.0], faint=True))
    assert "raw" not in rows[0] and "eval 2" in rows[0]


def test_names_of_any_width_do_not_shift_the_frame() -> None:
    for width in (12, 13, 20, 41):
        rows = picture(Series("Klinik 東京 🏥", range(9), range(9), best=(8.0, 8.0)), title="損失 loss", width=width)
        assert rows[0].endswith("╮") and rows[-1].endswith("╯")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 2), (3, 3), (5, 4), (9, 3), (250, 70)])
def test_every_size_is_filled_exactly(width: int, height: int) -> None:
    picture(Series("a", range(50), [math.sin(k) for k in range(50)], best=(3.0, 0.1)), width=width, height=height, cursor=7.0)


def test_without_colours_lines_differ_by_their_signs() -> None:
    plain = Inks(PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, lambda number, faint: PLAIN, signs="plain")
    text = "\n".join(picture(*(Series(f"s{k}", range(9), [k] * 9) for k in range(3)), inks=plain, width=60))
    assert text.count("x") > 20 and text.count("•") > 20 and dots(text.split("\n"))
    ascii_only = Inks(PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, PLAIN, lambda number, faint: PLAIN, signs="ascii")
    rows = picture(*(Series(f"s{k}", range(9), [k] * 9) for k in range(3)), inks=ascii_only, width=60)
    assert all(row[1:-1].isascii() for row in rows[1:-1])


HOSTILE = """
from hypothesis import given, settings, strategies as st
from rich.style import Style
from fedtui.tui.widgets.canvas import Canvas
from fedtui.tui.widgets.picture import Inks, Look, Series, paint

P = Style()
INKS = Inks(P, P, P, P, P, P, lambda number, faint: P)
canvas = Canvas()
numbers = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1e300, -1e300, 1.7e308, -1.7e308, 1e-300, 1e16, 1e16 + 2]))
points = st.lists(st.tuples(numbers, numbers), max_size=12)
limits = st.one_of(st.none(), st.tuples(st.floats(-1e9, 1e9), st.floats(1e-9, 1e9)).map(lambda pair: (pair[0], pair[0] + pair[1])))

@settings(max_examples=250, deadline=None, derandomize=True)
@given(st.lists(points, max_size=3), st.booleans(), st.sampled_from(["round", "clock", "elapsed"]), limits, st.one_of(st.none(), st.floats()),
       st.tuples(st.floats(), st.floats()), st.integers(1, 60), st.integers(1, 12))
def check(lines, log_y, kind, view, cursor, best, width, height):
    if view and not view[1] > view[0]:
        view = None
    series = [Series("s", [x for x, _ in line], [y for _, y in line], best=best) for line in lines]
    rows = paint("t", series, Look(log_y, kind, view, cursor), INKS, canvas, width, height).rows
    assert len(rows) == height and all(row.cell_length == len(row.text) == width for row in rows)

check()
print("survived")
"""


def test_no_values_whatever_take_the_process_down() -> None:
    """In a process of its own: what this guards against is not an exception but the end of the interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HYPOTHESIS_STORAGE_DIRECTORY": "/dev/null"}
    done = subprocess.run([sys.executable, "-c", HOSTILE], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "survived\n", f"exit code {done.returncode}\n{done.stderr[-3000:]}"


def test_long_series_are_thinned_without_losing_a_spike() -> None:
    values = [0.0] * 100_000
    values[54_321] = 1.0
    rows = picture(Series("a", range(100_000), values), width=60)
    assert any(y == 1 for y, _ in dots(rows))


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        (scale.value_ticks(0.0, 1.0, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (scale.value_ticks(0.913, 0.921, 4), ["0.914", "0.916", "0.918", "0.920"]),
        (scale.value_ticks(0.0, 2_000_000.0, 2), ["0", "1e6", "2e6"]),
        (scale.round_ticks(1.0, 20.0, 4), ["1", "5", "10", "15", "20"]),
        (scale.round_ticks(1.0, 3.0, 9), ["1", "2", "3"]),
        (scale.log_ticks(-3.0, 0.0, 5), ["0.001", "0.01", "0.1", "1"]),
        (scale.elapsed_ticks(0.0, 150.0, 3), ["0s", "1:00", "2:00"]),
        (scale.elapsed_ticks(0.0, 7300.0, 3), ["0s", "1:00:00", "2:00:00"]),
    ],
)  # fmt: skip
def test_ticks_are_round_and_spelt_short(ticks: list[scale.Tick], expected: list[str]) -> None:
    assert [text for _, text in ticks] == expected


def test_clock_ticks_are_whole_minutes_of_the_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert [text for _, text in scale.clock_ticks(1_700_000_000.0, 1_700_000_300.0, 5)] == ["03:44", "03:45", "03:46", "03:47", "03:48"]
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Shell(App[None]):
    picked: float | None = None

    def on_chart_picked(self, event: Chart.Picked) -> None:
        self.picked = event.x

    def compose(self) -> ComposeResult:
        yield Chart("loss", id="chart")


@pytest.mark.anyio
async def test_the_widget_draws_and_picks_by_mouse() -> None:
    app = Shell()
    async with app.run_test(size=(60, 12)) as pilot:
        chart = app.query_one(Chart)
        chart.show([Series("eval", [1, 2, 3], [1.0, 2.0, 3.0])])
        await app.workers.wait_for_complete()
        await pilot.pause()
        assert "eval 3" in chart.render_line(0).text
        await pilot.click(Chart, offset=(58, 5))
        assert app.picked == pytest.approx(3.0, abs=0.1)
        await pilot.resize_terminal(30, 8)
        await pilot.pause()
        assert chart.render_line(0).cell_length == 30 and chart.render_line(7).text.endswith("╯")


@pytest.mark.anyio
async def test_only_what_has_changed_is_drawn_again() -> None:
    app = Shell()
    async with app.run_test(size=(60, 20)) as pilot:
        chart = app.query_one(Chart)
        chart.show([Series("eval", [1, 2, 3], [1.0, 2.0, 3.0])])
        await app.workers.wait_for_complete()
        await pilot.pause()
        drawn: list[Region] = []
        refresh = chart.refresh
        chart.refresh = lambda *regions, **options: drawn.extend(regions) or refresh(*regions, **options)  # type: ignore[method-assign,func-returns-value]
        chart.show([Series("eval", [1, 2, 3], [1.0, 2.0, 3.0])])
        assert drawn == []
        chart.show([Series("fits", [1, 2, 3], [1.0, 2.0, 3.0])])
        assert [(region.y, region.height) for region in drawn] == [(0, 1)] and drawn[0].width < 10
        await pilot.pause()
        assert "fits" in "".join(strip.text for strip in app.screen._compositor.render_strips())
