"""What the interface costs on a terminal of 120x40: first paint, bytes sent, CPU, memory; beside a bare Textual app.

    python -m benchmarks.interface [--seconds 30]

The real daemon supervises a server and five clients, which are small scripts. They are idle at first; then they play a run: a
round every three seconds with its rows, progress, states, and three log lines a second. Before each measurement what the
first paint costs is over. Bytes are those that arrive at the other end of the pseudo-terminal.
"""
from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.common import Verdict, free_port, machine

PROJECT = Path(__file__).resolve().parents[1]
CLIENTS = tuple(f"C{number}" for number in range(1, 6))
ROUND_S = 3.0
PAINTED = 2000  # bytes after which a screen is there
STARTS = 7

BARE = """
from textual.app import App
from textual.widgets import Footer, Header, Static
class Bare(App):
    BINDINGS = [("q", "quit", "quit")]
    def compose(self):
        yield Header()
        yield Static("\\n".join("bare " * 20 for _ in range(36)))
        yield Footer()
Bare().run()
"""


# What the daemon supervises


def daemon(root: Path) -> None:
    """The real daemon, which starts the scripts below in place of server and clients."""
    from fedtui.daemon.commands import Commands, RunWish
    from fedtui.daemon.run import run
    from fedtui.project import Project
    from fedtui.roster import Client, Roster

    class Scripts(Commands):
        def server(self, roster: Roster, wish: RunWish) -> list[str]:
            return [sys.executable, "-m", "benchmarks.interface", "--play", "server", str(root)]

        def client(self, roster: Roster, client: Client) -> list[str]:
            return [sys.executable, "-m", "benchmarks.interface", "--play", client.name, str(root)]

    project = Project.find(root)
    run(project, Scripts(project))


def play(name: str, root: Path) -> None:
    """A process that is idle until `go` appears in the project, then takes part in a run."""
    from poweranger.notify import notify

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    notify(READY=1)
    notify(STATUS="idle")
    while not (root / "go").exists():
        time.sleep(0.1)
    if name == "server":
        play_server(root)
    number, begin = 0, time.monotonic()
    while True:
        number += 1
        notify(STATUS=f"round {number} of 1000, training")
        time.sleep(max(begin + (number - 0.5) * ROUND_S - time.monotonic(), 0))
        say(f"{name} round {number}: trained on 296 images, loss {1 / number:.4f}, accuracy {1 - 0.5 / number:.4f}, 0.71 s, sent")
        notify(STATUS=f"round {number} of 1000, evaluating")
        time.sleep(max(begin + number * ROUND_S - time.monotonic(), 0))


def play_server(root: Path) -> None:
    """Rounds with all their rows; three lines a second in the log, which is the one that is shown."""
    from poweranger.notify import notify
    from poweranger.results import Run

    run = Run.create(root / "results", "benchmark", {"num-server-rounds": 1000})
    run.update(clients=list(CLIENTS))
    begin = time.monotonic()
    for number in range(1, 1000):
        for phase, start in (("fit", 0.0), ("eval", 0.5)):
            notify(STATUS=f"round {number} of 1000, {'training' if phase == 'fit' else 'evaluating'}")
            for part, replied in enumerate((CLIENTS[:0], CLIENTS[:2], CLIENTS[:3], CLIENTS[:4])):
                run.progress({"phase": phase, "round": number, "rounds": 1000, "connected": list(CLIENTS), "sampled": list(CLIENTS), "replied": list(replied),
                              "seconds_left": (1000 - number) * ROUND_S, "loss": 1 / number, "accuracy": 1 - 0.5 / number})  # fmt: skip
                time.sleep(max(begin + (number - 1 + start + part / 8) * ROUND_S - time.monotonic(), 0))
                say(f"round {number}: {len(replied)} of 5 have answered in {phase}")
        rows = {
            "fit_metrics": [{"loss": 1.1 / number, "accuracy": 1 - 0.6 / number}], "eval_metrics": [{"loss": 1 / number, "accuracy": 1 - 0.5 / number}],
            "fit_client_metrics": [{"client_id": name, "num_examples": 296, "loss": 1.1 / number} for name in CLIENTS],
            "participation": [{"phase": phase, "client_id": name, "outcome": "ok", "seconds": 0.7, "reason": ""} for phase in ("fit", "eval") for name in CLIENTS],
        }  # fmt: skip
        run.commit_round(number, rows, None)
        say(f"round {number}/1000  loss {1 / number:.3f}  accuracy {1 - 0.5 / number:.3f}  clients 5/5  3.0 s  about 50 min left")


def say(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), text, flush=True)


# What is measured


