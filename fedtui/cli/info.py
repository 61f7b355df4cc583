"""The project's paths, versions and daemon: `info`; and the daemon in the foreground: `daemon`."""
from __future__ import annotations

import sys

from fedtui.cli import context
from fedtui.cli.context import Json
from fedtui.cli.output import say, write, write_json
from fedtui.version import version

PACKAGES = ("flwr", "tensorflow", "keras", "numpy", "textual", "plotext")


def info(as_json: Json = False) -> None:
    """Print paths, versions and the daemon's pid."""
    client = context.daemon()
    project = client.project
    running = client.running() or {}
    facts = {
        "project": project.root, "pyproject": project.pyproject, "results": project.results, "logs": project.logs,
        "state_dir": project.state, "socket": project.socket, "daemon_log": project.state / "daemon.log",
        "daemon_pid": running.get("daemon_pid"), "daemon_version": running.get("version"), "client_host_pid": running.get("client_host_pid"),
        "version": version(), "python": sys.version.split()[0], "executable": sys.executable,
        "versions": {package: version(package) for package in PACKAGES},
    }  # fmt: skip
    if as_json:
        write_json(facts)
        return
    for name, value in facts.items():
        text = ", ".join(f"{package} {number}" for package, number in value.items()) if isinstance(value, dict) else value
        write(f"{name.replace('_', ' '):16}{'none' if text is None else text}")


def daemon() -> None:
    """Run the daemon in the foreground. That is for a service manager (docs/systemd.md): commands start it by themselves."""
    from fedtui.daemon.run import AlreadyRuns, run

    try:
        run(context.project())
    except AlreadyRuns as note:
        say(note)
