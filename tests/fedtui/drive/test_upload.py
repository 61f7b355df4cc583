"""What arrives in Drive, whatever happens on the way: the real client libraries against a fake that speaks the real protocol."""
from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedtui.drive.choice import choose, parse_what
from fedtui.drive.errors import PermissionGone, UploadFailed
from fedtui.drive.service import ENDPOINT
from poweranger.errors import UserError
from poweranger.results import Run
from tests.fedtui.drive.conftest import Uploader
from tests.fedtui.drive.fake import ACCOUNT, FakeDrive

ATOM = 256 << 10
MODELS = {"models"}

MakeRun = Callable[..., Run]
NewUploader = Callable[[], Uploader]


def everything(run: Path) -> dict[str, bytes]:
    """Content of the files that may leave, by name."""
    return {file.path.name: file.path.read_bytes() for file in choose(run, {"metrics", "models"})}


class TestChoice:
    def test_only_tables_snapshots_and_run_toml_can_leave(self, make_run: MakeRun, tmp_path: Path) -> None:
        run = make_run(tmp_path).path
        for name in ("metrics/patients.csv", "models/notes.txt", "server.log", "progress.json"):
            (run / name).write_text("private")
        (run / "models" / "round_009.npz").symlink_to("/etc/passwd")
        names = [file.name for file in choose(run, {"metrics", "models"})]
        assert names[0] == "run.toml" and "metrics/participation.csv" in names and names[-1] == "models/round_001.npz"
        assert not [name for name in names if "private" in (run / name).read_bytes().decode(errors="replace")]
        assert "models/round_009.npz" not in names and "models/strategy_001.npz" not in names
        assert [file.name for file in choose(run, {"models"})] == ["run.toml", "models/round_001.npz"]
        assert {file.name.partition("/")[0] for file in choose(run, {"metrics"})} == {"run.toml", "metrics"}

    def test_another_word_is_refused(self) -> None:
        assert parse_what("models, metrics") == {"metrics", "models"}
        for words in ("logs", "", "models,images"):
            with pytest.raises(UserError, match="--what"):
                parse_what(words)


class TestUpload:
    def test_a_run_arrives_in_a_folder_of_its_own_and_nothing_twice(
        self, make_run: MakeRun, fake: FakeDrive, uploader: NewUploader, tmp_path: Path
    ) -> None:
        run = make_run(tmp_path).path
        (run / "metrics" / "confusion.csv").write_bytes(b"")  # an empty file is a case of its own in the protocol
        first = uploader()
        sent = first(run)
        assert fake.files() == everything(run)
        assert first.arrived == {file.name: file.size for file in choose(run, {"metrics", "models"})}
        assert [folder["name"] for folder in fake.folders()] == [run.name]
        assert uploader().plan(run, MODELS).account == ACCOUNT
        starts = fake.calls.count("start")
        fake.page_size = 2  # the list comes in pages
        assert len(sent) == starts == len(everything(run)) and uploader()(run) == []
        assert (fake.calls.count("start"), len(fake.folders())) == (starts, 1)
        assert uploader().store.read("sessions.json") == {}

    def test_what_a_run_has_written_since_becomes_a_new_version(self, make_run: MakeRun, fake: FakeDrive, uploader: NewUploader, tmp_path: Path) -> None:
        run = make_run(tmp_path)
        uploader()(run.path)
        with (run.path / "metrics" / "fit_metrics.csv").open("a") as table:
            table.write("2,0.25\n")
        run.save_snapshot(2, [np.zeros(10)])
        assert uploader()(run.path) == ["metrics/fit_metrics.csv", "models/round_002.npz"]
        assert fake.files() == everything(run.path)

    def test_renamed_and_moved_it_is_still_known_and_binned_it_is_made_anew(
        self, make_run: MakeRun, fake: FakeDrive, uploader: NewUploader, tmp_path: Path
    ) -> None:
        run = make_run(tmp_path).path
        uploader()(run)
        fake.folders()[0]["name"], fake.folders()[0]["parents"] = "our study", ["elsewhere"]
        assert uploader()(run) == []
        for entry in fake.entries.values():
            entry["trashed"] = True
        assert len(uploader()(run)) == len(everything(run))
        assert len(fake.folders()) == 1

    def test_damage_on_the_way_is_noticed_and_mended(self, make_run: MakeRun, fake: FakeDrive, uploader: NewUploader, tmp_path: Path) -> None:
        run = make_run(tmp_path).path
        fake.damage = True
        with pytest.raises(UploadFailed, match=r"run.toml arrived with another checksum"):
            uploader()(run, MODELS)
        assert uploader()(run, MODELS) == ["run.toml", "models/round_001.npz"]
        assert fake.files()["run.toml"] == (run / "run.toml").read_bytes()