class Terminal:
    """A program on a pseudo-terminal whose other end is read at once."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.began = time.monotonic()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            time.sleep(0.05)  # until the size is set
            os.chdir(folder)
            os.execvpe(command[0], command, os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONPATH": str(PROJECT), "LC_ALL": "C.UTF-8"})
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.began += 0.05
        self.process = psutil.Process(self.pid)

    def read(self, seconds: float) -> int:
        """Bytes that came within so many seconds."""
        end, count = time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                count += len(os.read(self.fd, 1 << 16))
        return count

    def painted(self, text: bytes = b"") -> float:
        """Seconds from the command to the first screen, and further until `text` is there."""
        seen = b""
        while len(seen) < PAINTED or text not in seen:
            if not select.select([self.fd], [], [], 60)[0]:
                raise RuntimeError("nothing was painted within 60 s")
            seen += os.read(self.fd, 1 << 16)
        return time.monotonic() - self.began

    def close(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@dataclass(frozen=True)
class Cost:
    """Of some seconds: bytes a second, percent of a core, MB of its own at the end (USS) and as everybody counts (RSS)."""

    rate: float
    cpu: float
    uss: float
    rss: float


def cost(terminal: Terminal, seconds: float) -> Cost:
    """Watch a program."""
    before = sum(terminal.process.cpu_times()[:2])
    rate = terminal.read(seconds) / seconds
    cpu = 100 * (sum(terminal.process.cpu_times()[:2]) - before) / seconds
    memory = terminal.process.memory_full_info()
    return Cost(rate, cpu, memory.uss / 1e6, memory.rss / 1e6)


def first_paints(ours: list[str], bare: list[str], folder: Path) -> tuple[float, float, float, float]:
    """Seconds to the first screen, medians: of ours, until the processes are there, of the bare app; and the median of the ratios.

    Ours and the bare one take turns: what else goes on on the machine moves their ratio least.
    """
    rows = []
    for _ in range(STARTS):
        row = []
        for command, text in ((ours, b""), (ours, b"of 6 run"), (bare, b"")):
            terminal = Terminal(command, folder)
            row.append(terminal.painted(text))
            terminal.close()
        rows.append(row)
    frame, processes, empty = (statistics.median(column) for column in zip(*rows, strict=True))
    return frame, processes, empty, statistics.median(row[0] / row[2] for row in rows)


def project(folder: Path) -> Path:
    """A project with five clients."""
    root = folder / "project"
    (root / "results").mkdir(parents=True)
    roster = "".join(f"[tool.fedtui.clients.{name}]\n" for name in CLIENTS)
    (root / "pyproject.toml").write_text(
        f'[tool.flwr.app]\npublisher = "benchmark"\n[tool.flwr.app.config]\nnum-server-rounds = 1000\n'
        f'[tool.fedtui]\nserver-address = "127.0.0.1:{free_port()}"\n{roster}'
    )
    return root


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30, help="of each measurement (default %(default)g)")
    parser.add_argument("--play", nargs=2, metavar=("NAME", "PROJECT"), help=argparse.SUPPRESS)
    parser.add_argument("--daemon", metavar="PROJECT", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.play:
        play(wanted.play[0], Path(wanted.play[1]))
    if wanted.daemon:
        daemon(Path(wanted.daemon))
        return 0
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        os.environ["XDG_STATE_HOME"], os.environ["PYTHONPATH"] = f"{folder}/state", str(PROJECT)
        return measure(project(Path(folder)), wanted.seconds)


def measure(root: Path, seconds: float) -> int:
    """With the daemon running."""
    from fedtui.client import DaemonClient
    from fedtui.project import Project

    ours, bare = [sys.executable, "-m", "fedtui"], [sys.executable, "-c", BARE]
    client = DaemonClient(Project.find(root))
    with (root / "daemon.log").open("wb") as log:
        supervisor = subprocess.Popen([sys.executable, "-m", "benchmarks.interface", "--daemon", str(root)], cwd=PROJECT, stdout=log, stderr=log)
    try:
        wait(lambda: client.running() is not None)
        client.up()
        wait(lambda: {process["state"] for process in client.processes()} == {"running"})
        paint, processes, bare_paint, ratio = first_paints(ours, bare, root)
        terminal = Terminal(bare, root)
        terminal.read(4)
        empty = cost(terminal, seconds / 3)
        terminal.close()
        terminal = Terminal(ours, root)
        try:
            terminal.read(8)
            idle = cost(terminal, seconds)
            (root / "go").touch()
            wait(lambda: json.dumps(client.progress()).find('"round": 3') > 0)
            terminal.read(2)
            running = cost(terminal, seconds)
        finally:
            terminal.close()
    finally:
        client.shutdown(stop=True)
        supervisor.wait(20)
    print(f"{machine()}; 120x40, a daemon and {1 + len(CLIENTS)} processes, {seconds:g} s each\n")
    print(f"a bare Textual app: first paint {bare_paint:.2f} s, {empty.rate:.0f} B/s, {empty.cpu:.1f} % of a core, {empty.rss:.0f} MB\n")
    verdict = Verdict()
    verdict.at_most("first paint", paint, 0.6, " s", f"the processes after {processes:.2f} s")
    verdict.at_most("first paint, against the bare app's", ratio, 1.5, "", "median of pairs")
    verdict.at_most("to the terminal, idle", idle.rate, 300, " B/s")
    verdict.at_most("to the terminal, in a run with 3 log lines a second", running.rate, 5000, " B/s")
    verdict.at_most("CPU, idle", idle.cpu, 3, " %", "of a core")
    verdict.at_most("CPU, in the run", running.cpu, 3, " %", "of a core")
    verdict.at_most("memory (RSS)", running.rss, 90, " MB", f"{running.uss:.0f} MB of its own; {running.rss / empty.rss:.2f} times the bare app's")
    return 0 if verdict.reached else 1


def wait(condition: object, seconds: float = 60) -> None:
    """Until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            raise RuntimeError("the processes of the benchmark do not start")
        time.sleep(0.05)


if __name__ == "__main__":
    raise SystemExit(main())
