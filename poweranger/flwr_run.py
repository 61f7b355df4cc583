"""What has to be arranged for `flwr run .`, at the two moments when Flower imports this package.

1. In the `flwr` command: it looks up the ServerApp, and so imports the package, before it asks for a SuperLink and
   packs the project. Here the configuration is checked, the caller's folder and environment are noted for the copy
   (`origin.py`), and a local SuperLink is chosen that installs nothing.
2. In the `flwr-simulation` process: it imports the ServerApp and ClientApp before it starts Ray, which reads its own
   settings from the environment.

That Flower imports in this order is documented nowhere: tests/e2e/test_simulation.py fails when it changes. Of
Flower, only environment variables and the names of `flwr run`'s parameters are used.
"""
from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poweranger import origin, run_config
from poweranger.errors import UserError

NO_INSTALLATION = "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"  # read by a SuperLink when it starts
SUPERLINK_PORT, CONTROL_PORT = "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT", "FLWR_LOCAL_CONTROL_API_PORT"
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
VIRTUAL_CLIENTS = QUIET | {
    # Flower gives a virtual client two CPUs, so two make one client at a time, however many there are. Ray would
    # also reserve 30 % of the memory for objects: a model needs little of it.
    "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": 2, "object_store_memory": 100_000_000}),
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Flower gives a client no GPU by default; Ray would then hide them all
    "MALLOC_ARENA_MAX": "2",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def prepare() -> None:
    """Called when Flower's command or simulation imports the package."""
    if "flwr.cli.app" in sys.modules:
        _prepare_command()
    else:
        for name, value in VIRTUAL_CLIENTS.items():
            os.environ.setdefault(name, value)
        origin.adopt_caller()


def _prepare_command() -> None:
    import click  # Flower's command line is made with it

    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "run":
        return
    try:
        _prepare_run(context.params)
    except UserError as error:
        click.echo(f"flwr run: {error}", err=True)
        raise click.exceptions.Exit(error.exit_code) from None


def _prepare_run(parameters: Mapping[str, Any]) -> None:
    app = str(parameters.get("app") or ".")
    if app.startswith("@"):
        return  # an app from elsewhere: Flower fetches it
    root = Path(app).expanduser().resolve()
    overrides = _overrides(parameters.get("run_config_overrides") or ())
    given = run_config.from_environment(os.environ)
    values = run_config.resolve(run_config.from_pyproject(root / "pyproject.toml"), given, overrides)
    local = _is_local(parameters.get("superlink"))
    if local:
        choose_superlink()
        os.environ.update(QUIET | {NO_INSTALLATION: "1"})
    overridden = {run_config.BY_NAME[name].environment for name in overrides}
    environment = {name: value for name, value in os.environ.items() if name not in overridden}
    try:
        if local:
            origin.write_note(root, environment | site_environment(values))
        else:
            # A federation of its own: its server has its own folder, and nothing of this machine goes there, not even the
            # note of a local run that was killed, or is still watched.
            (root / origin.NOTE).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"the project folder {root} cannot be written ({error.strerror}): copy it to one of your own") from None


def site_environment(values: Mapping[str, run_config.Value]) -> dict[str, str]:
    """The keys that a client reads for itself at its start, as the variables that a virtual client finds them in."""
    return {key.environment: str(values[key.name]) for key in run_config.KEYS if key.reader == "site" and key.environment}


def _overrides(words: Sequence[str]) -> dict[str, run_config.Value]:
    """`--run-config` as Flower takes it: `k=v` words, or one TOML file."""
    if len(words) == 1 and words[0].endswith(".toml"):
        path = Path(words[0]).expanduser()
        try:
            return run_config.check_all(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
        except (OSError, ValueError) as error:
            raise UserError(f"--run-config {path} cannot be read: {error}") from None
    return run_config.parse_overrides(" ".join(words))


def _is_local(name: str | None) -> bool:
    """Whether the connection `name` (None: the default one) of Flower's config.toml is the SuperLink that Flower starts."""
    try:
        table = tomllib.loads((flwr_home() / "config.toml").read_text(encoding="utf-8"))["superlink"]
        return str(table[name or table["default"]].get("address", ":local:")).startswith(":local")
    except FileNotFoundError:  # written at the first use, with `local` as default
        return name in (None, "local")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False  # Flower says what is wrong with it


def flwr_home() -> Path:
    """Flower's own folder of the user."""
    return Path(os.environ.get("FLWR_HOME") or Path.home() / ".flwr")


def choose_superlink() -> None:
    """See to it that the run goes through a local SuperLink with this Python that installs nothing.

    A SuperLink that another project has left behind keeps that project's Python and its wish to install packages for
    every run. Flower has read its port by now, so the command starts anew with another port and a database of its own.
    """
    wanted = int(os.environ.get(SUPERLINK_PORT) or 39091)
    listeners = _listeners()
    port = next((port for port in range(wanted, 65000, 100) if _usable(port, listeners)), wanted)
    if port == wanted:
        return
    settings = {"FLWR_HOME": str(flwr_home() / "federated-health"), SUPERLINK_PORT: str(port), CONTROL_PORT: str(port + 2)}
    words = " ".join(f"{name}={value}" for name, value in settings.items())
    print(f"The SuperLink on port {wanted} belongs to another project; this run has its own. For flwr ls, log and stop:")
    print(f"  export {words}", flush=True)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | settings)


def _listeners() -> dict[int, int | None]:
    """Ports somebody listens on -> pid, None where it is another user's process."""
    import psutil

    connections = psutil.net_connections(kind="tcp")
    return {c.laddr.port: c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr}


def _usable(port: int, listeners: Mapping[int, int | None]) -> bool:
    """Whether `port` is free, or its SuperLink is one of ours: of the same Python, and installing nothing."""
    import psutil

    if port not in listeners:
        return True
    pid = listeners[port]
    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        same_python = Path(process.cmdline()[0]).parent == Path(sys.executable).parent
        return same_python and process.environ().get(NO_INSTALLATION) == "1"
    except (psutil.Error, IndexError):
        return False
