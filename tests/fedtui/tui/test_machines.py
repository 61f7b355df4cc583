"""Several machines on the screen: clients elsewhere beside those here, and a site that has no server."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedtui.project import Project
from fedtui.tui import project_file
from tests.fedtui.tui.conftest import Screen
from tests.fedtui.tui.test_overview import PROGRESS, news, process, project  # noqa: F401

Interface = Callable[..., object]
FAR = {
    "name": "aachen", "role": "remote", "state": "connected", "pid": None, "status": "", "uptime_s": 190.0, "restarts": 0, "started": "2026-01-31T12:00:00+00:00",
    "address": "192.0.2.7", "answered": None, "log": "", "restart_policy": "no",
}  # fmt: skip


def test_clients_on_other_machines_stand_beside_those_here(project: Project, interface: Interface) -> None:  # noqa: F811
    async def script(screen: Screen) -> None:
        seen = news(process("server"), process("C1"), progress=PROGRESS)
        seen["processes"].append(FAR)
        screen.app.show_news(seen)
        await screen.shows("2 of 2 run, 1 on other machines")
        await screen.until(lambda: all(word in screen.row("aachen") for word in ("connected", "on 192.0.2.7; no answer yet", "3 min")), "its row")

    interface(project, script, (160, 40), live=False)


@pytest.mark.parametrize("key", ["2", "3", "7"])
def test_a_site_says_so_and_that_its_results_are_at_the_server(tmp_path: Path, project: Project, interface: Interface, key: str) -> None:  # noqa: F811
    with project.pyproject.open("a") as file:
        file.write('[tool.fedtui]\nrole = "site"\nserver-address = "fl.example.org:8081"\n[tool.fedtui.clients.aachen]\n')

    async def script(screen: Screen) -> None:
        screen.app.show_news({**news(process("aachen")), "file": project_file.read(project)})
        await screen.shows("This is a site of fl.example.org:8081: runs and their results are at the server", "site of fl.example.org:8081 hospital")
        await screen.press(key)
        await screen.shows("This is a site of fl.example.org:8081.", "Runs and their results are at the server.")

    interface(project, script, live=False)
