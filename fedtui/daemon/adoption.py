"""Finds again what an earlier daemon started: by pid and start time, never by pid alone."""
from __future__ import annotations

from collections.abc import Callable

from fedtui.daemon import port, proc, state
from fedtui.daemon.commands import MARK
from fedtui.daemon.process import Process
from fedtui.daemon.state import SERVER, Record, State, new_record
from fedtui.project import Project
from fedtui.roster import Roster


def take_over(project: Project, roster: Roster, add: Callable[[Record], Process]) -> list[Process]:
    """All processes that `processes.json` tells of, and those of ours that it does not; `add` puts one into the table.

    What still lives is watched on; what has ended meanwhile has taken note of it.
    """
    records, same_boot = state.load(project.processes_file)
    for record in records:
        if record.state in state.LIVE and not record.pid:  # that daemon died while it started this one
            record.state = State.STOPPED
    told = {record.name for record in records if record.state in state.LIVE}
    processes = {record.name: add(record) for record in records}
    for process in processes.values():
        if process.live and same_boot:
            process.adopt()
        elif not same_boot and process.record.state in (*state.LIVE, State.BACKOFF, State.HELD):
            did = "ran" if process.live else "waited"
            process.become(State.FAILED, wanted=False, waits_for="", reason="", cause=f"the machine was restarted while it {did}")
    _find_lost(project, add, processes, told)
    server = processes.get(SERVER)
    if server and server.record.state is State.STARTING:  # it may have said READY=1 when nobody listened
        holder = port.holder(roster.host, roster.port)
        if holder and server.belongs(holder.pid):
            server.become(State.READY)
    return list(processes.values())


def _find_lost(project: Project, add: Callable[[Record], Process], processes: dict[str, Process], told: set[str]) -> None:
    """The file was lost or could not be written: the mark in their environment tells our processes all the same.

    Of those `told` of, only leftovers can be found here.
    """
    stats, ours = proc.every(), f"{project.state}/"
    for ident, mark in sorted(proc.marks(stats, MARK), key=lambda found: found[0].start):  # the first of a tree is its root
        name = mark.removeprefix(ours)
        if not mark.startswith(ours) or stats[ident.pid].session != ident.pid or name in told:
            continue
        told.add(name)
        if name not in processes:
            processes[name] = add(new_record(name))
        processes[name].become(State.RUNNING, pid=ident.pid, start=ident.start, wanted=True)
        processes[name].adopt()
