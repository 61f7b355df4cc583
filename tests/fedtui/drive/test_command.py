"""`fedtui upload drive` as a user has it: a process, a terminal where one is asked, Google on loopback."""
from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from fedtui.drive.store import CLIENT, TOKEN, Store
from fedtui.project import Project
from poweranger.results import Run
from tests.fedtui.conftest import Fedtui
from tests.fedtui.drive.fake import ACCOUNT, FakeDrive

MIB = 1 << 20


class Terminal:
    """The command with a terminal for questions and talk; stdout is a pipe."""

    def __init__(self, process: subprocess.Popen[bytes], end: int) -> None:
        self.process, self._end = process, end
        self.screen = ""
        self._grew = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._end, 4096)
            except OSError:  # the other end is closed
                data = b""
            with self._grew:
                self.screen += data.decode(errors="replace").replace("\r\n", "\n")
                self._grew.notify_all()
            if not data:
                return

    def await_text(self, text: str) -> str:
        """Wait for `text`; the whole line it stands in, as far as it has come."""
        with self._grew:
            assert self._grew.wait_for(lambda: text in self.screen, 60), self.screen
            return next(line for line in self.screen.splitlines() if text in line)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def end(self) -> tuple[int, str]:
        """Exit code and stdout."""
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out.decode()


@contextmanager
def terminal(cli: Fedtui, *words: str) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fedtui", *words], cwd=cli.folder, env=cli.environment | {"TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture
def cli(fake: FakeDrive, alone: Fedtui) -> Fedtui:
    return alone


@pytest.fixture
def store(cli: Fedtui, fake: FakeDrive) -> Store:
    """The project's, with the permission given before."""
    store = Store(Project.find(cli.folder).state)
    store.write(CLIENT, fake.secret["installed"])
    store.write(TOKEN, {"refresh_token": "refresh-0"})
    return store


@pytest.fixture
def run(cli: Fedtui, make_run: Callable[..., Run]) -> Path:
    return make_run(cli.folder / "results", size=1000).path


class TestFirstTime:
    def test_from_the_client_secret_to_the_files_in_drive(self, cli: Fedtui, fake: FakeDrive, run: Path, tmp_path: Path) -> None:
        (tmp_path / "secret.json").write_text(json.dumps(fake.secret))
        with terminal(cli, "upload", "drive", "--credentials", str(tmp_path / "secret.json"), "--what", "metrics") as user:
            assert "ssh -N -L" in user.await_text("your browser runs on another machine")
            user.await_text("Waiting for")
            httpx.get(next(line for line in user.screen.splitlines() if line.startswith(fake.root)), follow_redirects=True)
            user.await_text("[y/N]")
            assert ACCOUNT in user.screen and f"folder {run.name}" in user.screen and "metrics/fit_metrics.csv" in user.screen
            assert "start" not in fake.calls and not fake.folders()  # nothing has left before the answer
            user.type("y\n")
            code, out = user.end()
            assert (code, out) == (0, fake.folders()[0]["webViewLink"] + "\n"), user.screen
            assert "checksums agree" in user.screen
        assert set(fake.files()) == {"run.toml", *(path.name for path in (run / "metrics").iterdir())}
        folder = Project.find(cli.folder).state / "drive"
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600} and stat.S_IMODE(folder.stat().st_mode) == 0o700
        kept = json.loads((folder / TOKEN).read_text())
        assert set(kept) == {"refresh_token"} and not [path for path in cli.folder.rglob("*") if path.is_file() and kept["refresh_token"].encode() in path.read_bytes()]
        done = cli("upload", "drive", "--what", "metrics", "--yes", "--json")  # remembered, and nothing twice
        assert done.code == 0, done.err
        assert {file["state"] for file in done.json["files"]} == {"already there"} and done.json["account"] == ACCOUNT

    def test_without_permission_nothing_is_asked_of_google(self, cli: Fedtui, fake: FakeDrive, run: Path, tmp_path: Path) -> None:
        done = cli("upload", "drive")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1) and "--yes" in done.err
        done = cli("upload", "drive", "--yes")
        assert (done.code, done.err.count("\n")) == (2, 1) and "--credentials FILE" in done.err
        (tmp_path / "secret.json").write_text(json.dumps(fake.secret))
        done = cli("upload", "drive", "--yes", "--credentials", tmp_path / "secret.json")
        assert (done.code, done.err.count("\n")) == (2, 1) and "once in a terminal" in done.err
        done = cli("upload", "drive", "--dry-run", "--json")
        assert done.code == 0 and done.json["account"] is None and {file["state"] for file in done.json["files"]} == {"new"}
        assert fake.calls == []

    def test_ctrl_c_while_it_waits_for_the_browser(self, cli: Fedtui, store: Store, run: Path) -> None:
        (store.folder / TOKEN).unlink()
        with terminal(cli, "upload", "drive") as user:
            user.await_text("Waiting for")
            user.process.send_signal(signal.SIGINT)
            code, out = user.end()
            assert (code, out) == (130, "") and "Traceback" not in user.screen

    def test_without_the_libraries_it_names_the_command(self, cli: Fedtui, run: Path) -> None:
        code = "import sys; sys.modules['googleapiclient'] = None; sys.argv = ['fedtui', 'upload', 'drive', '--yes']; import fedtui.__main__ as m; m.main()"
        done = subprocess.run([sys.executable, "-c", code], cwd=cli.folder, env=cli.environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "pip install 'federated-health[drive]'" in done.stderr


class TestLater:
    def test_no_is_no_and_a_dry_run_changes_nothing(self, cli: Fedtui, fake: FakeDrive, store: Store, run: Path) -> None:
        with terminal(cli, "upload", "drive") as user:
            user.await_text("[y/N]")
            user.type("n\n")
            assert user.end() == (1, "") and "nothing was uploaded" in user.screen
        done = cli("upload", "drive", "--dry-run")
        assert (done.code, done.out) == (0, "") and ACCOUNT in done.err and "new" in done.err
        assert not fake.folders() and "start" not in fake.calls

    def test_killed_in_mid_file_it_goes_on_from_there(self, cli: Fedtui, fake: FakeDrive, store: Store, make_run: Callable[..., Run]) -> None:
        run = make_run(cli.folder / "results", size=5 * MIB).path
        fake.fail("chunk", None, None, "hold")  # run.toml, the snapshot's first chunk, half of its second one
        process = cli.start("upload", "drive", "--what", "models", "--yes")
        assert fake.held.wait(60)
        process.kill()
        cli.end(process)
        fake.release.set()
        assert fake.chunks == [0, 0, 2 * MIB]
        done = cli("upload", "drive", "--run", run.name, "--what", "models", "--yes")
        assert done.code == 0 and "models/round_001.npz has arrived" in done.err, done.err
        assert fake.chunks[3:] == [3 * MIB, 5 * MIB] and fake.files()["round_001.npz"] == (run / "models" / "round_001.npz").read_bytes()
        assert "run.toml has arrived" not in done.err

    def test_a_revoked_permission_is_forgotten_so_that_the_next_time_asks_anew(self, cli: Fedtui, fake: FakeDrive, store: Store, run: Path) -> None:
        fake.refresh.clear()
        done = cli("upload", "drive", "--yes")
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1) and "asks for it anew" in done.err
        assert not (store.folder / TOKEN).exists() and (store.folder / CLIENT).exists()
