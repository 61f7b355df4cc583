"""What a wheel holds, and a study in a folder of its own that runs the installed package."""
from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fedtui.new_project import new_pyproject, project_name
from fedtui.roster import Roster, read_roster
from poweranger.errors import UserError
from poweranger.origin import NOTE
from poweranger.results import list_runs, read_info
from poweranger.run_config import KEYS
from poweranger.server.superlink import build_fab
from tests.e2e.test_simulation import environment

__all__ = ["environment"]

PROJECT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "man", "poweranger", "fedtui")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built of a copy."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    done = subprocess.run([sys.executable, "-c", "from setuptools.build_meta import build_wheel; build_wheel('dist')"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (folder / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's packages in a folder for `PYTHONPATH`."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def command(installed: Path, tmp_path: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`command(folder, "fedtui", "ps")` runs an installed program in a folder."""
    variables = environment | {"PYTHONPATH": str(installed), "XDG_STATE_HOME": str(tmp_path / "state")}

    def run(folder: Path, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [program] if program == "flwr" else [sys.executable, "-m", program]
        return subprocess.run([*argv, *words], cwd=folder, env=variables, capture_output=True, text=True, timeout=120)

    return run


def test_the_wheel_has_all_that_the_programs_need(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (scripts,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    sources = [path for package in ("poweranger", "fedtui") for path in (PROJECT / package).rglob("*") if path.suffix in (".py", ".tcss")]
    assert [path for path in sources if path.relative_to(PROJECT).as_posix() not in names] == []
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"poweranger", "fedtui", "federated_health"}
    assert {"fedtui.1", "poweranger.1"} == {Path(name).name for name in names if "/share/man/man1/" in name}
    assert re.findall(r"^(\w+) = (\S+)$", scripts, re.MULTILINE) == [("fedtui", "fedtui.__main__:main"), ("poweranger", "poweranger.__main__:main")]


def test_poweranger_runs_its_programs_by_name(command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = command(tmp_path, "poweranger", "partition", "--data", "nowhere", "--clients", "2", "--out", "sites")
    assert (done.returncode, done.stderr) == (2, f"partition: --data {tmp_path}/nowhere cannot be read: No such file or directory\n")
    listing = command(tmp_path, "poweranger", "--help").stdout
    assert re.search(r"^ +client +poweranger.client.standalone_client ", listing, re.MULTILINE)
    wrong = command(tmp_path, "poweranger", "sever")
    assert wrong.returncode == 2
    assert "no program 'sever'" in wrong.stderr


def test_a_new_project_folder_explains_every_key_and_changes_none(command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    assert command(tmp_path, "fedtui", "init", "my study").returncode == 0
    file = tmp_path / "my study" / "pyproject.toml"
    text = file.read_text()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert command(file.parent, "fedtui", "config", "diff", "--json").stdout.strip() == "[]"
    document = tomllib.loads(text)
    assert document["project"]["name"] == "my-study"
    assert list(document["tool"]["flwr"]["app"]["config"]) == [key.name for key in KEYS]
    assert all(key.help in re.sub(r"\n# ", " ", text) for key in KEYS)

    again = command(tmp_path, "fedtui", "init", "my study")
    assert again.returncode == 2
    assert "exists already and is left as it is" in again.stderr
    assert file.read_text() == text


def test_what_is_commented_out_in_a_new_project_are_the_defaults(command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    command(tmp_path, "fedtui", "init")
    text = (tmp_path / "pyproject.toml").read_text()
    roster = text[text.index("[tool.fedtui]") : text.index("# A table a client")]
    document = tomllib.loads(re.sub(r"^# ([\w-]+ = )", r"\1", roster, flags=re.MULTILINE))
    assert read_roster(document, tmp_path) == Roster()
    written = document["tool"]["fedtui"]
    for table, others in ((written, {"clients", "memory"}), (written["memory"], set())):
        with pytest.raises(UserError) as refused:
            read_roster({"tool": {"fedtui": {"zz": 1} if table is written else {"memory": {"zz": 1}}}}, tmp_path)
        assert set(re.findall(r"[\w-]+", str(refused.value).partition("it takes ")[2])) == table.keys() | others


@pytest.mark.parametrize(("folder", "name"), [("Lung CT (2)", "Lung-CT-2"), ("2026_trial", "study-2026-trial"), ("...", "study"), ("x" * 40, "x" * 32)])
def test_a_project_has_a_name_that_flower_takes(folder: str, name: str) -> None:
    assert project_name(folder) == name


def test_a_stock_node_is_sent_the_installed_code_and_nothing_else_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(new_pyproject("study"))
    for name in (NOTE, "C1.keys.toml", "patients.json", "notes.md"):
        (tmp_path / name).write_text("")
    with zipfile.ZipFile(io.BytesIO(build_fab(tmp_path).content)) as fab:
        names = {name for name in fab.namelist() if not name.startswith(".info/")}
    assert names == {"pyproject.toml"} | {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "poweranger").rglob("*.py")}


def test_flwr_run_in_a_new_project_folder(command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, until: Callable[..., None]) -> None:
    study = tmp_path / "study"
    command(tmp_path, "fedtui", "init", "study")
    (study / "C1.keys.toml").write_text("secret")
    before = (study / "pyproject.toml").read_bytes()

    answer = command(study, "flwr", "run", ".", "--run-config", "num-server-rounds=1 image-size=32 synthetic-examples=12 fraction-fit=1")

    assert answer.returncode == 0, answer.stderr
    until(lambda: list_runs(study / "results"), 120, "the run's folder in the study")
    (run,) = list_runs(study / "results")
    until(lambda: read_info(run)["outcome"] != "running", 120, "the end of the run")
    assert read_info(run)["outcome"] == "finished", read_info(run)
    assert read_info(run)["clients"] == ["C1", "C2"]
    assert (study / "pyproject.toml").read_bytes() == before
    assert not (study / NOTE).exists()
    assert {path.name for path in (tmp_path / "home" / ".flwr" / "apps").glob("*/*")} == {"pyproject.toml", NOTE}, "Flower took more than it needs"
