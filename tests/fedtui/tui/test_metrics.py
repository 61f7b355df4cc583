"""Place 2: charts of real tables, their keys, and the clients' figures."""
from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest

from fedtui.tui import figures
from fedtui.tui.widgets.chart import Chart
from fedtui.tui.widgets.chart_grid import ChartGrid
from fedtui.tui.widgets.client_table import distance_bar
from fedtui.tui.widgets.palette import Colours
from tests.fedtui.tui.conftest import Screen
from tests.fedtui.tui.runs_for_tests import CLIENTS, FilesOnly, Hospital


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Hospital(tmp_path / "project")


def chart(screen: Screen, title: str) -> Chart:
    return next(chart for chart in screen.app.pane.query(Chart) if chart.display and chart.title == title)


async def drawn(screen: Screen) -> None:
    """Wait until there are charts, and plotext for them."""
    await screen.until(lambda: [chart for chart in screen.app.pane.query(Chart) if chart.display and chart.render_line(0).text.strip()], "charts")


def border(screen: Screen, title: str) -> str:
    """The upper border of a chart: its title and figures."""
    return chart(screen, title).render_line(0).text


def axis(screen: Screen, title: str) -> str:
    """The lower border of a chart: its axis."""
    shown = chart(screen, title)
    return shown.render_line(shown.size.height - 1).text


class TestCharts:
    def test_without_a_run_the_key_that_starts_one_is_named(self, hospital: Hospital) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("No run yet", "u starts the server and all clients")

        hospital.open("metrics", script)

    def test_a_run_without_a_round_says_where_to_look(self, hospital: Hospital) -> None:
        hospital.run("first")

        async def script(screen: Screen) -> None:
            await screen.shows("has no complete round yet", "1 shows how far it is")

        hospital.open("metrics", script)

    def test_a_round_arrives_in_every_chart(self, hospital: Hospital) -> None:
        run = hospital.run("first", rounds=4)

        async def script(screen: Screen) -> None:
            await screen.shows(" loss ", " accuracy ", " balanced_accuracy ", "━ eval", "━ fit", "0.25")
            assert "0.225" in border(screen, "loss") and "0.875" in border(screen, "accuracy")
            hospital.round(run, 5)
            screen.app.look_again()
            await screen.until(lambda: "0.18" in border(screen, "loss") and "0.9" in border(screen, "accuracy"), "round 5")
            assert axis(screen, "loss").rstrip("╯┛").endswith("5")

        hospital.open("metrics", script)

    def test_a_new_run_takes_the_place_of_the_one_before(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=4)

        async def script(screen: Screen) -> None:
            await screen.shows("-first")
            time.sleep(1.0 - time.time() % 1.0)  # a run is named by the second it began in
            hospital.run("second", rounds=2)
            screen.app.look_again()
            await screen.shows("-second")
            await screen.until(lambda: "0.5" in border(screen, "loss"), "its figures")

        hospital.open("metrics", script)

    def test_clients_have_lines_of_their_own_when_asked_for(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=4)

        async def script(screen: Screen) -> None:
            await drawn(screen)
            assert len(chart(screen, "loss").series) == 2
            await screen.press("p")
            assert {series.name for series in chart(screen, "loss").series} == {"eval", "fit", "C1", "C2", "C3", "C4"}
            assert "━ C4" in screen.lines[1]
            await screen.press("f")  # evaluation only
            assert {series.name for series in chart(screen, "loss").series} == {"eval", "C1", "C2", "C3", "C4"}

        hospital.open("metrics", script)

    def test_the_best_round_is_marked(self, hospital: Hospital) -> None:
        run = hospital.run("first", rounds=4)
        hospital.round(run, 5, extra={"accuracy": 0.3})

        async def script(screen: Screen) -> None:
            await drawn(screen)
            await screen.press("j", "enter")
            assert "★ 0.875 @4" in border(screen, "accuracy")

        hospital.open("metrics", script)


