"""The place for logs: big, growing, rotated and hostile files, followed, searched, filtered, merged and copied from."""
from __future__ import annotations

import asyncio
import datetime
import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from textual.app import App, ComposeResult

from fedtui.daemon.rotate import Rotation
from fedtui.log_index import Log
from fedtui.log_match import Matcher
from fedtui.log_rows import LogRows, MatchingRows, MergedRows, line_at
from fedtui.project import Project
from fedtui.tui.app import FedApp
from fedtui.tui.screens.logs import LogsPane
from fedtui.tui.widgets.log_tail import LogTail
from fedtui.tui.widgets.log_view import LogView
from poweranger.errors import UserError
from tests.fedtui.tui.conftest import House, Screen

SIZES = [(80, 24), (120, 40), (200, 50)]
Interface = Callable[..., FedApp]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose processes have not logged anything yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    root = tmp_path / "hospital"
    (root / "results" / "logs").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[tool.flwr.app]\npublisher = "test"\n')
    return Project.find(root)


def log(project: Project, name: str) -> Path:
    return project.logs / f"{name}.log"


def write(path: Path, *lines: str) -> None:
    with path.open("ab") as file:
        file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def stamped(second: int, text: str) -> str:
    return f"{datetime.datetime(2026, 1, 31, 14) + datetime.timedelta(seconds=second):%Y-%m-%d %H:%M:%S},000 {text}"


def news(**states: str) -> dict[str, Any]:
    """What the daemon would say of processes in these states."""
    processes = [
        {"name": name, "role": "client", "state": state, "pid": 1, "status": "", "uptime_s": 1.0, "restarts": 0, "exit_code": None, "cause": "",
         "cpu_percent": 0.0, "rss_mb": 1.0, "pss_mb": 1.0, "started": None, "reason": "", "log": "", "restart_policy": "no"}
        for name, state in states.items()
    ]
    return {"daemon_ok": True, "daemon_error": "", "tables": {}, "processes": processes, "failures": {}, "memory": {}, "progress": {}, "info": {}}


def view(screen: Screen) -> LogView:
    return screen.app.query_one(LogView)


def state(screen: Screen) -> str:
    """The line under the log."""
    return screen.lines[-2]


async def opened(screen: Screen) -> None:
    """Go to the log of C1."""
    screen.app.show_news(news(server="running", C1="running", C2="running"))
    await screen.press("4", "right_square_bracket")


# The log itself


def lines_of(index: Log) -> list[str]:
    while index.update():
        pass
    return [index.line(number) for number in range(index.first, index.end)]


def test_every_line_is_found_while_the_log_grows_and_is_rotated(tmp_path: Path) -> None:
    path, chance = tmp_path / "a.log", random.Random(4)
    written: list[str] = []
    index = Log(path)
    assert lines_of(index) == []
    dropped: set[int] = set()
    for step in range(24):
        new = [f"line {len(written) + n} " + "x" * chance.choice([0, 10, 1900]) for n in range(chance.choice([0, 1, 700, 3000]))]
        write(path, *new)
        written += new
        if chance.random() < 0.7:
            assert lines_of(index) == written[index.first :]
        if step % 4 == 3:
            rotation = Rotation(path, 3)
            rotation.copy()
            rotation.cut(lambda size: None)
            assert lines_of(index) == written[index.first :]
            dropped.add(index.first)
    assert len(dropped) == 4  # three are kept
    number, seen = index.end, 0
    while number > index.first:
        first, lines = index.before(number)
        assert [line.decode() for line in lines] == written[first:number]
        seen, number = seen + len(lines), first
    assert seen == index.end - index.first
    index.close()


def test_a_rotation_seen_between_copy_and_cut_shows_no_line_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    write(path, "one", "two")
    index = Log(path)
    lines_of(index)
    rotation = Rotation(path, 3)
    rotation.copy()
    found = []

    def replaced(size: int) -> None:
        os.link(path.with_name(".a.log.rotating"), path.with_name("a.log.1"))  # as it is just before the log is cut
        found.append(lines_of(index))
        path.with_name("a.log.1").unlink()

    rotation.cut(replaced)
    write(path, "three")
    assert found == [["one", "two"]]
    assert lines_of(index) == ["one", "two", "three"]


