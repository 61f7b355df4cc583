"""The interface on a real terminal: a run on real images started, steered, left and finished by keys; and hostile texts."""
from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import stat
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.seen import SIZE, Seen
from tests.e2e.test_fedtui_run import Site, site
from tests.fedtui.daemon.conftest import REPOSITORY, House, house, new_house

__all__ = ["house", "new_house", "site"]

Opener = Callable[..., Seen]
UP, DOWN, LEFT_OUT = "\x1b[A", "\x1b[B", "\x7f"


@pytest.fixture
def opened() -> Iterator[Opener]:
    """`opened(folder)` opens the interface there."""
    all_of_them: list[Seen] = []

    def open_it(folder: Path, **options: Any) -> Seen:
        all_of_them.append(Seen(folder, **options))
        return all_of_them[-1]

    yield open_it
    for one in all_of_them:
        one.close()


# A run on real images


def shown_round(seen: Seen) -> int:
    """The round in the header of the run."""
    return seen.number(r"round (\d+)/\d+ ")


def last_row(site: Site, table: str) -> dict[str, str]:
    path = site.root / "results" / "metrics" / f"{table}.csv"
    return list(csv.DictReader(path.open(newline="")))[-1] if path.exists() and path.read_text().count("\n") > 1 else {}


def shows_the_last_round(seen: Seen, site: Site) -> bool:
    """Whether the charts stand at the last row of the file: loss and accuracy of the evaluation."""
    row = last_row(site, "eval_metrics")
    figures = dict(re.findall(r"(loss|accuracy) [^│╮]*?eval\w* ([\d.]+)", seen.text))
    return bool(row) and {name: float(figures.get(name, "nan")) for name in ("loss", "accuracy")} == {
        name: float(f"{float(row[name]):.4g}") for name in ("loss", "accuracy")
    }


def curve(seen: Seen) -> int:
    """How many cells hold a piece of a curve."""
    return sum("\u2800" < char <= "\u28ff" for char in seen.text)


def select(seen: Seen, name: str) -> None:
    """Put the cursor on a process in the table."""
    seen.until(lambda: seen.row(name), f"the row of {name}")
    names = re.findall(r"^│ [▸ ] ?(\S+) +[○◔◉●◌✓✗↻‖] ", seen.text, re.MULTILINE)
    seen.type("g" + names.index(name) * "j")
    seen.shows(f"▸ {name} ")


def has_gone_on(site: Site, stood_at: int) -> bool:
    return site.newest()["rounds_done"] > stood_at


def shows_more_than(seen: Seen, stood_at: int) -> bool:
    return shown_round(seen) > stood_at


