"""Logs: rotation under a writer that keeps its descriptor, reading by offset, hostile output."""
from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedtui.daemon.logfile import LogFile
from fedtui.daemon.rotate import Rotation
from fedtui.daemon.state import Record, new_record

from .conftest import House


def test_a_flood_is_rotated_without_losing_or_splitting_a_line(new_house: Callable[..., House]) -> None:
    house = new_house("log-mb = 1\nlog-keep = 2\n[tool.fedtui.clients.C1]\n")
    house.cast(C1="floods")
    (house.project.logs).mkdir(parents=True)
    (house.project.logs / ".C1.log.rotating").symlink_to("/dev/full")  # the first rotation finds the disk full
    house.open()
    house.post("/v1/processes/C1/start")
    text, offset = "", 0
    oldest = house.project.logs / "C1.log.2"
    while not oldest.exists() or not (house.root / "written").exists():
        if oldest.exists():
            (house.root / "end").touch()
        piece = house.get(f"/v1/logs/C1?offset={offset}&limit=1048576")
        assert piece["offset"] == offset, "the reader, who kept up, has lost something"
        text, offset = text + piece["text"], piece["next"]
    while (piece := house.get(f"/v1/logs/C1?offset={offset}&limit=1048576"))["next"] < piece["size"]:
        text, offset = text + piece["text"], piece["next"]
    text += piece["text"]

    written = int((house.root / "written").read_text())
    followed = [int(number) for number in re.findall(r"^line (\d{9}) x{80}$", text, re.MULTILINE)]
    assert followed == list(range(written)) and text.count("\n") == written
    files = [house.project.logs / f"C1.log{end}" for end in (".2", ".1", "")]
    kept = [int(number) for file in files for number in re.findall(r"^line (\d{9}) x{80}$", file.read_text(), re.MULTILINE)]
    assert kept == list(range(kept[0], written))
    assert {file.name for file in house.project.logs.iterdir()} == {file.name for file in files}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert house.log().count("cannot be rotated") == 1  # said once; it went on, and rotated later
    assert house.ps()["C1"]["state"] == "ready"


def test_a_rotation_that_a_killed_daemon_left_undone_does_not_leave_the_process_stopped(house: House) -> None:
    house.post("/v1/up")
    pid = house.reach("running", "C1")["C1"]["pid"]
    house.daemons[0].kill()
    house.daemons[0].wait()
    os.kill(pid, signal.SIGSTOP)  # as in the middle of a rotation
    content = json.loads(house.project.processes_file.read_text())
    next(record for record in content["processes"] if record["name"] == "C1")["held"] = True
    house.project.processes_file.write_text(json.dumps(content))
    house.open()
    house.until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S", 10, "going on")


def test_hostile_output_harms_nobody(house: House) -> None:
    house.cast(C1="prints_rubbish")
    house.post("/v1/processes/C1/start")
    house.until(lambda: house.ps()["C1"]["restarts"] >= 1, 30, "its end and restart")
    process = house.ps()["C1"]
    for text in [process["cause"], *house.get("/v1/processes/C1/failure")["last_lines"]] if process["state"] == "backoff" else []:
        assert text.isprintable() and len(text) <= 600
    house.post("/v1/processes/C1/stop")
    text, offset = "", 0
    while True:
        piece = house.get(f"/v1/logs/C1?offset={offset}&limit=1048576")
        text, offset = text + piece["text"], piece["next"]
        if offset == piece["size"]:
            break
    assert "\ufffd\ufffd\n" in text and "€\n" in text and "y" * 10_000_000 in text


def test_reading_by_offset(tmp_path: Path) -> None:
    record = Record("C1", "client")
    log = LogFile(tmp_path / "C1.log", record)
    assert log.read(0, 100) == {"offset": 0, "next": 0, "size": 0, "text": "", "rotated": False}
    log.path.write_bytes("aé\n".encode() * 3)
    assert log.read(0, 6)["text"] == "aé\na" and log.read(0, 6)["next"] == 5  # half a character waits for the next call
    assert log.read(-4, 100)["text"] == "aé\n"
    assert log.read(-1000, 100)["offset"] == 0
    record.log_base = 100  # rotated; the old part is in .1
    (tmp_path / "C1.log.1").write_bytes(b"0123456789")
    answer = log.read(95, 100)
    assert answer == {"offset": 95, "next": 100, "size": 112, "text": "56789", "rotated": True}
    assert log.read(100, 100)["rotated"] is False
    assert log.read(0, 4) == {"offset": 100, "next": 104, "size": 112, "text": "aé\n", "rotated": True}
    assert log.read(5000, 4)["offset"] == 100  # somebody emptied the file


@pytest.mark.parametrize(
    ("before", "rotated", "left"),
    [
        (b"a\nb\n", b"a\nb\n", b""),
        (b"a\nunfinished", b"a\n", b"unfinished"),
        (b"x\n" + b"y" * 3_000_000, b"x\n", b"y" * 3_000_000),
        (b"no line yet", None, b"no line yet"),
    ],
)
def test_rotation(tmp_path: Path, before: bytes, rotated: bytes | None, left: bytes) -> None:
    log = tmp_path / "C1.log"
    log.write_bytes(before)
    log.with_name("C1.log.1").write_bytes(b"older")
    rotation = Rotation(log, 3)
    log.write_bytes(before[: len(before) // 2])
    rotation.copy()
    log.write_bytes(before)  # written meanwhile
    rotation.copy()
    assert rotation.cut(lambda _: None) == len(rotated or b"")
    assert log.read_bytes() == left
    if rotated is None:
        assert log.with_name("C1.log.1").read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 2
    else:
        assert log.with_name("C1.log.1").read_bytes() == rotated and log.with_name("C1.log.2").read_bytes() == b"older"


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "C1.log"
    log.write_bytes(b"line\n" * 400_000)
    log.with_name(".C1.log.rotating").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space"):
        Rotation(log, 3).copy()
    assert log.stat().st_size == 2_000_000 and list(tmp_path.iterdir()) == [log]
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=1 << 30, free=3_000_000))
    with pytest.raises(OSError, match="No space"):  # it would take most of what a run may need
        Rotation(log, 3).copy()
    assert list(tmp_path.iterdir()) == [log]
    with pytest.raises(OSError, match="No space"):  # nor is its writer held for that, every second
        asyncio.run(LogFile(log, new_record("C1")).rotate_over(1000, 3, held=None, save=None))  # type: ignore[arg-type]
