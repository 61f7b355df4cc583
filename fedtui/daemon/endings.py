"""How a process that ended by itself has ended: gathers the facts that `causes` explains."""
from __future__ import annotations

from fedtui.daemon import causes, port, progress
from fedtui.daemon.measure import OomKills
from fedtui.daemon.process import Process
from fedtui.project import Project
from fedtui.roster import Roster


def judge(process: Process, project: Project, roster: Roster, oom: OomKills) -> str:
    """The cause of a failure, or "" for a good end."""
    record = process.record
    if record.exit_code is None and not record.signal:
        return _by_what_it_left(process, project)
    if record.exit_code == 0:
        return ""
    facts = causes.Facts(record.exit_code, record.signal, record.last_lines, oom_kill=oom.lately(), rss_mb=process.usage.rss_mb)
    return causes.explain(facts, lambda: str(port.holder(roster.host, roster.port) or ""))


def _by_what_it_left(process: Process, project: Project) -> str:
    """Nobody saw its exit code: a server's run says how it went, a client says `stopped` last."""
    record = process.record
    if record.role == "client":
        return "" if record.last_lines and record.last_lines[-1].endswith(" stopped") else causes.UNWATCHED
    info = progress.newest(project.results)
    if info.get("pid") != record.pid:
        return causes.UNWATCHED
    if info["outcome"] == "finished":
        return ""
    return str(info.get("reason") or f"its run {info['run']} is {info['outcome']}; {causes.UNWATCHED}")