class TestKeys:
    def test_the_cursor_reads_off_the_same_round_in_all_charts(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=8)

        async def script(screen: Screen) -> None:
            await drawn(screen)
            await screen.press("left", "left", "left")
            assert " 6 " in axis(screen, "loss") and " 6 " in axis(screen, "accuracy") and " 6 " in axis(screen, "balanced_accuracy")
            assert "0.1667" in border(screen, "loss") and "0.9167" in border(screen, "accuracy")
            await screen.press("right")
            assert "0.1429" in border(screen, "loss")
            await screen.press("escape")
            assert "0.125" in border(screen, "loss")

        hospital.open("metrics", script)

    def test_zoom_and_pan_move_along_the_axis_of_all_charts(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=20)

        async def script(screen: Screen) -> None:
            await drawn(screen)
            await screen.press("plus")
            low, high = chart(screen, "loss").x_range
            assert high - low == pytest.approx(9.5) and chart(screen, "accuracy").x_range == (low, high)
            await screen.press("full_stop")
            assert chart(screen, "loss").x_range[0] == pytest.approx(low + 9.5 / 4)
            await screen.press(*["full_stop"] * 9)
            assert chart(screen, "loss").x_range[1] == 20.0
            await screen.press("0")
            assert chart(screen, "loss").x_range == (1.0, 20.0)

        hospital.open("metrics", script)

    def test_a_logarithmic_axis_is_for_the_chosen_chart_alone(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=8)

        async def script(screen: Screen) -> None:
            await drawn(screen)
            await screen.press("y")
            assert " log " in border(screen, "loss") and " log " not in border(screen, "accuracy")

        hospital.open("metrics", script)

    def test_the_worst_site_stands_beside_the_mean_and_the_main_figures_come_first(self, hospital: Hospital) -> None:
        run = hospital.run("far")
        more = {"auc_malignant": 0.7, "ece": 0.1, "auc": 0.8, "accuracy_worst": 0.25, "accuracy_spread": 0.125, "auc_worst": 0.6}
        for number in (1, 2, 3):
            hospital.round(run, number, extra=more, outlier="C2" if number == 3 else "")

        async def script(screen: Screen) -> None:
            await drawn(screen)
            grid = screen.app.pane.query_one(ChartGrid)
            assert grid.names == ("loss", "accuracy", "balanced_accuracy", "auc", "ece", "auc_malignant", "accuracy_spread")
            lines = {series.name: series for series in chart(screen, "accuracy").series}
            assert lines["worst site"].faint and set(np.asarray(lines["worst site"].y)) == {0.25}
            assert [series.name for series in chart(screen, "balanced_accuracy").series] == ["eval"]
            await screen.press("j")
            await screen.shows("faint: worst site")
            await screen.press("p")  # with a line for each client there is no need for it
            await screen.until(lambda: {series.name for series in chart(screen, "accuracy").series} == {*CLIENTS, "eval", "fit"}, "the clients' lines")

        hospital.open("metrics", script)
        one = {figure.client: figure for figure in figures.client_figures(FilesOnly(hospital.project, {})._read_tables({run.name: True})[run.name], "accuracy")}
        assert [client for client, figure in one.items() if figure.worst] == ["C2"]

    def test_smoothing_keeps_the_raw_line_faint_behind(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=8)

        async def script(screen: Screen) -> None:
            await drawn(screen)
            await screen.press("right_square_bracket", "right_square_bracket")
            await screen.shows("smoothed 0.6")
            shown = [(series.name, series.faint) for series in chart(screen, "balanced_accuracy").series]
            assert shown == [("eval", True), ("eval", False)]
            await screen.press("left_square_bracket", "left_square_bracket", "left_square_bracket")
            await screen.hides("smoothed")

        hospital.open("metrics", script)

    def test_x_can_be_the_time_of_day(self, hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "UTC")
        time.tzset()
        hospital.run("first", rounds=8)

        async def script(screen: Screen) -> None:
            await drawn(screen)
            await screen.press("t")
            await screen.until(lambda: "22:16" in axis(screen, "loss"), "the time of a round")  # 1_700_000_000 + 180 s

        hospital.open("metrics", script)
        monkeypatch.undo()
        time.tzset()

    def test_the_filter_shows_metrics_by_name(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=3)

        async def script(screen: Screen) -> None:
            await drawn(screen)
            await screen.press("slash")
            await screen.type("accu")
            await screen.until(lambda: {chart.title for chart in screen.app.pane.query(Chart) if chart.display} == {"accuracy", "balanced_accuracy"}, "two charts")
            await screen.press("enter")
            await screen.shows("filter accu")
            await screen.press("j")  # the keys are the charts' again
            await screen.shows("Clients · balanced_accuracy")
            await screen.press("slash")
            await screen.type("xyz")
            await screen.shows("No metric has “xyz” in its name")
            await screen.press("escape")
            await drawn(screen)

        hospital.open("metrics", script)

    def test_the_grid_fits_the_window_and_can_be_changed(self, hospital: Hospital) -> None:
        run = hospital.run("first")
        hospital.round(run, 1, extra={f"sensitivity_{name}": 0.5 for name in "abcdefgh"})

        async def script(screen: Screen) -> None:
            await drawn(screen)
            visible = lambda: [chart for chart in screen.app.pane.query(Chart) if chart.display]  # noqa: E731
            assert len(visible()) == 11 and len({chart.region.width for chart in visible()}) <= 2
            await screen.press("enter")
            assert [chart.title for chart in visible()] == ["loss"]
            await screen.press("escape", "c", "v")
            assert len(visible()) == 1 and "page 1/11" in screen.lines[1]
            await screen.press("c", "G")
            assert [chart.title for chart in visible()] == ["sensitivity_h"] and "page 6/6" in screen.lines[1]
            await screen.pilot.resize_terminal(80, 24)
            await screen.shows("sensitivity_h")

        hospital.open("metrics", script, size=(160, 50))

    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50), (250, 70)])
    def test_nothing_is_cut_off_at_any_size(self, hospital: Hospital, size: tuple[int, int]) -> None:
        hospital.run("first", rounds=6)

        async def script(screen: Screen) -> None:
            await drawn(screen)

            def fits() -> bool:
                shown = [chart for chart in screen.app.pane.query(Chart) if chart.display]
                return bool(shown) and all(chart.region.height >= 6 and chart.region.right <= size[0] for chart in shown)

            await screen.until(fits, "the charts that are shown fit")
            await screen.press("tab")
            await screen.shows("FROM MEAN", "C4")
            await screen.press("tab")
            await drawn(screen)

        hospital.open("metrics", script, size=size)


