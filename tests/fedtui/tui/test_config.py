"""Configuration: what a user sees and presses, and what then stands in pyproject.toml."""
from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fedtui.project import Project
from fedtui.tui import project_file
from fedtui.tui.app import FedApp
from fedtui.tui.draft import Draft
from fedtui.tui.project_file import ProjectFile
from fedtui.tui.store import Looker
from fedtui.tui.widgets.listing import Listing
from fedtui.tui.widgets.save_dialog import Change, SaveDialog
from poweranger.run_config import KEYS
from tests.fedtui.daemon.conftest import REPOSITORY
from tests.fedtui.tui.conftest import Screen
from tests.fedtui.tui.test_overview import news, process

Interface = Callable[..., FedApp]
PYPROJECT = """\
[tool.flwr.app]
publisher = "test"

[tool.flwr.app.config]
num-server-rounds = 3
fraction-fit = 0.3  # a third of the sites
augment = true

[tool.fedtui.clients.north]  # our own scanner
data-dir = "data/north"
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name, images in (("RBC", 3), ("WBC", 2)):
        folder = tmp_path / "hospital" / "data" / "north" / name
        folder.mkdir(parents=True)
        for number in range(images):
            (folder / f"{number}.png").touch()
    (tmp_path / "hospital" / "pyproject.toml").write_text(PYPROJECT)
    return Project.find(tmp_path / "hospital")


class FileOnly(Looker):
    """Sees the project's file, and the processes that the test names."""

    processes: tuple[dict[str, Any], ...] = ()
    others: dict[str, Any] = {}  # noqa: RUF012

    def look(self, wanted: object) -> Any:
        return news(*self.processes, **self.others) | {"file": project_file.read(self.project)}


@pytest.fixture
def at_config(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FedApp]:
    """`at_config(script)` opens the interface at Configuration with no process but those of the test."""
    import asyncio

    def open_it(script: Callable[[Screen], Any], size: tuple[int, int] = (120, 40), *, processes: tuple[dict[str, Any], ...] = (), **options: Any) -> FedApp:
        looker = FileOnly(project)
        looker.processes, looker.others = processes, options.pop("others", {})
        app = FedApp(project, look=looker.look, **options)

        async def run() -> None:
            async with app.run_test(size=size, notifications=True) as pilot:
                screen = Screen(app, pilot)
                await screen.until(lambda: app.pane is not None, "a place")
                await app.action_go("config")
                await screen.until(lambda: app.store.file is not None, "the first look")
                await screen.shows("num-server-rounds")
                await script(screen)
                app.remember()

        asyncio.run(run())
        return app

    return open_it


AtConfig = Callable[..., FedApp]


def line(screen: Screen, word: str) -> str:
    return next((text for text in screen.lines if word in text), "")


async def to(screen: Screen, key: str) -> None:
    """Put the cursor on a key."""
    screen.app.query_one("#settings", Listing).go(key)
    await screen.pilot.pause()
    assert re.search(rf"▸ .  {key} ", screen.text), screen.text


async def edit(screen: Screen, key: str, text: str) -> None:
    await to(screen, key)
    await screen.press("enter", "ctrl+u")
    await screen.type(text)


def config(project: Project) -> dict[str, Any]:
    return tomllib.loads(project.pyproject.read_text())["tool"]["flwr"]["app"]["config"]


def roster(project: Project) -> dict[str, Any]:
    return tomllib.loads(project.pyproject.read_text())["tool"]["fedtui"]["clients"]


