"""The overview, shown news by hand: what stands where, at every size."""
from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual import events

from fedtui.project import Project
from fedtui.tui.store import Looker, News, Store, clean_all
from fedtui.tui.widgets.process_table import age
from poweranger.errors import UserError
from poweranger.results import Run
from tests.fedtui.tui.conftest import Screen

Interface = Callable[..., object]
SIZES = [(80, 24), (120, 40), (200, 50), (250, 70)]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "hospital").mkdir()
    (tmp_path / "hospital" / "pyproject.toml").write_text('[tool.flwr.app]\npublisher = "test"\n')
    return Project.find(tmp_path / "hospital")


def process(name: str, state: str = "running", **others: Any) -> dict[str, Any]:
    return {
        "name": name, "role": "server" if name == "server" else "client", "state": state, "pid": 1, "status": "round 3 of 10, training", "uptime_s": 190.0,
        "restarts": 0, "exit_code": None, "cause": "", "cpu_percent": 12.3, "rss_mb": 300.0, "pss_mb": 250.4, "started": None, "reason": "",
        "log": "/nowhere/x.log", "restart_policy": "no", **others,
    }  # fmt: skip


def news(*processes: dict[str, Any], **others: Any) -> News:
    machine = {"total_mb": 16000.0, "available_mb": 9000.0, "limit_mb": None, "swap_total_mb": 0, "swap_used_mb": 0, "pressure": None}
    memory = {"machine": machine, "processes": [{"name": one["name"], "pss_mb": one["pss_mb"], "rss_mb": one["rss_mb"]} for one in processes]}
    found = {
        "daemon_ok": True, "daemon_error": "", "processes": list(processes), "memory": memory, "info": {"daemon_pid": 1, "notes": []},
        "progress": {"run": None}, "run": {}, "runs": [], "tables": {}, **others,
    }  # fmt: skip
    return clean_all(found) | {"tables": found["tables"]}


PROGRESS = {"run": "20260131-120000-demo", "outcome": "running", "phase": "fit", "round": 3, "rounds": 10, "connected": ["C1", "C2"], "sampled": ["C1", "C2"], "replied": ["C1"], "seconds_left": 130.0}


@pytest.mark.parametrize("size", SIZES)
class TestSizes:
    def test_an_empty_project_teaches_the_keys(self, project: Project, interface: Interface, size: tuple[int, int]) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(news(process("server", "stopped", pss_mb=None, rss_mb=None, cpu_percent=None, uptime_s=None, status="")))
            await screen.shows("No run yet. u starts the server", "then Demo starts a run on made-up images", "○ stopped", "no round yet", "q quit")
            assert max(map(len, screen.lines)) == size[0] and len(screen.lines) == size[1]

        interface(project, script, size, live=False)

    def test_a_run_is_told_in_full(self, project: Project, interface: Interface, size: tuple[int, int]) -> None:
        async def script(screen: Screen) -> None:
            run = {"synthetic": ["C1", "C2"], "clients": ["C1", "C2"]}
            screen.app.show_news(news(process("server"), process("C1"), process("C2"), progress=PROGRESS, run=run))
            await screen.shows(
                "20260131-120000-demo", "SYNTHETIC", "round 3/10", "training", "about 2 min left", "answered C1", "at work C2", "3 of 3 run",
                "● running", "3 min", "12 %", "250 MB", "round 3 of 10, training", "federation 751 MB", "of 15.6 GB",
            )  # fmt: skip

        interface(project, script, size, live=False)

    def test_a_failure_is_seen_with_its_cause(self, project: Project, interface: Interface, size: tuple[int, int]) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(news(process("server"), process("C1")))
            screen.app.show_news(news(process("server"), process("C1", "failed", cause="out of memory: killed by the kernel", pss_mb=None)))
            await screen.shows("✗ failed", "out of memory", "C1 has failed: out of memory: killed by the kernel", "l shows its log")

        interface(project, script, size, live=False)

    def test_many_long_and_foreign_names_stay_within_their_cells(self, project: Project, interface: Interface, size: tuple[int, int]) -> None:
        names = ["server", "x" * 64, *(f"Krankenhaus-Düsseldorf-{n:03}" for n in range(60)), "東京病院" * 6]

        async def script(screen: Screen) -> None:
            screen.app.show_news(news(*map(process, names), progress={**PROGRESS, "sampled": names[1:], "replied": names[1:40]}))
            await screen.shows("63 of 63 run", "Krankenhaus-Düsseldorf")
            from rich.cells import cell_len

            assert {cell_len(line) for line in screen.lines} == {size[0]}
            assert "q quit" in screen.lines[-1] and "used" in screen.text
            await screen.press("G")
            await screen.shows("東京")
            await screen.press("D")
            await screen.shows("Stop everything?", "and 56 more", "no (n)", "stop all (y)")

        interface(project, script, size, live=False)