def test_a_run_by_keys(site: Site, opened: Opener, until: Callable[..., None]) -> None:
    fedtui = site.fedtui
    for name, folder in (("north", "site_1"), ("south", "site_2")):
        assert fedtui("client", "add", name, "--data-dir", f"sites/{folder}").code == 0
    assert fedtui("config", "set", "image-size=32", "fraction-fit=1", "fraction-evaluate=1", "num-server-rounds=3000").code == 0

    seen = opened(site.root)
    seen.shows("No run yet", "0 of 3 run", "no round yet")

    seen.type("u")  # everything up, and a round arrives in the charts
    seen.shows("3 of 3 run", "Log of server")
    seen.until(lambda: shown_round(seen) >= 3, "round 3", 120)
    seen.until(lambda: shows_the_last_round(seen, site), "the last round in the charts")
    assert curve(seen) > 0
    seen.until(lambda: shows_the_last_round(seen, site) and shown_round(seen) >= 6, "more rounds in the charts")

    select(seen, "north")  # stop one client, kill the other
    seen.shows("Log of north")
    seen.type("x")
    seen.until(lambda: "stopped" in seen.row("north"), "the end of north")
    select(seen, "south")
    pid = site.ps()["south"]["pid"]
    seen.type("X")
    seen.shows("Kill south?", "SIGKILL")
    seen.type("\r")  # the answer at hand is no
    seen.until(lambda: "Kill south?" not in seen.text, "the end of the question")
    assert site.ps()["south"]["pid"] == pid
    seen.type("Xy")
    seen.until(lambda: not os.path.exists(f"/proc/{pid}"), "the kill")
    until(lambda: site.ps()["south"]["pid"] != pid, 10, "the daemon's notice of the kill")
    seen.until(lambda: not re.search("running|ready|starting", seen.row("south")), "the end of south")
    seen.shows("waiting for clients")
    stood_at = shown_round(seen)

    seen.type("s")  # and both again
    select(seen, "north")
    seen.type("s")
    seen.until(lambda: "running" in seen.row("north") and "running" in seen.row("south"), "both clients", 120)
    seen.until(lambda: shown_round(seen) > stood_at + 1, "the run going on", 120)

    seen.type("6/num-server\r")  # edit a value, and see it in the file
    seen.shows("Run configuration / num-server", "▸    num-server-rounds")
    seen.type("e" + 4 * LEFT_OUT + "0")
    seen.shows("= 0 is not allowed: it takes an integer from 1 to 100000")  # what is wrong with it, as it is typed
    seen.type(LEFT_OUT + "2\r")
    seen.shows("1 not saved")
    seen.type("w")
    seen.shows("- num-server-rounds = 3000", "+ num-server-rounds = 2")
    assert "num-server-rounds = 3000" in (site.root / "pyproject.toml").read_text()
    seen.type("\r")
    seen.shows("saved num-server-rounds")
    file = (site.root / "pyproject.toml").read_text()
    assert tomllib.loads(file)["tool"]["flwr"]["app"]["config"]["num-server-rounds"] == 2
    assert "# Every key with its default" in file  # comments stay

    seen.type("4[")  # search a log: that of the server, whose neighbour is selected
    seen.shows("■ server")
    seen.type("/round 2/3000\r")
    seen.shows("/round 2/3000 1 of 1")
    assert "round 2/3000  loss" in seen.text

    seen.type("q")  # leave: the run goes on, and what was looked at is found again
    seen.shows("Quit?", "north", "south")
    seen.type("\r")
    assert seen.end() == 0
    assert seen.terminal_is_sane
    assert set(site.ps()) == {"server", "north", "south"} and len(site.alive()) == 3
    seen = opened(site.root)
    seen.shows("■ server", "/round 2/3000 1", "round 2/3000  loss")

    seen.type("1")  # the connection drops, then the interface is killed: the run goes on
    seen.until(lambda: shown_round(seen) > stood_at, "the run")
    for number in (signal.SIGHUP, signal.SIGKILL):
        stood_at = site.newest()["rounds_done"]
        seen.signal(number)
        assert seen.process.wait(20) in (128 + number, -number)
        until(partial(has_gone_on, site, stood_at), 60, "the next round without the interface")
        seen = opened(site.root)
        seen.until(partial(shows_more_than, seen, stood_at), "the run again")

    select(seen, "server")  # the next run has the number of rounds that was set, and ends by itself
    seen.type("x")
    seen.until(lambda: "stopped" in seen.row("server") and "■" not in seen.row("server"), "the server's end")
    seen.type("s")
    seen.until(lambda: shown_round(seen) >= 1 and "/2 " in seen.text, "the short run", 120)
    seen.shows("✓ finished", "round 2/2", seconds=120)
    seen.until(lambda: shows_the_last_round(seen, site), "its last round in the charts")
    assert [(run["outcome"], run["rounds"]) for run in fedtui("runs", "--json").json] == [("finished", 2), ("stopped", 3000)]

    seen.type("7v")  # its model on a folder of images
    seen.shows("Evaluate", "choose a folder")
    seen.type("sites/site_1\r")
    seen.shows("balanced accuracy", "true \\ predicted", "✓ done", seconds=120)
    seen.type("\x1b")
    seen.until(lambda: "true" not in seen.text, "the list of runs")

    seen.type("q")
    seen.shows("leave them running")
    seen.type("D")  # stop all
    assert seen.end() == 0
    assert seen.terminal_is_sane
    assert site.alive() == set()


# What a terminal does


def test_keys_that_come_all_at_once_are_taken_one_after_the_other(house: House, opened: Opener) -> None:
    house.post("/v1/up")
    before = house.reach("running", "server", "C1", "C2")
    seen = opened(house.root)
    seen.shows("3 of 3 run", "▸ server")
    seen.type("4/restart Dy\r")  # as a slow connection delivers them; one by one `r`, `s` and `D` would do something else
    seen.shows("/restart Dy no match")
    assert {name: row["pid"] for name, row in house.ps().items()} == {name: row["pid"] for name, row in before.items()}


def looks_like(seen: Seen, fresh: Seen) -> bool:
    fresh.take(0.1)
    return seen.frames == fresh.frames