class TestKeys:
    def test_every_key_is_there_with_all_about_it(self, at_config: AtConfig) -> None:
        async def script(screen: Screen) -> None:
            assert [row.key for row in screen.app.query_one("#settings").rows] == [key.name for key in KEYS]  # type: ignore[attr-defined]
            row = line(screen, "fraction-fit")
            assert [*row.replace("│", " ").split()][:9] == ["fraction-fit", "0.3", "0.3", "number", "0", "to", "1", "server", "Share"]
            await to(screen, "lr-schedule")
            await screen.shows("cosine, constant", "down to 2 % along a cosine", "read by the server, when it starts", "not in the file: the default counts")
            await to(screen, "threads")
            await screen.shows("each client, when it starts", "environment variable THREADS wins over the file")

        at_config(script, (200, 50))

    @pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
    def test_nothing_is_cut_off_at_any_size(self, at_config: AtConfig, size: tuple[int, int]) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("KEY", "VALUE", "DEFAULT", "Rounds of training", "Clients", "q quit")
            await screen.press("tab")
            await screen.shows("north", "data/north", "listens on 127.0.0.1:8081")
            assert max(map(len, screen.lines)) == size[0] and len(screen.lines) == size[1]

        at_config(script, size)

    def test_the_filter_looks_into_names_and_descriptions(self, at_config: AtConfig) -> None:
        async def script(screen: Screen) -> None:
            await screen.press("slash")
            await screen.type("logit")
            await screen.shows("prior-shift")
            assert "fraction-fit" not in screen.text
            await screen.type("zzz")
            await screen.shows("no key has this in its name or description")
            await screen.press("escape")
            await screen.shows("fraction-fit")

        at_config(script)


