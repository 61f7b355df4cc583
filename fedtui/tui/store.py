"""What the screens show. A background thread looks (`look`), the UI thread takes over what it saw (`take`)."""
from __future__ import annotations

import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fedtui.cleaning import clean
from fedtui.processes import ACTIVE, CLIENT_HOST, GOING_ON
from fedtui.project import Project
from poweranger.errors import UserError

if TYPE_CHECKING:
    from fedtui.client import DaemonClient
    from fedtui.metrics import RunSummary
    from fedtui.table import Table
    from fedtui.tui.project_file import ProjectFile

HISTORY = 600  # measurements of memory kept of a process: ten minutes
RUNS_READ = 16  # runs whose tables are kept up to date at once

News = dict[str, Any]
RunTables = Mapping[str, "Table"]


@dataclass(frozen=True)
class Note:
    """One message to the user; `remedy` says what to do about it."""

    time: float
    severity: str  # information, warning, error
    text: str
    remedy: str = ""


@dataclass
class Store:
    """All that is known of the project. Its texts are clean.

    Attributes
    ----------
    processes : as `ps --json` lists them.
    failures : why each failed process failed, as `GET /v1/processes/{name}/failure` answers; changes with "processes".
    memory : as `GET /v1/memory` answers: `machine` and `processes`.
    progress : `progress.json` of the newest run, with `run` and `outcome`; `run` is None when there is none.
    run : `run.toml` of that run: `clients`, `synthetic` (who trains on made-up images), `config`, ...; empty without one.
    runs : summaries of all runs, newest first.
    info : what the daemon says of itself.
    history : per process (seconds since 1970, PSS in MB), a measurement a second at most.
    notes : the messages so far, oldest first.
    daemon_ok, daemon_error : whether the daemon answered last time, and why it did not.
    loaded : whether the first look is done: before it, nothing is known yet.
    file : run configuration and roster as they stand in `pyproject.toml`; None before the first look. Changes as "file".
    selected : the process that Overview and Logs are about; empty when a filter hides all.
    viewed : the run that Metrics and Rounds are about; None for the newest.
    picked : the runs to lay over each other in Metrics, by name.
    pending : what has been asked of a process and is not done yet, such as {"C1": "stopping"}.
    read_only : nothing may be started, stopped or changed.
    """

    ALL: ClassVar[frozenset[str]] = frozenset({"processes", "memory", "progress", "runs", "metrics", "notes", "daemon", "file"})

    project: Project
    read_only: bool = False
    processes: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    runs: list[RunSummary] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    history: dict[str, deque[tuple[float, float]]] = field(default_factory=dict)
    notes: deque[Note] = field(default_factory=lambda: deque(maxlen=500))
    daemon_ok: bool = False
    daemon_error: str = ""
    loaded: bool = False
    file: ProjectFile | None = None
    selected: str = "server"
    viewed: str | None = None
    picked: set[str] = field(default_factory=set)
    pending: dict[str, str] = field(default_factory=dict)
    _tables: dict[str, dict[str, Table]] = field(default_factory=dict)
    _wanted: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def process(self, name: str | None = None) -> dict[str, Any] | None:
        """The process called `name`, else the selected one; None when there is no such process."""
        return next((process for process in self.processes if process["name"] == (self.selected if name is None else name)), None)

    @property
    def site_of(self) -> str:
        """The server's address where this is a site only; else empty."""
        roster = self.file.roster if self.file else None
        return roster.server_address if roster and roster.role == "site" else ""

    @property
    def no_run(self) -> str:
        """Where runs are to be seen that are not here; empty where they would be."""
        return f"This is a site of {self.site_of}.\n\nRuns and their results are at the server." if self.site_of else ""

    @property
    def active(self) -> list[str]:
        """The names of the processes that run."""
        return [process["name"] for process in self.processes if process["state"] in ACTIVE]

    @property
    def going_on(self) -> list[str]:
        """The names of those that go on when nobody looks: they run and are not being stopped, or start by themselves later."""
        return [process["name"] for process in self.processes if process["state"] in GOING_ON]

    def tables(self, run: str) -> RunTables:
        """The tables of a run by name (`fit_metrics`, ...), to be read on the UI thread.

        Empty when they have not been read yet: this call has asked for it, and "metrics" is among `changed` when they are
        there. They stay up to date from then on.
        """
        self._wanted[run] = None
        self._wanted.move_to_end(run)
        while len(self._wanted) > RUNS_READ:
            self._tables.pop(self._wanted.popitem(last=False)[0], None)
        return self._tables.get(run, {})

    def wanted(self) -> dict[str, bool]:
        """The runs whose tables somebody shows, and whether they are here already. Called from the thread that looks."""
        return {run: run in self._tables for run in list(self._wanted)}  # a list at once: the other thread may change it meanwhile

    def take(self, news: News) -> frozenset[str]:
        """Take over what a look has seen; the names of what has changed."""
        changed: set[str] = {name for name in ("processes", "memory", "progress", "runs", "file") if name in news and news[name] != getattr(self, name)}
        if news.get("failures", self.failures) != self.failures:
            changed.add("processes")
        if news.get("run", self.run) != self.run:
            changed.add("progress")
        if (news["daemon_ok"], news["daemon_error"]) != (self.daemon_ok, self.daemon_error) or not self.loaded:
            changed.add("daemon")
        tables = news.pop("tables")
        if tables:
            changed.add("metrics")
            self._tables |= {run: found for run, found in tables.items() if run in self._wanted}
        for name, value in news.items():
            setattr(self, name, value)
        if "runs" in changed and self.runs:  # what has been removed is looked at no more; without any, the folder may be away for a moment
            there = {run.name for run in self.runs}
            self.viewed, self.picked = self.viewed if self.viewed in there else None, self.picked & there
        self.loaded = True
        if "processes" in news:
            self._remember_memory()
        return frozenset(changed)

    def _remember_memory(self) -> None:
        now = time.time()
        host = [size for size in self.memory.get("processes", ()) if size["name"] == CLIENT_HOST]
        for process in (*self.processes, *host):
            if (size := process.get("pss_mb")) is not None:
                self.history.setdefault(process["name"], deque(maxlen=HISTORY)).append((now, size))
        for name in self.history.keys() - {process["name"] for process in (*self.processes, *host)}:
            del self.history[name]


