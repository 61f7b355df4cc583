"""`flwr run .` and `python -m poweranger.simulation`, as a user starts them."""
from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from poweranger import flwr_run, run_config
from poweranger.results import list_runs, read_info

PROJECT = Path(__file__).resolve().parents[2]
SMALL = "image-size=32 synthetic-examples=12 fraction-fit=1"
Until = Callable[..., None]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh copy of the project in a folder of its own."""
    folder = tmp_path / "clone"
    shutil.copytree(PROJECT / "poweranger", folder / "poweranger", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".gitignore", "LICENSE"):
        shutil.copy(PROJECT / name, folder)
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A user's environment with a home and ports of its own; what was started in it is gone in the end."""
    kept = {name: value for name, value in os.environ.items() if name not in (*run_config.SETTINGS, *(key.environment for key in run_config.KEYS))}
    home = tmp_path / "home"
    home.mkdir()
    port = free_port()
    yield kept | {
        "HOME": str(home), "FLWR_HOME": str(home / ".flwr"), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        flwr_run.SUPERLINK_PORT: str(port), flwr_run.CONTROL_PORT: str(port + 2), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1",
    }
    started = [process for process in psutil.process_iter() if flwr_home_of(process).startswith(str(home))]
    for process in started:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(started, timeout=10)


def free_port() -> int:
    """A port with room for a second SuperLink, 100 above."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1]) if one.getsockname()[1] < 64000 else free_port()


def flwr_home_of(process: psutil.Process) -> str:
    try:
        return process.environ().get("FLWR_HOME", "")
    except psutil.Error:
        return ""


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def running_in(session: int) -> list[str]:
    """Command lines of a session's processes; a zombie is none."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


def start_simulation(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """The program in a folder that holds nothing but a `pyproject.toml`."""
    folder.mkdir()
    shutil.copy(PROJECT / "pyproject.toml", folder)
    command = [sys.executable, "-m", "poweranger.simulation", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment | {"PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_pyproject_lists_every_key_with_its_default() -> None:
    document = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert document["tool"]["flwr"]["app"]["config"] == {key.name: key.default for key in run_config.KEYS}


def test_flwr_run_beside_another_projects_superlink(clone: Path, environment: dict[str, str], tmp_path: Path, until: Until) -> None:
    other, port = tmp_path / "other", int(environment[flwr_run.SUPERLINK_PORT])
    other.mkdir()
    subprocess.Popen(
        ["flower-superlink", "--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port),
         "--control-api-address", f"127.0.0.1:{port + 2}"],
        cwd=other, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    until(lambda: listens(port), 60, "the other project's SuperLink")
    before = (clone / "pyproject.toml").read_bytes()

    command = ["flwr", "run", ".", "--run-config", f"num-server-rounds=1 {SMALL}"]
    answer = subprocess.run(command, cwd=clone, env=environment | {"ROUNDS": "3", "BATCH_SIZE": "", "MIN_AVAILABLE_CLIENTS": "2"}, capture_output=True, text=True, timeout=120)

    assert answer.returncode == 0, answer.stderr
    assert "belongs to another project" in answer.stdout
    assert not (clone / "pyproject.origin.toml").exists()
    until(lambda: list_runs(clone / "results"), 120, "the run's folder in the clone")
    (run,) = list_runs(clone / "results")
    until(lambda: read_info(run)["outcome"] != "running", 120, "the end of the run")
    info = read_info(run)
    assert info["outcome"] == "finished", info
    assert info["config"]["num-server-rounds"] == 1, "the command line wins over the environment"
    assert info["config"]["min-available-clients"] == 2, "the environment wins over pyproject.toml"
    assert info["clients"] == ["C1", "C2"]
    with (clone / "results" / "metrics" / "fit_client_metrics.csv").open(newline="") as file:
        assert [row["client_id"] for row in csv.DictReader(file)] == ["C1", "C2"]
    assert (clone / "results" / "models" / "round_001.npz").is_file()
    assert (clone / "pyproject.toml").read_bytes() == before
    assert not list(Path(environment["FLWR_HOME"]).rglob("runtime-envs")), "packages were installed"
    assert not list(other.iterdir())


def test_flwr_run_refuses_a_wrong_key_before_it_starts_anything(clone: Path, environment: dict[str, str]) -> None:
    command = ["flwr", "run", ".", "--run-config", "num-server-round=1"]
    answer = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=60)

    assert answer.returncode == 2
    assert "did you mean num-server-rounds?" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not listens(int(environment[flwr_run.SUPERLINK_PORT]))


def test_simulation_runs_to_its_end_and_leaves_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    program = start_simulation(folder, environment, "--supernodes", "3", "--run-name", "try", "--run-config", f"num-server-rounds=1 {SMALL}")
    assert program.stdout is not None
    first = program.stdout.readline()
    (child,) = psutil.Process(program.pid).children()
    output = first + program.communicate(timeout=120)[0]

    assert program.returncode == 0, output
    assert "round 1/1" in output
    assert "Traceback" not in output
    (run,) = list_runs(folder / "results")
    assert run.name.endswith("-try")
    assert read_info(run)["outcome"] == "finished"
    assert read_info(run)["clients"] == ["C1", "C2", "C3"]
    assert running_in(child.pid) == []
    assert not (tmp_path / "home" / ".flwr").exists()


def test_simulation_ends_at_sigterm_in_mid_run(environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "project"
    program = start_simulation(folder, environment, "--run-config", f"num-server-rounds=10000 {SMALL}")
    assert program.stdout is not None
    assert any("round 2/" in line for line in program.stdout), "it ended before round 2"
    (child,) = psutil.Process(program.pid).children()
    program.send_signal(signal.SIGTERM)
    output = program.communicate(timeout=30)[0]

    assert program.returncode == 128 + signal.SIGTERM, output
    assert "Traceback" not in output
    (run,) = list_runs(folder / "results")
    assert read_info(run)["outcome"] == "stopped"
    assert running_in(child.pid) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--run-config", "image-sise=32"], "did you mean image-size?"),
        (["--run-config", "batch-size=0"], "batch-size = 0 is not allowed"),
        (["--run-config", "min-fit-clients=3"], "give --supernodes 3 or more"),
        (["--supernodes", "0"], "--supernodes 0 is not allowed"),
        (["--run-name", "a/b"], "run name 'a/b' is not allowed"),
    ],
)
def test_simulation_refuses_a_wrong_configuration(arguments: list[str], sentence: str, environment: dict[str, str], tmp_path: Path) -> None:
    program = start_simulation(tmp_path / "project", environment, *arguments)
    output = program.communicate(timeout=60)[0]

    assert program.returncode == 2, output
    assert sentence in output
    assert "Traceback" not in output
    assert not list_runs(tmp_path / "project" / "results")


@pytest.mark.parametrize(("name", "local"), [(None, False), ("local", True), ("hospital", False), ("unknown", False)])
def test_only_a_local_superlink_learns_the_callers_folder(name: str | None, local: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text(
        '[superlink]\ndefault = "hospital"\n[superlink.local]\naddress = ":local:"\n[superlink.hospital]\naddress = "fl.example.org:443"\n'
    )
    assert flwr_run._is_local(name) is local
    if not local:
        (tmp_path / "pyproject.origin.toml").write_text("")  # of a local run that was killed
        flwr_run._prepare_run({"app": str(tmp_path), "superlink": name})
        assert not (tmp_path / "pyproject.origin.toml").exists()