class TestTrouble:
    @pytest.fixture
    def run(self, make_run: MakeRun, tmp_path: Path, uploader: NewUploader, fake: FakeDrive) -> Path:
        """A run whose `run.toml` and folder are there already: what is left is one snapshot, in three chunks."""
        run = make_run(tmp_path).path
        snapshot = run / "models" / "round_001.npz"
        content = snapshot.read_bytes()
        snapshot.unlink()
        uploader()(run, MODELS)
        snapshot.write_bytes(content)
        fake.calls.clear()
        fake.chunks.clear()
        return run

    @pytest.mark.parametrize("kind", ["about", "list", "start", "chunk"])
    def test_errors_of_the_server_and_rate_limits_are_waited_out(self, run: Path, fake: FakeDrive, uploader: NewUploader, kind: str) -> None:
        fake.fail(kind, (503, "backendError"), (429, "rateLimitExceeded", 7), (403, "userRateLimitExceeded"))
        here = uploader()
        assert here(run, MODELS) == ["models/round_001.npz"]
        assert fake.files()["round_001.npz"] == (run / "models" / "round_001.npz").read_bytes()
        assert len(here.pauses) == 3 == len(here.said) and here.pauses[1] >= 7 and here.pauses[0] < here.pauses[2]
        assert "503" in here.said[0] and "trying again" in here.said[0]

    def test_it_gives_up_in_the_end_and_goes_on_the_next_time(self, run: Path, fake: FakeDrive, uploader: NewUploader) -> None:
        fake.fail("chunk", None)
        fake.fail("status", *[(503, "backendError")] * 50)
        fake.fail("chunk", *[(503, "backendError")] * 50)
        here = uploader()
        with pytest.raises(UploadFailed, match=r"503"):
            here(run, MODELS)
        assert sum(here.pauses) > 60 and sorted(here.pauses) == here.pauses
        fake.troubles.clear()
        fake.chunks.clear()
        assert uploader()(run, MODELS) == ["models/round_001.npz"]
        assert fake.chunks == [ATOM, 2 * ATOM] and fake.calls.count("start") == 1

    def test_a_lost_connection_costs_no_byte_that_has_arrived(self, run: Path, fake: FakeDrive, uploader: NewUploader) -> None:
        fake.fail("chunk", None, "lost")
        assert uploader()(run, MODELS) == ["models/round_001.npz"]
        assert fake.files()["round_001.npz"] == (run / "models" / "round_001.npz").read_bytes()
        assert fake.chunks in ([0, ATOM, 2 * ATOM], [0, ATOM, ATOM, 2 * ATOM])  # the HTTP library itself may try once more

    def test_an_answer_that_was_lost_after_the_last_byte_makes_no_second_file(self, run: Path, fake: FakeDrive, uploader: NewUploader) -> None:
        fake.fail("chunk", None, None, *["lost"] * 10)
        fake.fail("status", *[(500, "internalError")] * 50)
        with pytest.raises(UploadFailed):
            uploader()(run, MODELS)
        fake.troubles.clear()
        del fake.entries[next(id for id, entry in fake.entries.items() if entry["name"] == "round_001.npz")]  # the list does not show it yet
        assert uploader()(run, MODELS) == ["models/round_001.npz"]
        assert fake.calls.count("start") == 1

    def test_an_upload_that_expired_begins_anew(self, run: Path, fake: FakeDrive, uploader: NewUploader) -> None:
        fake.fail("chunk", None, *[(503, "backendError")] * 50)
        fake.fail("status", *[(503, "backendError")] * 50)
        with pytest.raises(UploadFailed):
            uploader()(run, MODELS)
        fake.troubles.clear()
        fake.sessions.clear()
        assert uploader()(run, MODELS) == ["models/round_001.npz"]
        (run / "models" / "round_001.npz").write_bytes(os.urandom(700_000))
        fake.fail("chunk", None, (404, "notFound"))  # and one that expires on the way
        assert uploader()(run, MODELS) == ["models/round_001.npz"]
        assert fake.files()["round_001.npz"] == (run / "models" / "round_001.npz").read_bytes()

    def test_a_file_that_changed_since_is_not_mixed_with_its_older_half(self, run: Path, fake: FakeDrive, uploader: NewUploader) -> None:
        fake.fail("chunk", None, *[(503, "backendError")] * 50)
        fake.fail("status", *[(503, "backendError")] * 50)
        with pytest.raises(UploadFailed):
            uploader()(run, MODELS)
        fake.troubles.clear()
        (run / "models" / "round_001.npz").write_bytes(os.urandom(600_000))
        uploader()(run, MODELS)
        assert fake.files()["round_001.npz"] == (run / "models" / "round_001.npz").read_bytes()

    def test_an_access_token_that_ends_in_mid_upload_is_renewed(self, run: Path, fake: FakeDrive, uploader: NewUploader) -> None:
        fake.fail("chunk", None, (401, "authError"), (401, "authError"))
        here = uploader()
        assert here(run, MODELS) == ["models/round_001.npz"]
        assert fake.calls.count("token") == 3 and here.pauses == []
        assert fake.files()["round_001.npz"] == (run / "models" / "round_001.npz").read_bytes()

    def test_a_permission_that_was_revoked_is_told_apart(self, run: Path, fake: FakeDrive, uploader: NewUploader) -> None:
        fake.refresh.clear()
        with pytest.raises(PermissionGone, match="expired or revoked"):
            uploader()(run, MODELS)

    @pytest.mark.parametrize(
        ("reason", "remedy"), [("accessNotConfigured", "is not enabled"), ("storageQuotaExceeded", "is full"), ("forbidden", "403 this is forbidden")]
    )
    def test_what_waiting_does_not_mend_is_said_at_once(self, run: Path, fake: FakeDrive, uploader: NewUploader, reason: str, remedy: str) -> None:
        fake.fail("start", (403, reason))
        here = uploader()
        with pytest.raises(UploadFailed, match=remedy):
            here(run, MODELS)
        assert here.pauses == []

    def test_without_a_network_it_says_so(self, run: Path, fake: FakeDrive, uploader: NewUploader) -> None:
        here = uploader()
        fake.shutdown()
        fake.server_close()
        with pytest.raises(UploadFailed, match="cannot be reached"):
            here(run, MODELS)
        assert len(here.pauses) >= 5

    def test_a_folder_whose_making_was_not_confirmed_is_not_made_twice(self, make_run: MakeRun, fake: FakeDrive, uploader: NewUploader, tmp_path: Path) -> None:
        fake.fail("folder", "lost", "lost", "lost")
        run = make_run(tmp_path / "another", size=10).path
        uploader()(run, MODELS)
        assert [folder["name"] for folder in fake.folders()].count(run.name) == 1


class TestStore:
    def test_files_are_the_user_s_alone_and_one_uploads_at_a_time(self, uploader: NewUploader) -> None:
        store = uploader().store
        store.write("token.json", {"refresh_token": "x"})
        assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((store.folder / "token.json").stat().st_mode) == 0o600
        with store.alone(), pytest.raises(UserError, match="another upload"), uploader().store.alone():
            pass
        (store.folder / "sessions.json").write_text("{damaged")
        assert store.read("sessions.json") == {}

    def test_the_permission_is_sent_to_no_other_machine(self, monkeypatch: pytest.MonkeyPatch, uploader: NewUploader) -> None:
        monkeypatch.setenv(ENDPOINT, "http://192.0.2.1/")
        with pytest.raises(UserError, match="is for tests"):
            uploader()