class Looker:
    """Looks at the daemon and at the files of runs, in one thread; what it keeps is its own."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._client: DaemonClient | None = None
        self._tables: dict[str, dict[str, Table]] = {}
        self._summaries: dict[Path, tuple[object, RunSummary]] = {}
        self._run: tuple[object, dict[str, Any]] = (None, {})
        self._file: tuple[object, ProjectFile | None] = (None, None)
        self._failures: dict[str, tuple[object, dict[str, Any]]] = {}
        self._first = True

    def look(self, wanted: Mapping[str, bool]) -> News:
        """All there is to see now, with the tables of the `wanted` runs that are lacking or have changed.

        The first time only what the daemon says: reading runs imports NumPy, and that takes longer.
        """
        news: News = {"daemon_ok": True, "daemon_error": ""}
        try:
            client = self._daemon()
            news |= {"processes": client.processes(), "memory": client.memory(), "info": client.info(), "progress": client.progress()}
            news["failures"] = self._read_failures(client, news["processes"])
        except (UserError, OSError) as error:
            news |= {"daemon_ok": False, "daemon_error": str(error)}
        news = clean_all(news)
        if self._first:
            self._first = False
            return {**news, "tables": {}}
        with contextlib.suppress(OSError):
            news["runs"] = self._runs()
        if "progress" in news:  # else they stay together as they were seen last
            news["run"] = self._newest(news["progress"].get("run"))
        news["file"] = self._project_file()
        news["tables"] = self._read_tables(wanted)
        return news

    def _daemon(self) -> DaemonClient:
        from fedtui.client import DaemonClient

        if self._client is None:
            self._client = DaemonClient(self.project)
        return self._client

    def _read_failures(self, client: DaemonClient, processes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Failure cards; asked for once a failure."""
        found: dict[str, tuple[object, dict[str, Any]]] = {}
        for process in processes:
            if process["state"] in ("failed", "backoff"):
                name, mark = process["name"], (process["pid"], process["started"], process["restarts"], process["exit_code"], process["cause"])
                old = self._failures.get(name)
                found[name] = old if old and old[0] == mark else (mark, client.failure(name) or {})
        self._failures = found
        return {name: card for name, (_, card) in found.items() if card}

    def _runs(self) -> list[RunSummary]:
        """Summaries of all runs; only what has changed is read again, and what goes on."""
        from fedtui.metrics import summary
        from poweranger.results import list_runs

        found: dict[Path, tuple[object, RunSummary]] = {}
        for path in list_runs(self.project.results):
            old = self._summaries.get(path)
            goes_on = old is not None and old[1].outcome == "running" and time.monotonic() // 5  # it may end without a word
            mark = (_mark(path / "run.toml"), _mark(path / "metrics" / "eval_metrics.csv"), goes_on)
            found[path] = old if old and old[0] == mark else (mark, summary(path))
        self._summaries = found
        return [summary for _, summary in found.values()]

    def _newest(self, name: str | None) -> dict[str, Any]:
        """What `run.toml` tells of a run; nothing when it cannot be read: never what another run's told."""
        from poweranger.results import read_info

        if name is None:
            return {}
        path = self.project.results / "runs" / name
        if (mark := (name, _mark(path / "run.toml"))) != self._run[0]:
            try:
                self._run = (mark, clean_all(read_info(path)))
            except UserError:
                return {}
        return self._run[1]

    def _project_file(self) -> ProjectFile | None:
        from fedtui.tui import project_file

        if (mark := _mark(self.project.pyproject)) != self._file[0] or self._file[1] is None:
            self._file = (mark, project_file.read(self.project))
        return self._file[1]

    def _read_tables(self, wanted: Mapping[str, bool]) -> dict[str, dict[str, Table]]:
        """Copies of the tables of runs in which something has changed: the UI thread reads them while this one reads on."""
        from fedtui.metrics import run_tables

        self._tables = {run: self._tables.get(run) or run_tables(self.project.results / "runs" / run) for run in wanted}
        changed = {}
        for run, tables in self._tables.items():
            if [table for table in tables.values() if table.poll()] or not wanted[run]:
                changed[run] = {name: table.copy() for name, table in tables.items()}
        return changed


def clean_all(value: Any) -> Any:
    """A value from JSON or TOML with all its texts cleaned."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(name)): clean_all(item) for name, item in value.items()}
    return [clean_all(item) for item in value] if isinstance(value, list) else value


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