def test_a_log_whose_file_system_was_away_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    write(path, "one", "two")
    index = Log(path)
    lines_of(index)
    os.close(index._files[-1]._descriptor)
    index._files[-1]._descriptor = -1  # no call on it succeeds any more
    index._files[-1]._blocks.clear()
    assert index.line(0) == ""
    path.rename(tmp_path / "away")
    with pytest.raises(OSError):
        index.update()
    (tmp_path / "away").rename(path)
    assert lines_of(index) == ["one", "two"] and index.first == 2
    write(path, "three")
    assert lines_of(index) == ["one", "two", "three"]
    index.close()


@pytest.mark.parametrize("how", ["emptied", "replaced", "removed"])
def test_a_log_that_others_meddle_with_is_shown_as_it_is(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.log"
    write(path, *(f"old {number}" for number in range(9000)))
    index = Log(path)
    assert len(lines_of(index)) == 9000
    if how == "emptied":
        os.truncate(path, 0)
    else:
        path.unlink()
    assert lines_of(index) == []
    write(path, "new")
    assert lines_of(index) == ["new"]
    assert index.line(3) == ""


def test_an_unfinished_line_is_shown_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    index = Log(path)
    for data, lines in [(b"one\ntw", ["one", "tw"]), (b"o", ["one", "two"]), (b"\n", ["one", "two"]), (b"\n", ["one", "two", ""]), (b"x", ["one", "two", "", "x"])]:
        with path.open("ab") as file:
            file.write(data)
        assert lines_of(index) == lines


def test_a_line_of_many_megabytes_is_cut_and_the_next_one_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    write(path, "x" * 5_000_000, "next", "y" * 65_535, "", "last")
    found = lines_of(Log(path))
    assert [line[:4] for line in found] == ["xxxx", "next", "yyyy", "", "last"]
    assert max(map(len, found)) == 2000


def test_hostile_bytes_come_out_clean(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"\x1b]52;c;aGk=\x07red \x1b[31mX\x1b[0m\n\xff\xfe\x9b31mY\n" + os.urandom(200_000) + "\n\u202egpj.exe\n".encode())
    for line in lines_of(Log(path)):
        assert line.isprintable() and len(line) <= 2000


# Filters


def found(path: Path, include: str = "", exclude: str = "") -> list[str]:
    rows = MatchingRows(log_rows(path), matcher := Matcher(include, exclude))
    try:
        while rows.step():
            pass
        return [rows.text(row)[1] for row in range(rows.first, rows.end)]
    finally:
        matcher.close()


def log_rows(path: Path) -> LogRows:
    rows = LogRows(path)
    lines_of(rows)
    return rows


LINES = ["INFO a", "WARNING b", "\x1b[33mWARN\x1b[0mING c", "error D loss=0.5", "Größe\tx", "x" * 1990 + "needle beyond", "", "ERROR e"]


@pytest.mark.parametrize(("include", "exclude", "numbers"), [
    ("warning", "", [1, 2]),
    ("WARNING", "b", [2]),
    ("error", "", [3, 7]),
    ("ERROR", "", [7]),
    ("", "warning|error|größe", [0, 5, 6]),
    (r"loss=0\.\d$", "", [3]),
    ("^$", "", [6]),
    ("^[a-z]+ [^a]$", "ERROR", [1, 2]),
    ("GRÖSSE", "", []),
    ("größe +x", "", [4]),
    ("needle", "", [5]),
    ("beyond", "", []),  # it is not shown either
    (r"(?<=INFO )a", "", [0]),
    (r"a\n", "", []),
])  # fmt: skip
@pytest.mark.parametrize("plain", [False, True])
def test_a_filter_finds_what_is_shown(tmp_path: Path, include: str, exclude: str, numbers: list[int], plain: bool) -> None:
    path = tmp_path / "a.log"
    kept = [number for number, line in enumerate(LINES) if not plain or (line.isprintable() and line.isascii() and len(line) <= 2000)]
    write(path, *(LINES[number] for number in kept))
    shown = log_rows(path)
    assert found(path, include, exclude) == [shown.line(kept.index(number)) for number in numbers if number in kept]


def test_an_expression_that_would_take_for_ever_is_ended(tmp_path: Path) -> None:
    matcher = Matcher("(a+a+)+b")
    with pytest.raises(UserError, match="takes too long"):
        matcher.matches([b"a" * 60])
    assert matcher.broken
    matcher.close()
    with pytest.raises(UserError, match=r"'\(a' is no regular expression"):
        Matcher("(a")


def test_a_filter_goes_on_with_what_comes_and_keeps_the_numbers_of_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    write(path, *(f"line {number}" for number in range(30_000)))
    index = log_rows(path)
    rows = MatchingRows(index, matcher := Matcher("7$"))
    rows.step()  # the newest first
    newest = rows.end - 1
    assert rows.text(newest)[1] == "line 29997"
    write(path, "line 30007", "line 30008")
    index.update()
    while rows.step():
        pass
    assert rows.text(newest)[1] == "line 29997"
    assert [rows.text(row)[1] for row in (rows.first, rows.end - 1)] == ["line 7", "line 30007"]
    assert rows.row_of(15_000) == rows.row_of(15_007)
    matcher.close()


def test_several_logs_in_time_order_also_as_they_grow(tmp_path: Path) -> None:
    a, b = tmp_path / "a.log", tmp_path / "b.log"
    write(a, stamped(1, "a"), stamped(5, "a"), "  of a")
    write(b, stamped(3, "b"))
    logs = {"a": log_rows(a), "b": log_rows(b)}
    rows = MergedRows(logs, Matcher())

    def shown() -> list[tuple[str, str]]:
        for index in logs.values():
            index.update()
        while rows.step():
            pass
        return [(name, text[20:] if text[0] != " " else text) for name, text in map(rows.text, range(rows.first, rows.end))]

    assert shown() == [("a", "000 a"), ("b", "000 b"), ("a", "000 a"), ("a", "  of a")]
    write(b, stamped(7, "later"))
    write(a, stamped(6, "late"))
    assert shown()[4:] == [("a", "000 late"), ("b", "000 later")]


def test_a_moment_is_found_also_among_lines_without_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    write(path, "Traceback", *(text for second in range(5000) for text in (stamped(second, "x"), "  without")))
    index = log_rows(path)
    assert index.line(line_at(index, "2026-01-31 14:10:00")) == stamped(600, "x")
    assert line_at(index, "2027-01-01 00:00:00") == index.end


# On the screen


@pytest.mark.parametrize("size", SIZES)
def test_it_follows_until_somebody_scrolls(project: Project, interface: Interface, size: tuple[int, int]) -> None:
    write(log(project, "C1"), *(f"line {number}" for number in range(1000)))

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.shows("line 999", "following", "1,000 lines")
        write(log(project, "C1"), "line 1000")
        await screen.shows("line 1000")
        await screen.press("pageup")
        top = screen.lines[2]
        write(log(project, "C1"), *(f"line {number}" for number in range(1001, 1500)))
        await screen.shows("1,500 lines")
        assert screen.lines[2] == top and "following" not in state(screen)
        await screen.press("pagedown", "pagedown", "pagedown", "pagedown")
        assert "following" not in state(screen)
        await screen.press("g")
        assert screen.lines[2].strip() == "line 0"
        await screen.press("G")
        await screen.shows("line 1499", "following")
        await screen.press("up", "f")
        await screen.shows("following")

    interface(project, script, size, live=False)


def test_what_is_followed_stays_in_sight_however_fast_it_comes(project: Project, interface: Interface) -> None:
    async def script(screen: Screen) -> None:
        await opened(screen)
        number = 0
        for count in (1, 3, 30, 5, 1, 500, 2):
            number += count
            write(log(project, "C1"), *(f"line {n}" for n in range(number - count, number)))
            view(screen).reader._again.set()  # rather than in a second
            await screen.shows(f"line {number - 1} ")

    interface(project, script, (80, 24), live=False)


def test_a_rotation_moves_nothing_on_the_screen(project: Project, interface: Interface) -> None:
    path = log(project, "C1")
    write(path, *(f"line {number}" for number in range(1000)))

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.shows("line 999")
        await screen.press("pageup")
        before = screen.lines[2:-2]
        rotation = Rotation(path, 3)
        rotation.copy()
        rotation.cut(lambda size: None)
        write(path, "line 1000")
        await screen.shows("1,001 lines")
        assert screen.lines[2:-2] == before
        await screen.press("G")
        await screen.shows("line 999", "line 1000")

    interface(project, script, live=False)


def test_search_goes_from_match_to_match_and_counts_them(project: Project, interface: Interface) -> None:
    write(log(project, "C1"), *(f"line {number}{' Needle' if number % 100 == 50 else ''}" for number in range(1000)))

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.press("slash")
        await screen.type("needle")
        await screen.press("enter")
        await screen.shows("line 950 Needle", "10 of 10")
        await screen.press("N")
        await screen.shows("line 850 Needle", "9 of 10")
        await screen.press("n", "n")
        await screen.shows("line 50 Needle", "1 of 10", "from the other end")
        await screen.press("g", "slash")
        await screen.type("line 4.*Needle")
        await screen.press("enter")
        await screen.shows("line 450 Needle", "1 of 1")
        await screen.press("slash")
        await screen.type("nothing like it")
        await screen.press("enter")
        await screen.shows("no match")
        await screen.press("slash", "left_parenthesis", "enter")
        await screen.shows("is no regular expression")
        await screen.press("escape", "escape")
        await screen.hides("/nothing")

    interface(project, script, live=False)


def test_filters_include_and_exclude_and_keep_the_place(project: Project, interface: Interface) -> None:
    write(log(project, "C1"), *(f"line {number} {'odd' if number % 2 else 'even'}" for number in range(1000)))

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.press("ampersand", *"odd", "enter")
        await screen.shows("500 lines", "only odd", "line 999")
        assert "even" not in "\n".join(screen.lines[2:-2])
        await screen.press("exclamation_mark", *"99", "enter")
        await screen.shows("486 lines", "without 99", "line 989")
        write(log(project, "C1"), "line 1001 odd", "line 1002 even")
        await screen.shows("line 1001 odd")
        await screen.press("g", *["pagedown"] * 3)
        number = int(screen.lines[2].split()[1])
        await screen.press("escape")
        await screen.shows("1,002 lines", f"line {number + 1} even")
        assert int(screen.lines[2].split()[1]) == number

    interface(project, script, live=False)


def test_an_expression_that_never_ends_does_not_hold_up_the_keys(project: Project, interface: Interface) -> None:
    write(log(project, "C1"), *(f"line {number}" for number in range(100)), "a" * 60)

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.shows("aaaa")
        await screen.press("slash")
        await screen.press("left_parenthesis", "a", "plus", "a", "plus", "right_parenthesis", "plus", "b", "enter")
        await screen.press("g")
        assert screen.lines[2].strip() == "line 0"
        await screen.shows("takes too long")
        write(log(project, "C1"), "goes on")
        await screen.press("G")
        await screen.shows("goes on")

    interface(project, script, live=False)


def test_several_logs_are_merged_by_name(project: Project, interface: Interface) -> None:
    write(log(project, "C1"), *(stamped(2 * second, f"C1 says {second}") for second in range(50)))
    write(log(project, "C2"), *(stamped(2 * second + 1, f"C2 says {second}") for second in range(50)))

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.press("tab", "right", "space")
        await screen.shows("100 lines of 2 logs")
        texts = [line.split(" ")[0] for line in screen.lines[2:-2] if " says " in line]
        assert texts == ["C1", "C2"] * (len(texts) // 2) if texts[0] == "C1" else ["C2", "C1"] * (len(texts) // 2)
        write(log(project, "C1"), stamped(200, "C1 says more"))
        await screen.shows("C1 says more")
        await screen.press("enter")
        await screen.shows("50 lines")
        assert screen.app.store.selected == "C2"
        await screen.press("tab", "left_square_bracket")
        await screen.shows("51 lines")
        assert screen.app.store.selected == "C1"
        await screen.press("tab", "right", "space", "left", "left", "space", "right", "space")
        assert view(screen).reader.choice.paths.keys() == {"server", "C2"}
        assert screen.app.targets() == ["server"]  # not C1, which is in sight no more

    interface(project, script, live=False)


def test_a_log_that_cannot_be_read_for_a_while_is_said_and_followed_again(
    project: Project, interface: Interface, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: LogRows) -> bool:
        raise OSError(errno.ESTALE, "Stale file handle")  # as a network drive has it

    async def script(screen: Screen) -> None:
        write(log(project, "C1"), "before")
        await opened(screen)
        await screen.shows("before")
        with monkeypatch.context() as patch:
            patch.setattr(LogRows, "update", away)
            await screen.shows("C1 cannot be read: Stale file handle")
        write(log(project, "C1"), "after")
        await screen.shows("after")
        assert "cannot be read" not in screen.text

    interface(project, script, live=False)


def test_rows_may_go_while_they_are_painted(project: Project, interface: Interface, monkeypatch: pytest.MonkeyPatch) -> None:
    write(log(project, "C1"), *(f"line {number}" for number in range(50)))

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.shows("line 49")
        reader = view(screen).reader
        rows = reader.rows
        assert isinstance(rows, LogRows)
        text = rows.text

        def last(row: int) -> tuple[str, str]:
            reader.rows = None  # as the reader's thread does it when other lines are chosen
            return text(row)

        with monkeypatch.context() as patch:
            patch.setattr(rows, "text", last)
            view(screen).on_resize()
        await screen.shows("line 48", "line 49")

    interface(project, script, live=False)


def test_long_lines_are_wrapped_and_times_left_out(project: Project, interface: Interface) -> None:
    write(log(project, "C1"), *(stamped(second, f"begin {second} " + "日本" * 60 + f" end {second}") for second in range(100)))

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.shows("begin 99")
        assert "end 99" not in screen.text
        await screen.press("w")
        await screen.shows("end 99")
        await screen.press("up")
        assert "end 99" not in screen.text and "begin 99" in screen.text
        await screen.press("g")
        assert "begin 0" in screen.lines[2]
        await screen.press("w", "right", *["right"] * 20)
        assert "begin" not in screen.text
        await screen.press("t", *["left"] * 30)
        assert screen.lines[2].startswith("begin 0")

    interface(project, script, (80, 24), live=False)


def test_lines_are_selected_with_keys_and_copied(project: Project, interface: Interface) -> None:
    write(log(project, "C1"), *(f"line {number}" for number in range(1000)))

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.shows("line 999")
        await screen.press("y")
        await screen.shows("nothing is selected")
        await screen.press("v", "up", "up", "y")
        assert screen.app.clipboard == "line 997\nline 998\nline 999"
        await screen.press("g", "v", *["down"] * 60, "ctrl+c")
        assert screen.app.clipboard == "\n".join(f"line {number}" for number in range(61))
        await screen.press("v", "escape", "y")
        assert not view(screen).marking

    interface(project, script, live=False)


def test_a_selection_too_long_for_the_terminal_is_saved_to_a_file(project: Project, interface: Interface) -> None:
    write(log(project, "C1"), *(f"line {number} {'x' * 90}" for number in range(3000)))

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.shows("line 2999")
        await screen.press("v", "g", "y")
        await screen.shows("too long for the terminal's clipboard")

    interface(project, script, (200, 50), live=False)
    assert any(path.stat().st_size > 250_000 for path in project.state.rglob("*") if path.is_file())


def test_the_mouse_selects(project: Project, interface: Interface) -> None:
    write(log(project, "C1"), "alpha beta", "gamma delta")

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.shows("gamma delta")
        await screen.pilot.mouse_down(LogView, offset=(6, 0))
        await screen.pilot.hover(LogView, offset=(4, 1))
        await screen.pilot.mouse_up(LogView, offset=(4, 1))
        assert screen.app.screen.get_selected_text() == "beta\ngamma"

    interface(project, script, live=False)


def test_hostile_lines_reach_the_screen_as_plain_text(project: Project, interface: Interface) -> None:
    log(project, "C1").write_bytes(b"\x1b]0;title\x07[red]markup[/red] \x1b[2Jcleared\n\x9b31mC1 \xff\n" + "\u202eexe.gpj\n".encode() + os.urandom(5000))

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.shows("[red]markup[/red] cleared")
        for line in screen.lines:
            assert line.isprintable()

    interface(project, script, (200, 50), live=False)


@pytest.mark.parametrize("size", SIZES)
def test_an_empty_place_teaches(project: Project, interface: Interface, size: tuple[int, int]) -> None:
    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.shows("No log yet", "u all")
        write(log(project, "C1"), "here it is")
        await screen.shows("here it is")
        await screen.hides("No log yet")

    interface(project, script, size, live=False)


def test_it_is_found_again_as_it_was_left(project: Project, interface: Interface) -> None:
    for name in ("C1", "C2"):
        write(log(project, name), *(stamped(second, f"{name} {second}") for second in range(100)))

    async def leave(screen: Screen) -> None:
        await opened(screen)
        await screen.press("tab", "right", "space", "tab", "ampersand", *"C2", "enter", "t", "w")
        await screen.shows("only C2")
        await screen.press("pageup")
        screen.app.remember()

    async def come_back(screen: Screen) -> None:
        screen.app.show_news(news(server="running", C1="running", C2="running"))
        await screen.shows("100 lines of 2 logs", "only C2")
        assert "following" not in state(screen) and view(screen).wrap and not view(screen).times

    interface(project, leave, live=False)
    interface(project, come_back, live=False)


def test_another_place_can_lead_to_a_moment(project: Project, interface: Interface) -> None:
    write(log(project, "C2"), *(stamped(second, f"C2 {second}") for second in range(5000)))

    async def script(screen: Screen) -> None:
        await opened(screen)
        pane = screen.app.query_one(LogsPane)
        pane.open_at("C2", datetime.datetime(2026, 1, 31, 14, 50))
        await screen.until(lambda: screen.lines[2].strip() == stamped(3000, "C2 3000"), "that moment")

    interface(project, script, live=False)


def test_the_pager_shows_the_file(project: Project, interface: Interface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(log(project, "C1"), "line")
    asked: list[Path] = []
    monkeypatch.setattr("fedtui.tui.terminal.page", lambda app, path: asked.append(path))  # a test has no terminal to lend

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.press("o")
        await screen.press("left_square_bracket", "o")
        await screen.shows("server has no log yet")

    interface(project, script, live=False)
    assert asked == [log(project, "C1")]


def test_a_big_log_opens_at_its_end_in_little_memory(project: Project, interface: Interface) -> None:
    block = b"".join(b"2026-01-31 14:00:05,123 INFO step %06d of a long training, loss=0.31\n" % n for n in range(20_000))
    with log(project, "C1").open("wb") as file:
        for _ in range(50):
            file.write(block)
        file.write(b"the end\n")
    grown: list[int] = []

    async def script(screen: Screen) -> None:
        before = psutil.Process().memory_info().rss
        await opened(screen)
        await screen.shows("the end", "1,000,001 lines")
        await screen.press("g", *["pagedown"] * 10, "slash", *"the", "space", *"end", "enter")
        await screen.until(lambda: "1 of 1" in screen.text and "the end " in screen.text, "the only match", 60)
        grown.append(psutil.Process().memory_info().rss - before)

    interface(project, script, live=False)
    assert grown[0] < 30_000_000 < log(project, "C1").stat().st_size / 2


def test_no_process_is_left_of_a_search(project: Project, interface: Interface, until: Callable[..., None]) -> None:
    write(log(project, "C1"), "needle")
    processes: list[psutil.Process] = []

    async def script(screen: Screen) -> None:
        await opened(screen)
        await screen.press("slash", *"needle", "enter")
        await screen.shows("1 of 1")
        processes.extend(child for child in psutil.Process().children() if "fedtui.log_match" in child.cmdline())

    interface(project, script, live=False)
    assert processes
    until(lambda: not any(process.is_running() for process in processes), 10, "the end of the process that searched")


# Failures


def test_why_a_process_failed_stands_over_its_log(house: House, interface: Interface) -> None:
    house.cast(C1="misconfigured")

    async def script(screen: Screen) -> None:
        await screen.shows("0 of 3 run")
        await screen.press("4", "right_square_bracket", "s")
        await screen.shows("C1 failed", "exit code 2", "needs two or more different names")
        await screen.press("c")
        await screen.hides("C1 failed")
        await screen.press("c", "right_square_bracket")
        await screen.hides("C1 failed")
        await screen.press("left_square_bracket")
        await screen.shows("C1 failed")

    interface(house.project, script)


# The tail on the Overview


def test_the_tail_shows_the_last_lines_clean_and_follows(tmp_path: Path) -> None:
    path = tmp_path / "C1.log"

    class TailApp(App[None]):
        def compose(self) -> ComposeResult:
            yield LogTail()

    async def script() -> None:
        app = TailApp()
        async with app.run_test(size=(40, 5)) as pilot:
            tail = app.query_one(LogTail)

            async def shown() -> list[str]:
                tail.show(path)
                await pilot.pause()
                return [tail.render_line(y).text.rstrip() for y in range(5)]

            assert (await shown())[0].startswith("no log yet")
            write(path, *(f"line {number}" for number in range(20_000)), "\x1b]52;c;aGk=\x07" + "x" * 100)
            assert await shown() == ["line 19996", "line 19997", "line 19998", "line 19999", "x" * 40]
            write(path, "more")
            assert (await shown())[-1] == "more"
            path.write_text("begun anew\n")
            assert await shown() == ["begun anew", "", "", "", ""]

    asyncio.run(script())