class TestPanels:
    def test_a_run_whose_server_sees_sums_only_says_so(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            run = {"clients": ["C1", "C2", "C3"], "privacy": {"dp": "off", "secure_aggregation": True}}
            screen.app.show_news(news(process("server"), progress=PROGRESS, run=run))
            await screen.shows("SUMS ONLY", "round 3/10")
            screen.app.show_news(news(process("server"), progress=PROGRESS, run={**run, "privacy": {"dp": "off", "secure_aggregation": False}}))
            await screen.shows("round 3/10")
            assert "SUMS ONLY" not in screen.text

        interface(project, script, (80, 24), live=False)

    def test_a_small_window_has_one_panel_at_a_time_under_the_table(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(news(process("server")))
            await screen.shows("╭ loss")
            assert "Log of server" not in screen.text
            await screen.press("tab", "tab")
            await screen.shows("Log of server")
            assert "╭ loss" not in screen.text
            await screen.press("tab")
            assert "Log of server" in screen.text
            await screen.press("tab")
            await screen.shows("╭ loss")
            await screen.press("shift+tab", "shift+tab")
            await screen.shows("Log of server")

        interface(project, script, (80, 24), live=False)

    def test_growing_and_shrinking_never_garbles(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(news(process("server"), process("C1"), progress=PROGRESS))
            for size in [(250, 70), (80, 24), (120, 40), (60, 15), (200, 50), (80, 24)] * 2:
                await screen.pilot.resize_terminal(*size)
                await screen.pilot.pause()
            await screen.shows("round 3/10", "round 3 of 10, training", "q quit", "╭ loss")
            assert len(screen.lines) == 24 and {len(line) for line in screen.lines} == {80}

        interface(project, script, live=False)

    def test_the_log_follows_the_cursor(self, project: Project, interface: Interface, tmp_path: Path) -> None:
        for name in ("server", "C1"):
            (tmp_path / f"{name}.log").write_text(f"{name} was here\n\x1b]52;c;aGk=\x07\x1b[2J hostile\n")

        async def script(screen: Screen) -> None:
            screen.app.show_news(news(*(process(name, log=str(tmp_path / f"{name}.log")) for name in ("server", "C1"))))
            await screen.shows("Log of server", "server was here", "hostile")
            await screen.press("j")
            await screen.shows("Log of C1", "C1 was here")
            assert "\x1b" not in screen.text and "aGk" not in screen.text

        interface(project, script, live=False)

    def test_leaving_asks_also_about_what_starts_later_and_not_about_what_is_being_stopped(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(news(process("server", "stopping"), process("C1", "held"), process("C2", "stopped")))
            await screen.press("q")
            await screen.shows("Quit?", "C1 goes on without this interface")
            await screen.press("l")

        assert interface(project, script, live=False).goes_on == ["C1"]

    def test_the_filter_shows_what_matches_and_escape_ends_it(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(news(*map(process, ("server", "Aachen", "Bonn"))))
            await screen.press("slash")
            await screen.type("bo")
            await screen.press("enter")
            assert screen.row("Bonn") and not screen.row("Aachen") and not screen.row("server")
            assert screen.app.targets() == ["Bonn"]
            await screen.press("escape")
            assert screen.row("Aachen")

        interface(project, script, live=False)

    def test_keys_act_on_what_the_filter_leaves_in_sight(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(news(*map(process, ("server", *(f"C{number}" for number in range(60))))))
            await screen.press("slash")
            await screen.type("c")
            await screen.press("enter")
            assert not screen.row("server") and "▸ C0 " in screen.text
            assert screen.app.targets() == ["C0"]
            await screen.shows("Log of C0")
            await screen.press("slash")
            await screen.type("x")
            await screen.press("enter")
            assert screen.app.targets() == [] and "▸" not in screen.text
            await screen.press("escape")
            assert screen.app.targets() and "▸" in screen.text

        interface(project, script, live=False)

    def test_what_is_pasted_into_the_filter_reaches_the_terminal_clean(self, project: Project, interface: Interface) -> None:
        async def script(screen: Screen) -> None:
            screen.app.show_news(news(process("server")))
            await screen.press("slash")
            screen.app.post_message(events.Paste("ser\x1b]0;title\x07ver\u202e"))
            await screen.shows("filter: server")
            assert screen.row("server") and "\x1b" not in screen.text and "\u202e" not in screen.text

        interface(project, script, live=False)


def test_curves_and_answers_come_from_the_files_of_the_run(project: Project, interface: Interface) -> None:
    run = Run.create(project.results, "demo", {"num-server-rounds": 3})
    for number in (1, 2):
        rows = {
            "fit_metrics": [{"round": number, "loss": 2.0 / number, "accuracy": 0.4 * number}],
            "participation": [{"round": number, "phase": "fit", "client_id": "C1", "outcome": "ok", "seconds": 1.5, "reason": ""}],
        }
        run.commit_round(number, rows, None)
    run.update(sites={"C1": {"train": 480}}, clients=["C1"])
    looker = Looker(project)

    async def script(screen: Screen) -> None:
        def look() -> None:
            seen = looker.look(screen.app.store.wanted())
            found = news(process("server"), process("C1"), progress={"run": run.name, "outcome": "running", "phase": "fit", "round": 3, "rounds": 3})
            screen.app.show_news({**found, "run": {"sites": {"C1": {"train": 480}}, "clients": ["C1"]}, "tables": seen["tables"]})

        for _ in range(3):  # the first look is short, the second is asked for the tables
            look()
            await screen.pilot.pause()
        await screen.until(lambda: "480" in screen.row("C1") and " 2 " in screen.row("C1"), "examples and the round of the last answer")
        await screen.until(lambda: "no round yet" not in screen.text, "curves")
        assert "0.8" in next(line for line in screen.lines if "accuracy" in line)

    interface(project, script, live=False)


def test_memory_that_grows_tight_is_said(project: Project, interface: Interface) -> None:
    async def script(screen: Screen) -> None:
        tight = news(process("server"), process("C1", "held", waits_for="memory", reason="memory is short", pss_mb=None))
        tight["memory"]["machine"] |= {"available_mb": 800.0, "swap_used_mb": 2048.0}
        screen.app.show_news(tight)
        await screen.shows("nearly full", "swap 2.0 GB", "C1 held back for want of memory", "‖ held")

    interface(project, script, (160, 40), live=False)


def test_nothing_new_paints_nothing(project: Project, interface: Interface) -> None:
    """What an idle interface costs over SSH: the same news again must not repaint a cell."""

    async def script(screen: Screen) -> None:
        same = news(process("server"), process("C1"), progress=PROGRESS)
        for _ in range(2):
            screen.app.show_news({**same})
            await screen.pilot.pause()
        painted: list[object] = []
        for widget in screen.app.screen.walk_children():
            original = widget.refresh
            widget.refresh = lambda *regions, _widget=widget, _original=original, **options: (painted.append(_widget), _original(*regions, **options))[1]  # type: ignore[method-assign]
        screen.app.show_news({**same})
        await screen.pilot.pause()
        assert painted == []

    interface(project, script, live=False)


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (3.4, "3 s"), (59.0, "50 s"), (119.0, "110 s"), (121.0, "2 min"), (8000.0, "2 h"), (200000.0, "2 d")])
def test_ages_seldom_change(seconds: float | None, text: str) -> None:
    assert age(seconds) == text




class Told(Looker):
    """Sees the files; what the daemon says of the newest run is the test's, None when it does not answer."""

    newest: str | None = None

    def _daemon(self) -> Any:
        if self.newest is None:
            raise UserError("the daemon does not answer")
        return SimpleNamespace(processes=list, memory=dict, info=dict, progress=lambda: {"run": self.newest})


def test_what_is_known_of_a_run_is_of_that_run(project: Project) -> None:
    one, two = (Run.create(project.results, word, {"num-server-rounds": 3}) for word in ("one", "two"))
    (two.path / "run.toml").write_text("no TOML")
    looker, store = Told(project), Store(project)
    seen = []
    for looker.newest in (one.path.name, one.path.name, None, two.path.name):
        store.take(looker.look({}))
        seen.append((store.progress["run"], store.run.get("run")))
    name = one.path.name  # the first look is only at what the daemon says; without the daemon all stays as it was
    assert seen == [(name, None), (name, name), (name, name), (two.path.name, None)]


def test_a_run_that_has_been_removed_is_looked_at_no_more(project: Project) -> None:
    one, two = (Run.create(project.results, word, {"num-server-rounds": 3}) for word in ("one", "two"))
    looker, store = Told(project), Store(project, viewed=one.path.name, picked={one.path.name, two.path.name})
    for _ in range(2):
        store.take(looker.look({}))
    assert store.viewed == one.path.name and len(store.picked) == 2
    (project.results / "runs").rename(project.results / "away")  # such as a drive that is mounted again
    store.take(looker.look({}))
    (project.results / "away").rename(project.results / "runs")
    store.take(looker.look({}))
    assert store.viewed == one.path.name and len(store.picked) == 2
    shutil.rmtree(one.path)
    store.take(looker.look({}))
    assert store.viewed is None and store.picked == {two.path.name}
