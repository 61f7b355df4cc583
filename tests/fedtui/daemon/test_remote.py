"""Clients on other machines, as the daemon lists them."""
from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedtui import certificates, keys
from tests.fedtui.daemon.conftest import House


def connected(root: Path, *nodes: tuple[str, str], minutes: float = 5) -> None:
    """What the server says of who is connected, for so long."""
    run = root / "results" / "runs" / "20260131-120000-x"
    (run / "metrics").mkdir(parents=True, exist_ok=True)
    if not (root / "results" / "metrics").is_symlink():
        (root / "results" / "metrics").symlink_to(run / "metrics")
    now = datetime.datetime.now(datetime.UTC)
    rows = [{"client": name, "address": address, "since": (now - datetime.timedelta(minutes=minutes)).isoformat(), "answered": ""} for name, address in nodes]
    (run / "progress.json").write_text(json.dumps({"updated": now.isoformat(), "nodes": rows}))


def test_they_are_listed_beside_those_here_and_cannot_be_started(house: House) -> None:
    house.post("/v1/processes/server/start")
    house.reach("running", "server")
    house.post("/v1/processes/C1/start")
    house.reach("running", "C1")
    connected(house.root, ("C1", "127.0.0.1"), ("C2", "192.0.2.2"), ("aachen", "192.0.2.3"))
    found = house.ps()
    assert list(found) == ["server", "C1", "C2", "aachen"]
    assert found["C1"]["role"] == "client"
    far = found["aachen"]
    assert (far["role"], far["state"], far["address"], far["answered"]) == ("remote", "connected", "192.0.2.3", None)
    assert 299 <= far["uptime_s"] < 360
    for name, address in (("aachen", "192.0.2.3"), ("C2", "192.0.2.2")):
        for action in ("start", "stop", "restart", "kill"):
            assert f"{name} is connected from {address} and was not started here" in house.refused(f"/v1/processes/{name}/{action}", 409)
    assert "C2 is connected from 192.0.2.2: not started here" in house.post("/v1/up")["notes"]
    assert house.ps()["C2"]["state"] == "connected"
    connected(house.root, ("C1", "127.0.0.1"), minutes=0)
    house.post("/v1/processes/C1/stop")
    assert house.ps()["C1"]["state"] == "stopped", "the server still lists the connection of the C1 that was here"
    connected(house.root, ("C1", "192.0.2.1"))
    assert house.ps()["C1"]["state"] == "connected", "before and after the one that was here"
    connected(house.root)
    assert house.ps()["C2"]["state"] == "stopped"


def test_what_an_earlier_server_said_does_not_count(house: House) -> None:
    connected(house.root, ("aachen", "192.0.2.3"))
    assert "aachen" not in house.ps()
    house.post("/v1/processes/server/start")
    house.reach("running", "server")
    assert "aachen" not in house.ps()
    (house.root / "results" / "metrics").resolve().parent.joinpath("progress.json").write_text("{half")
    assert "aachen" not in house.ps()


def test_a_certificate_that_ends_soon_is_told_to_who_is_attached(new_house: Callable[..., House], until: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    house = new_house("[tool.fedtui.clients.C1]\n")
    monkeypatch.setattr(certificates, "SERVER_DAYS", 20)
    keys.init(house.project, ["fl.example.org"])
    house.open()
    until(lambda: any("the server's certificate ends on" in note and "fedtui keys renew" in note for note in house.get("/v1/info")["notes"]))
