"""A client as a program: `python -m poweranger.client.standalone_client --client-id C1`.

It loads TensorFlow once, waits for the server as long as it takes, and serves run after run until it is stopped.
SIGTERM ends it at once, even while it trains, with exit code 0. SIGUSR1 does so once the answer it works on is sent.
"""
from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import gc
import os
import queue
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from poweranger.errors import UserError, run_program
from poweranger.notify import notify, say
from poweranger.run_config import KEYS, find_key, from_environment, from_pyproject, resolve

SITE_KEYS = [key.name for key in KEYS if key.reader == "site"]
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
UNUSED = ("h5py", "sklearn")  # Keras does without them; it would load them, where they are installed: 11 and 42 MB, and a second
M_ARENA_MAX, ARENAS = -8, 2  # malloc.h; glibc's default is 8 a core, each of which keeps what it once got


def main() -> int:
    """The program. It ends by a signal (exit code 0) or an error."""
    for number in (*_signals(), signal.SIGUSR1):
        signal.signal(number, lambda *_: os._exit(0))  # until there is a node, there is nobody to tell
    options = _parse()
    config = _site_config(options)

    log = functools.partial(say, options.client_id)

    def status(text: str) -> None:
        notify(READY=1, STATUS=text)  # READY each time: a supervisor that was restarted missed the first

    # Files that are wrong are said before TensorFlow is loaded, which takes seconds.
    from poweranger.client.connection import load_private_key, load_root_certificates
    from poweranger.client.node import Node

    trust = load_root_certificates(options.root_certificates) if options.root_certificates else None
    key = load_private_key(options.private_key) if options.private_key else None
    limit_process(config["threads"])
    with loading():
        from poweranger.client import client_app

        client_app.preload(config["threads"], config["gpu-memory-mb"])
    node = Node(
        client_app.app, options.server_address, {"client-id": options.client_id, "data-dir": options.data_dir} | config,
        trust=trust, key=key, log=log, status=status,
    )
    notify(READY=1, STATUS="waiting for the server")
    return serve(node, log)


def serve(node: Any, log: Callable[[str], None]) -> int:
    """Run `node` until a signal comes or it fails; ends the process without waiting for a training step.

    The node works in a thread of its own: the main thread stays free for signals while TensorFlow computes.
    """
    end: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()  # its `put` is safe in a signal handler
    for number in _signals():
        signal.signal(number, lambda *_: end.put(0))

    def finish() -> None:
        log("finishes what it works on, then stops")
        node.finish()
        end.put(0)

    signal.signal(signal.SIGUSR1, lambda *_: threading.Thread(target=finish, daemon=True).start())

    def work() -> None:
        try:
            node.run()
        except BaseException as error:
            end.put(error)

    threading.Thread(target=work, name="node", daemon=True).start()
    outcome: int | BaseException | None = None
    while outcome is None:  # a signal that comes just before the wait would be seen only after it
        with contextlib.suppress(queue.Empty):
            outcome = end.get(timeout=0.5)
    notify(STOPPING=1)
    node.leave()
    if isinstance(outcome, UserError):
        raise outcome
    if isinstance(outcome, BaseException):
        traceback.print_exception(outcome)
        return 1
    log("stopped")
    os._exit(0)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Import large libraries within: no garbage is collected meanwhile, which finds little and takes a fifth of the time.

    What has been imported is not looked through later, either: in a fork that would copy all of it.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def limit_process(threads: int) -> None:
    """Set what libraries look at when they are loaded: so before TensorFlow is."""
    for name in UNUSED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def _signals() -> list[signal.Signals]:
    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    return [number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP


def _parse() -> argparse.Namespace:
    environment = os.environ
    host, port = environment.get("FLOWER_HOST") or "127.0.0.1", environment.get("FLOWER_PORT") or "8081"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # a server listens there; a client connects here
    default = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    parser = argparse.ArgumentParser("python -m poweranger.client.standalone_client", description="One site of the federation.")
    parser.add_argument("--client-id", required=True, help="this site's name: letters, digits, '.', '_' and '-'")
    parser.add_argument("--server-address", default=default, metavar="HOST:PORT", help="where the server listens (default %(default)s)")
    parser.add_argument("--data-dir", default=environment.get("DATA_DIR", ""), help="folder of class folders, or .npz file (default $DATA_DIR)")
    parser.add_argument("--root-certificates", type=Path, metavar="CA", help="PEM file that the server's certificate is checked with: TLS")
    parser.add_argument("--private-key", type=Path, metavar="KEY", help="this site's key, for a server with --client-keys")
    parser.add_argument("--threads", help=find_key("threads").help)
    parser.add_argument("--project", type=Path, default=Path.cwd(), metavar="DIR", help="folder of pyproject.toml (default: the current one)")
    options = parser.parse_args()
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", options.client_id):
        raise UserError(f"--client-id {options.client_id!r} is not allowed: letters, digits, '.', '_' and '-', 64 at most")
    host, _, port = options.server_address.rpartition(":")
    if not re.fullmatch(r"\[[0-9A-Fa-f:.%a-z]+\]|[^\s:/@]+", host) or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"server address {options.server_address!r} is none: give HOST:PORT, such as 127.0.0.1:8081")
    if not options.project.is_dir():
        raise UserError(f"--project {options.project} is no folder: give the one of pyproject.toml")
    if options.private_key and not options.root_certificates:
        raise UserError("--private-key needs TLS: give --root-certificates, too")
    return options


def _site_config(options: argparse.Namespace) -> dict[str, Any]:
    """The keys that each client reads for itself; a data folder that `strict-data` refuses ends the program here."""
    flags = {"threads": find_key("threads").parse(options.threads)} if options.threads else {}
    values = resolve(from_pyproject(options.project / "pyproject.toml"), from_environment(os.environ), flags)
    if values["strict-data"] and not options.data_dir:
        raise UserError("strict-data = true, but there are no data: set DATA_DIR or give --data-dir")
    if values["strict-data"] and not os.path.exists(options.data_dir):
        raise UserError(f"DATA_DIR {options.data_dir} does not exist: correct it, or set strict-data = false")
    return {name: values[name] for name in SITE_KEYS}


if __name__ == "__main__":
    run_program("client", main)