class TestOverlay:
    def three(self, hospital: Hospital) -> None:
        for word, rate in (("first", 0.1), ("second", 0.2), ("third", 0.3)):
            time.sleep(1.0 - time.time() % 1.0)
            hospital.run(word, rounds=3, **{"learning-rate": rate})

    def test_runs_lie_over_one_another_and_keep_their_colours(self, hospital: Hospital) -> None:
        self.three(hospital)

        async def script(screen: Screen) -> None:
            await screen.shows("-third")
            await screen.press("o")
            await screen.shows("Runs to overlay")
            await screen.press("j", "space", "space", "enter")  # third is marked already
            await screen.shows("-first  learning-rate=0.1", "-second  learning-rate=0.2", "-third  learning-rate=0.3")
            assert "image-size" not in screen.text
            before = {series.name: series.colour for series in chart(screen, "balanced_accuracy").series}
            assert len(set(before.values())) == 3
            screen.app.store.picked = {run.name for run in screen.app.store.runs if not run.name.endswith("second")}
            screen.app.pane.show(screen.app.store, frozenset({"runs"}))
            after = {series.name: series.colour for series in chart(screen, "balanced_accuracy").series}
            assert after == {name: colour for name, colour in before.items() if name != "second"}

        hospital.open("metrics", script)

    def test_the_run_that_is_looked_at_is_shown(self, hospital: Hospital) -> None:
        self.three(hospital)

        async def script(screen: Screen) -> None:
            await screen.shows("-third")
            await screen.press("o", "space", "space", "enter")  # not the third, but the second
            await screen.shows("-second")
            await screen.hides("-third")

        hospital.open("metrics", script)


