"""The interface of one tab: `python -m fedtui.web.inside --project DIR`. The web server starts it; it talks through its pipes."""
from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

from textual.drivers.web_driver import WebDriver

from fedtui.project import Project
from fedtui.tui import terminal
from fedtui.tui.app import FedApp
from fedtui.tui.store import Looker
from poweranger.errors import run_program


class TabDriver(WebDriver):
    """Ends the interface when nobody is at the other end any more, as a terminal does by SIGHUP."""

    def run_input_thread(self) -> None:
        """Read until the input ends: the server does that, or its death."""
        super().run_input_thread()
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    """Be the interface until the tab is closed, or it is left."""
    parser = argparse.ArgumentParser("python -m fedtui.web.inside", description=__doc__)
    parser.add_argument("--project", type=Path, required=True)
    for switch in ("--read-only", "--no-mouse", "--ascii"):
        parser.add_argument(switch, action="store_true")
    options = parser.parse_args()
    project = Project.find(options.project)
    project.state  # noqa: B018  # refuses a folder that cannot be used
    size = int(os.environ.get("COLUMNS", "80")), int(os.environ.get("ROWS", "24"))
    terminal.prepare()
    app = FedApp(project, read_only=options.read_only, ascii=options.ascii, look=Looker(project).look)
    app.driver_class = TabDriver
    app.run(mouse=not options.no_mouse, size=size)
    return app.return_code or 0


if __name__ == "__main__":
    run_program("fedtui", main)