def test_a_storm_of_sizes_ends_in_a_right_picture(house: House, opened: Opener) -> None:
    house.post("/v1/up")
    house.reach("running", "server", "C1", "C2")
    seen = opened(house.root)
    seen.shows("3 of 3 run", "round 3 of 10")
    assert len(seen.frames[1]) == SIZE[0]  # whatever COLUMNS says, which Textual would believe
    chance = random.Random(5)
    for _ in range(150):
        seen.resize((chance.randint(1, 250), chance.randint(1, 70)))
        seen.take(chance.choice((0, 0, 0.01)))
    for size in ((250, 70), (80, 24), (100, 33)):
        seen.resize(size)
        fresh = opened(house.root, size=size)
        fresh.shows("3 of 3 run", "round 3 of 10")
        seen.until(partial(looks_like, seen, fresh), f"the picture of a fresh one at {size}", 20)
        assert "q quit" in seen.lines[-1] and "1 Overview" in seen.lines[0]
        fresh.close()
    seen.signal(signal.SIGTERM)
    assert seen.end() == 128 + signal.SIGTERM
    assert seen.terminal_is_sane


# Texts from outside that want to be more

HOSTILE = (
    "\x1b]52;c;RVZJTA==\x07", "\x1b]0;EVIL\x07", "\x1b]2;EVIL\x1b\\", "\x1b]8;;http://evil.example\x1b\\EVIL\x1b]8;;\x1b\\", "\x1bP+q544e\x1b\\",
    "\x1b_EVIL\x1b\\", "\x1b[2J", "\x1b[?1049l", "\x1b[3;33H", "\x1b[31;5;9m", "\x1b[6n", "\x1b[c", "\x1bc", "\x1b(0", "\x9d0;EVIL\x9c", "\x9b2J", "\x90q\x9c",
    "\x07", "\x08\x08\x08", "\x0e", "\x00", "\u202eEVIL\u202c", "\u2066EVIL\u2069", "\u200b", "\ufeff", "\x1b", "[/]", "[bold]", "[@click=app.leave]x[/]",
)  # fmt: skip
ENCODED = "".join(f"<{text}>" for text in HOSTILE)
MARKUP = ("[/]", "[bold]", "[@click=app.leave]x[/]")  # of Textual: shown as it is

OURS = re.compile(
    r"\x1b\[[0-9;]*m"  # colours
    r"|\x1b\[\d+;\d+H"  # a place on the screen
    r"|\x1b\[\?(?:25|7|1000|1003|1004|1006|1015|1016|1049|2004|2026|2048)[hl]|\x1b\[\?20(?:26|48)\$p"  # modes of the terminal
    r"|\x1b\[>\d+u|\x1b\[<u"  # its keyboard
    r"|\x1b\]22;[a-z-]*\x07"  # its pointer
)
FORBIDDEN = re.compile("[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufffe\uffff]")

BABBLER = """#!{python}
import os, sys, time
sys.path.insert(0, {repository!r})
from poweranger.notify import notify
text = {text!r}
notify(READY=1, STATUS=text)
for number in range(40):
    print(f"2026-01-31 14:00:00 ERROR {{number}} {{text}}", flush=True)
os.write(1, b"\\x9b2J\\xff\\xfe raw \\x1b]0;EVIL\\x07\\n")
while {lives}:
    time.sleep(3600)
sys.exit(text)
"""


def hostile_run(root: Path, name: str, outcome: str) -> None:
    """A run whose every name is hostile."""
    run = root / "results" / "runs" / name
    (run / "metrics").mkdir(parents=True)
    (run / "models").mkdir()
    quoted = json.dumps(ENCODED)
    toml = quoted.replace("\\ud", "?")
    run_name = toml if outcome == "failed" else json.dumps(name)
    (run / "run.toml").write_text(
        f"run = {run_name}\noutcome = \"{outcome}\"\nreason = {toml}\nrounds = 3\nclients = [{toml}, \"C1\"]\nsynthetic = [{toml}]\nclasses = [{toml}]\n"
        f"start = 2026-01-31T14:00:00Z\n[config]\n{toml} = {toml}\nnum-server-rounds = 3\n[sites.{toml}]\ntrain = 3\n"
    )
    for link in ("metrics", "models"):
        (root / "results" / link).unlink(missing_ok=True)
        (root / "results" / link).symlink_to(run / link)
    columns = ["loss", "accuracy", ENCODED, f"sensitivity_{ENCODED}"]

    def table(file: str, header: list[str], rows: list[list[object]]) -> None:
        with (run / "metrics" / file).open("w", newline="") as opened:
            csv.writer(opened).writerows([header, *rows])

    for file in ("fit_metrics.csv", "eval_metrics.csv"):
        table(file, ["round", *columns], [[number, 0.5, 0.5, 0.25, 0.125] for number in (1, 2, 3)])
    for file in ("fit_client_metrics.csv", "eval_client_metrics.csv"):
        table(file, ["round", "client_id", "num_examples", *columns], [[number, who, 3, 0.5, 0.5, 0.25, 0.125] for number in (1, 2, 3) for who in (ENCODED, "C1")])
    table("participation.csv", ["round", "phase", "client_id", "outcome", "seconds", "reason"], [[number, "fit", who, "failed", 1.0, ENCODED] for number in (1, 2, 3) for who in (ENCODED, "C1")])
    progress = {"phase": "fit", "round": 2, "rounds": 3, "sampled": [ENCODED, "C1"], "replied": [ENCODED], "connected": [ENCODED], "refused": {ENCODED: ENCODED}, "reason": ENCODED}
    (run / "progress.json").write_text(json.dumps(progress))