class TestClients:
    def test_an_outlying_site_is_seen_at_once(self, hospital: Hospital) -> None:
        run = hospital.run("first", rounds=2)
        hospital.round(run, 3, outlier="C3")

        async def script(screen: Screen) -> None:
            await screen.shows("Clients · loss", "outlying")
            rows = {name: next(line for line in screen.lines if f" {name} " in line) for name in CLIENTS}
            assert "outlying" in rows["C3"] and all("outlying" not in rows[name] for name in ("C1", "C2", "C4"))
            assert "2.353" in rows["C3"] and "@2" in rows["C3"] and "+1.5" in rows["C3"]
            await screen.press("j")
            await screen.shows("Clients · accuracy")

        hospital.open("metrics", script)

    def test_enter_brings_a_client_to_the_front(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=3)

        async def script(screen: Screen) -> None:
            await drawn(screen)
            await screen.press("tab", "j", "enter")
            await screen.shows("C2 in front")
            assert {series.name for series in chart(screen, "loss").series if not series.faint} == {"C2", "eval", "fit"}
            await screen.press("enter")
            await screen.hides("in front")

        hospital.open("metrics", script)

    def test_what_is_shown_is_found_again(self, hospital: Hospital) -> None:
        hospital.run("first", rounds=6)

        async def change(screen: Screen) -> None:
            await drawn(screen)
            await screen.press("p", "right_square_bracket", "j", "y", "slash")
            await screen.type("accu")
            await screen.press("enter")

        async def look(screen: Screen) -> None:
            await screen.shows("smoothed 0.3", "filter accu", "━ C4", "Clients · accuracy")
            await drawn(screen)
            assert " log " in border(screen, "accuracy")

        hospital.open("metrics", change)
        hospital.open("metrics", look)

    def test_hostile_names_and_values_do_no_harm(self, hospital: Hospital) -> None:
        run = hospital.run("first")
        clients = ("C1\x1b[31m\x1b]0;title\x07", "Klinik 東京 🏥", "n" * 300)
        hospital.round(run, 1, clients=clients)
        path = run.path / "metrics" / "eval_metrics.csv"
        path.write_text("round,loss,\x1b[2Jwiped,accuracy\n1,nan,1e999,0.5\n2,-inf,1e308,0.5\n,0.3,x,\n4,1e308,-1e308,0.5\n")

        async def script(screen: Screen) -> None:
            await screen.shows(" loss ", " wiped ", "Klinik 東京")
            await screen.press("p", "y", "left", "plus", "t", "t")
            assert "\x1b" not in screen.text and "title" not in screen.text

        hospital.open("metrics", script)


def test_smoothing_is_not_drawn_to_zero_at_the_begin() -> None:
    smoothed = figures.smooth(np.array([4.0, 4.0, math.nan, 4.0, 8.0]), 0.9)
    assert smoothed[:2].tolist() == pytest.approx([4.0, 4.0]) and math.isnan(smoothed[2])
    assert 4.0 < smoothed[4] < 8.0


def test_less_is_better_for_losses_only() -> None:
    assert [figures.less_is_better(name) for name in ("loss", "val_loss", "mean_error", "seconds", "accuracy", "sensitivity_lossy")][:5] == [True] * 4 + [False]


def test_colours_of_those_that_stay_do_not_change() -> None:
    colours = Colours()
    assert [colours.of(name) for name in ("a", "b", "a", "c")] == [0, 1, 0, 2]
    assert Colours({"b": 1}).of("x") == 0


def test_the_bar_of_distances_grows_from_its_middle() -> None:
    assert distance_bar(-1.0, 2.0, 9) == "  ━━│    " and distance_bar(2.0, 2.0, 9) == "    │━━━━" and distance_bar(0.0, 0.0, 9) == "    │    "


def test_times_of_rounds_are_those_of_their_snapshots(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("round_001.npz", "round_1000.npz", "round_x.npz", "other.npz"):
        (tmp_path / "models" / name).touch()
    os.utime(tmp_path / "models" / "round_001.npz", (5, 5))
    times = figures.round_times(tmp_path)
    assert set(times) == {1, 1000} and times[1] == 5.0 and figures.round_times(tmp_path / "absent") == {}