class TestEditing:
    def test_a_value_is_saved_after_its_difference_was_shown_and_the_rest_of_the_file_stays(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await edit(screen, "fraction-fit", "0.75")
            await screen.shows("enter takes 0.75 over")
            await screen.press("enter")
            await screen.shows("was 0.3; not saved", "1 not saved")
            assert "✎  fraction-fit" in screen.text and config(project)["fraction-fit"] == 0.3
            await screen.press("w")
            await screen.shows("- fraction-fit = 0.3", "+ fraction-fit = 0.75", "from the next run")
            await screen.press("w")
            await screen.shows("saved fraction-fit")
            await screen.hides("not saved")

        at_config(script)
        assert project.pyproject.read_text() == PYPROJECT.replace("0.3  # a third", "0.75  # a third")

    @pytest.mark.parametrize(("key", "text", "says"), [
        ("fraction-fit", "1.5", "a number from 0 to 1"),
        ("fraction-fit", "nan", "a number from 0 to 1"),
        ("fraction-fit", "0", "would train nobody"),
        ("num-server-rounds", "2.5", "an integer from 1 to 100000"),
        ("num-server-rounds", "", "an integer from 1 to 100000"),
        ("classes", "cat", "two or more different names"),
    ])
    def test_a_wrong_value_is_refused_while_it_is_typed(self, at_config: AtConfig, project: Project, key: str, text: str, says: str) -> None:
        async def script(screen: Screen) -> None:
            await edit(screen, key, text)
            await screen.shows(says)
            await screen.press("enter")
            assert screen.app.query("#editor"), "the editor stays open"
            await screen.press("escape")
            assert not screen.app.query("#editor") and "not saved" not in screen.text
            await screen.press("w")
            await screen.shows("nothing has been changed")

        at_config(script)
        assert project.pyproject.read_text() == PYPROJECT

    def test_few_values_are_stepped_through(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await to(screen, "augment")
            await screen.press("space")
            await screen.shows("was true; not saved")
            await to(screen, "channels")
            await screen.press("enter", "enter")
            await screen.press("w", "w")
            await screen.shows("saved augment, channels")

        at_config(script)
        assert config(project) == {"num-server-rounds": 3, "fraction-fit": 0.3, "augment": False, "channels": 3}

    def test_undo_goes_step_by_step_and_behind_a_save(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await edit(screen, "num-server-rounds", "7")
            await screen.press("enter", "w", "w")
            await screen.shows("saved num-server-rounds")
            await screen.hides("not saved")
            assert config(project)["num-server-rounds"] == 7
            await screen.press("delete")
            await screen.press("z")  # 3 is the default as well
            assert screen.app.panes["config"].draft.changes == {}  # type: ignore[attr-defined]
            await screen.press("z")
            await screen.shows("was 7; not saved")
            await screen.press("z")
            await screen.shows("nothing to undo")
            await screen.press("w", "w")
            await screen.until(lambda: config(project)["num-server-rounds"] == 3, "the old value")

        at_config(script)

    def test_a_kept_change_that_is_not_allowed_any_more_ends_nothing(self, at_config: AtConfig, project: Project) -> None:
        (project.state / "tui.json").write_text('{"panes": {"config": {"changes": {"num-server-rounds": -1, "gone": 1, "seed": 4}}}}')

        async def script(screen: Screen) -> None:
            assert "1 not saved" in screen.text and re.search(r"num-server-rounds +3 ", screen.text)

        at_config(script)

    def test_many_changes_are_scrolled_through_above_the_answers(self, at_config: AtConfig) -> None:
        async def script(screen: Screen) -> None:
            screen.app.push_screen(SaveDialog("pyproject.toml", [Change(f"key-{number} = 1", f"key-{number} = 2") for number in range(20)]))
            await screen.shows("+ key-0 = 2", "save (w)", "discard (d)")
            await screen.press(*["down"] * 40)
            await screen.shows("+ key-19 = 2", "save (w)", "discard (d)")

        at_config(script, (80, 24))

    def test_discarded_changes_are_gone(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await to(screen, "augment")
            await screen.press("enter", "w")
            await screen.shows("+ augment = false")
            await screen.press("escape")
            await screen.shows("was true; not saved")
            await screen.press("w", "d")
            await screen.hides("not saved")

        at_config(script)
        assert project.pyproject.read_text() == PYPROJECT

    def test_a_file_changed_behind_our_back_is_not_overwritten(self, at_config: AtConfig, project: Project) -> None:
        theirs = PYPROJECT.replace("num-server-rounds = 3", "num-server-rounds = 99")

        async def script(screen: Screen) -> None:
            await edit(screen, "fraction-fit", "0.5")
            await screen.press("enter", "w")
            await screen.shows("+ fraction-fit = 0.5")
            project.pyproject.write_text(theirs)
            await screen.press("w")
            await screen.shows("was changed by somebody else", "your changes are kept")
            assert project.pyproject.read_text() == theirs
            await screen.until(lambda: screen.app.store.file.entries["num-server-rounds"].value == 99, "their value")
            await screen.shows("1 not saved")
            await screen.press("w", "w")
            await screen.shows("saved fraction-fit")

        at_config(script)
        assert project.pyproject.read_text() == theirs.replace("0.3  #", "0.5  #")

    def test_a_wrong_value_in_the_file_is_said_and_mended_here(self, at_config: AtConfig, project: Project) -> None:
        project.pyproject.write_text(PYPROJECT.replace("fraction-fit = 0.3", "fraction-fit = 30"))

        async def script(screen: Screen) -> None:
            await to(screen, "fraction-fit")
            await screen.shows("not allowed", "it takes a number from 0 to 1: e mends it")
            for last in ("z", "w"):
                await screen.press("e", "ctrl+u")
                await screen.type("0.3")
                await screen.press("enter", last)
                if last == "z":
                    await screen.shows("not allowed", "it takes a number from 0 to 1: e mends it")
            await screen.press("w")
            await screen.shows("saved fraction-fit")

        at_config(script)
        assert project.pyproject.read_text() == PYPROJECT

    def test_read_only_edits_nothing(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await screen.press("e")
            await screen.shows("--read-only")
            assert not screen.app.query("#editor")
            await screen.press("tab", "a")
            assert len(screen.app.screen_stack) == 1

        at_config(script, read_only=True)
        assert project.pyproject.read_text() == PYPROJECT

    def test_changes_that_are_not_saved_outlive_leaving(self, at_config: AtConfig) -> None:
        async def change(screen: Screen) -> None:
            await edit(screen, "num-server-rounds", "12")
            await screen.press("enter")

        async def look(screen: Screen) -> None:
            await screen.shows("1 not saved", "was 3; not saved")

        at_config(change)
        at_config(look)

    def test_what_runs_goes_by_old_values_until_it_is_started_again(self, at_config: AtConfig) -> None:
        earlier = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)).isoformat()
        running = (process("server", started=earlier), process("north", started=earlier))
        run = {"config": {"num-server-rounds": 3, "fraction-fit": 0.3, "augment": True}}

        async def script(screen: Screen) -> None:
            await edit(screen, "num-server-rounds", "5")
            await screen.press("enter", "w", "w")
            await screen.shows("saved num-server-rounds", "server go by the old values", "it counts from the next run", "1 count from the next start")
            await edit(screen, "threads", "4")
            await screen.press("enter", "w", "w")
            await screen.shows("it counts from each client's next start", "2 count from the next start")

        at_config(script, processes=running, others={"run": run, "progress": {"run": "x", "outcome": "running"}})


class TestRoster:
    def test_a_client_is_added_once_its_images_have_been_counted(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await screen.press("a")
            await screen.shows("Add a client", "C1", "makes up synthetic")
            await screen.press("ctrl+u")
            await screen.type("south")
            await screen.press("tab")
            await screen.type("data/nor")
            await screen.shows("does not exist", "north/")
            await screen.press("ctrl+s")
            await screen.shows("Add a client")  # it is not taken
            await screen.press("tab", "down", "enter")  # into the folder that is offered
            await screen.shows("RBC 3", "WBC 2", "5 images in 2 classes")
            await screen.press("ctrl+s")
            await screen.shows("added south")

        at_config(script)
        assert roster(project) == {"north": {"data-dir": "data/north"}, "south": {"data-dir": "data/north"}}
        assert "# our own scanner" in project.pyproject.read_text()

    def test_images_are_described_before_they_are_used(self, at_config: AtConfig, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
        for number, file in enumerate(sorted((project.root / "data" / "north").rglob("*.png"))):
            Image.new("L", (20, 20), 40 * number).save(file)
        next((project.root / "data" / "north").rglob("*.png")).write_text("no image")
        (project.root / "results").mkdir(exist_ok=True)

        async def script(screen: Screen) -> None:
            await screen.press("a", "tab", "ctrl+o")  # nothing to describe yet
            await screen.type("data/north")
            await screen.shows("5 images in 2 classes")
            await screen.press("ctrl+o")
            await screen.shows("unreadable: 1", "✓ done")  # the first line is wrapped where the folder has a long name
            await screen.press("escape")
            await screen.shows("Add a client", "data/north")  # where it was

        at_config(script)
        assert (project.root / "results" / "contact_sheet.png").is_file()

    @pytest.mark.parametrize(("name", "says"), [("north", "there is a client north already"), ("server", "is not allowed"), ("a b", "is not allowed"), ("", "is not allowed")])
    def test_a_wrong_name_is_refused_while_it_is_typed(self, at_config: AtConfig, project: Project, name: str, says: str) -> None:
        async def script(screen: Screen) -> None:
            await screen.press("a", "ctrl+u")
            await screen.type(name)
            await screen.shows(says)
            await screen.press("enter")
            await screen.shows("Add a client")
            await screen.press("escape")

        at_config(script)
        assert project.pyproject.read_text() == PYPROJECT

    def test_folders_are_walked_up_and_down(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await screen.press("a", "tab")
            await screen.type("data/north/")
            await screen.shows("RBC/", "5 images in 2 classes")
            await screen.press("tab", "left")
            await screen.shows("north/", "5 images in 1 class")
            await screen.press("left")
            await screen.shows("data/")
            await screen.press("left")
            await screen.shows("hospital/")

        at_config(script)

    def test_a_client_is_changed_and_changed_back(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await screen.press("tab", "down", "enter")
            await screen.shows("Change north", "5 images in 2 classes")
            await screen.press("ctrl+u", "tab", "tab")  # no folder; past the list of folders
            await screen.type("THREADS=2")
            await screen.press("enter")
            await screen.shows("changed north", "synthetic", "THREADS=2")
            assert roster(project) == {"north": {"env": {"THREADS": "2"}}}
            await screen.press("z")
            await screen.shows("taken back: changed north", "data/north")

        at_config(script)
        assert {name: value for name, value in roster(project)["north"].items() if value} == {"data-dir": "data/north"}

    def test_a_folder_that_is_not_changed_stays_as_the_file_spells_it(self, at_config: AtConfig, project: Project) -> None:
        project.pyproject.write_text(PYPROJECT.replace("data/north", "./data/north/"))

        async def script(screen: Screen) -> None:
            await screen.press("tab", "down", "enter")
            await screen.shows("Change north", "5 images in 2 classes")
            await screen.press("tab", "tab")
            await screen.type("THREADS=2")
            await screen.press("enter")
            await screen.shows("changed north", "THREADS=2")
            assert roster(project) == {"north": {"data-dir": "./data/north/", "env": {"THREADS": "2"}}}

        at_config(script)

    def test_a_wrong_variable_is_refused(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await screen.press("tab", "down", "enter", "tab", "tab")
            await screen.type("THREADS")
            await screen.shows("is no NAME=value")
            await screen.press("enter", "ctrl+u")
            await screen.type("2X=1")
            await screen.shows("is no name of an environment variable")
            await screen.press("enter", "escape")

        at_config(script)
        assert project.pyproject.read_text() == PYPROJECT

    def test_a_client_is_removed_after_a_question_and_comes_back(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await screen.press("tab", "down", "delete")
            await screen.shows("Remove north?", "and its results stay")
            await screen.press("n")
            assert "north" in roster(project)
            await screen.press("delete", "y")
            await screen.shows("removed north")
            await screen.shows("the roster is empty")
            assert "north" not in project.pyproject.read_text().split("[tool.fedtui")[-1]
            await screen.press("z")
            await screen.shows("taken back: removed north")

        at_config(script)
        assert roster(project) == {"north": {"data-dir": "data/north"}}

    def test_a_running_client_is_not_removed(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await screen.press("tab", "down", "delete")
            await screen.shows("north is running", "stop it first")

        at_config(script, processes=(process("server"), process("north")))
        assert project.pyproject.read_text() == PYPROJECT

    def test_a_roster_that_cannot_be_read_shows_why_and_no_other(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await screen.shows("north", "listens on")
            for wrong, why in (("[tool.fedtui]\nserver-address = 7\n", "server-address = 7 is not allowed"), ("[[", "no valid TOML")):
                project.pyproject.write_text(PYPROJECT + wrong)
                clients = screen.app.query_one("#clients", Listing)
                await screen.until(lambda clients=clients, why=why: why in clients.empty, why)  # type: ignore[misc]
                await screen.shows(*clients.empty.split())  # wrapped to what the panel is wide
                assert "listens on" not in screen.text and "made up" not in screen.text
            project.pyproject.write_text(PYPROJECT)
            await screen.shows("north", "listens on")

        at_config(script, (150, 40))

    def test_the_servers_address_is_checked_and_set(self, at_config: AtConfig, project: Project) -> None:
        async def script(screen: Screen) -> None:
            await screen.press("tab", "enter")
            await screen.shows("Server address")
            await screen.press("ctrl+u")
            await screen.type("here")
            await screen.shows("is not allowed")
            await screen.press("ctrl+u")
            await screen.type("127.0.0.1:9000")
            await screen.press("enter")
            await screen.shows("listens on 127.0.0.1:9000")

        at_config(script)
        assert project.roster().server_address == "127.0.0.1:9000"


class TestProjectFile:
    def test_nothing_in_the_file_raises(self, project: Project) -> None:
        for text, says in (("[", "valid TOML"), ("\xff", "")):
            project.pyproject.write_bytes(text.encode("latin-1"))
            file = project_file.read(project)
            assert file.error and says in file.error
        project.pyproject.write_text('[tool.flwr.app.config]\nfractoin-fit = 1\nseed = "x\\u001b[31m"\n[tool.fedtui]\nclients = 3\n')
        file = project_file.read(project)
        assert file.unknown == ("fractoin-fit",) and "clients" in file.roster_error
        assert "an integer" in file.entries["seed"].wrong and "\x1b" not in file.entries["seed"].wrong

    def test_a_newer_file_takes_over_what_it_holds_already(self) -> None:
        draft = Draft(ProjectFile())
        draft.set("seed", 4)
        draft.set("threads", 2)
        newer = ProjectFile(entries={**draft.file.entries, "seed": project_file.Entry(draft.file.entries["seed"].key, 4, in_file=True)})
        draft.take(newer)
        assert draft.changes == {"threads": 2}

    def test_undo_passes_over_a_value_that_was_mended_and_saved(self) -> None:
        draft = Draft(ProjectFile())
        key, entries = draft.file.entries["seed"].key, draft.file.entries
        draft.set("threads", 2)
        draft.take(ProjectFile(entries={**entries, "seed": project_file.Entry(key, 0, in_file=True, wrong="seed = true")}))
        draft.set("seed", 4)
        draft.take(ProjectFile(entries={**entries, "seed": project_file.Entry(key, 4, in_file=True)}))
        assert draft.undo() == "threads" and draft.undo() is None