def program(path: Path, lives: bool) -> str:
    path.write_text(BABBLER.format(python=sys.executable, repository=str(REPOSITORY), text=ENCODED.replace("\x00", ""), lives=lives))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_hostile_texts_reach_no_terminal(new_house: Callable[..., House], tmp_path: Path, opened: Opener) -> None:
    house = new_house("client-host = false\n[tool.fedtui.clients.C1]\n[tool.fedtui.clients.C2]\n", name="[bold]project")
    hostile_run(house.root, "20260131-140000-old", "failed")
    hostile_run(house.root, "20260131-150000-now", "running")
    key = json.dumps(ENCODED).replace("\\ud", "?")
    with (house.root / "pyproject.toml").open("a") as file:
        file.write(f"\n[tool.flwr.app.config]\n{key} = {key}\nclasses = {key}\n")
    house.cast(C1=program(tmp_path / "lives", True), C2=program(tmp_path / "dies", False))
    house.open()
    house.post("/v1/up")
    house.reach("ready", "C1")
    house.until(lambda: house.ps()["C2"]["state"] in ("failed", "backoff"), 20, "the failure of C2")

    seen = opened(house.root)
    seen.shows("3 run", "[bold]project")
    select(seen, "C1")
    seen.shows("ERROR 39")
    for place, title in (("2", "2 Metrics"), ("3", "3 Rounds"), ("4", "4 Logs"), ("5", "5 Memory"), ("6", "Run configuration"), ("7", "7 Runs")):
        seen.type(place)
        seen.shows(title, seconds=30)
        seen.type("\t" + DOWN + UP + "G" + "/[/]\r")
        seen.quiet()
        seen.type("?")
        seen.quiet()
        seen.type("\x1b")
        seen.quiet()
    seen.type("4]")  # the log of the one that failed, with its card
    seen.quiet()
    seen.type("m")
    seen.quiet()
    seen.type("\x1b")
    seen.quiet()
    seen.type("1q")
    seen.shows("Quit?")
    seen.type("l")
    assert seen.end() == 0

    text = seen.bytes.decode()  # valid UTF-8 altogether
    assert "EVIL" in text and all(markup in text for markup in MARKUP)  # it was there to be seen
    left = OURS.sub("", text)
    assert (found := FORBIDDEN.search(left)) is None, left[max(found.start() - 60, 0) : found.end() + 60].encode("unicode_escape")
    made = {sequence for sequence in HOSTILE if "\x1b" in sequence and len(sequence) > 1}
    assert not [sequence for sequence in made - {"\x1b[?1049l", "\x1b[3;33H"} if sequence in text]
    assert text.count("\x1b[?1049l") == 1  # at the end, by Textual
    assert "EVIL" not in (seen.screen.title, seen.screen.icon_name) and "RVZJTA" not in text


def test_a_hostile_roster_is_told_in_words(house: House, opened: Opener) -> None:
    name = json.dumps("x\x1b]0;EVIL\x07\u202e")
    with (house.root / "pyproject.toml").open("a") as file:
        file.write(f"[tool.fedtui.clients.{name}]\n")
    seen = opened(house.root)
    seen.type("6")
    seen.shows("Run configuration")
    seen.quiet()
    seen.type("1q")
    assert seen.end() in (0, 2)
    assert FORBIDDEN.search(OURS.sub("", seen.bytes.decode())) is None
