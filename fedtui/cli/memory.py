"""What each process uses and will need, and what the memory guard does: `memory`."""
from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from fedtui.cli.context import Json, daemon
from fedtui.cli.output import write, write_json, write_table
from fedtui.memory_rules import STEPS, UNKNOWN, beyond_limit
from fedtui.processes import CLIENT_HOST

COLUMNS = {
    "name": "NAME", "uses": "USES (PSS)", "frees": "STOPPING FREES", "resident": "RESIDENT", "swap": "SWAP", "gpu": "GPU", "peak": "PEAK",
    "need": "NEEDS", "growth": "GROWTH", "note": "",
}  # fmt: skip
HISTORY = {"when": "TIME", "action": "ACTION", "process": "PROCESS", "left": "LEFT", "reserve": "RESERVE", "reason": "WHY"}


def memory(
    history: Annotated[bool, typer.Option("--history", help="What the memory guard has decided, and on which figures.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="With --history: the last N decisions.")] = 100,
    as_json: Json = False,
) -> None:
    """Show what each process uses, what it needs when it is started again, where that leads, and what the memory guard does."""
    client = daemon()
    if history:
        decisions = client.memory_history(limit)
        if as_json:
            write_json(decisions)
        else:
            write_table([_decision(decision) for decision in decisions], HISTORY, "the memory guard has not decided anything yet")
        return
    found, processes = client.memory(), client.processes()
    gpus = _gpus()
    if as_json:
        held = [process for process in processes if process["state"] == "held"]
        write_json({**found, "held": held, "gpus": gpus})
        return
    if limit_mb := found["machine"]["limit_mb"] or found["machine"]["total_mb"]:
        write(_machine(found["machine"], found["guard"]))
        write(_guard(found["guard"]))
        if found["guard"]["state"] != "off" and (wrong := beyond_limit(found["guard"]["reserve_mb"], limit_mb)):
            write(wrong, "yellow")
    else:
        write(f"{UNKNOWN}: the memory guard cannot act", "yellow")
    for gpu in gpus:
        write(f"GPU {gpu['name']}: {gpu['used_mb'] / 1024:.1f} of {gpu['total_mb'] / 1024:.1f} GB used")
    for forecast in found["guard"]["forecasts"]:
        write(f"forecast: {forecast['text']}", "yellow" if forecast["round"] is not None else None)
    pids = {process["name"]: process.get("pid") for process in processes}
    rows = [_row(process, pids.get(process["name"]), gpus) for process in found["processes"]]
    rows += [{"name": process["name"], "note": f"held: {process['reason']}"} for process in processes if process["state"] == "held"]
    write_table(rows, COLUMNS, "nothing runs; `fedtui up` starts the federation")


def _machine(machine: Mapping[str, Any], guard: Mapping[str, Any]) -> str:
    of = f"the cgroup's {_size(machine['limit_mb'])}" if machine["limit_mb"] else f"the machine's {_size(machine['total_mb'])}"
    swap = f"; swap {_size(machine['swap_used_mb'])} of {_size(machine['swap_total_mb'])} used" if machine["swap_total_mb"] else "; no swap"
    stalled = (machine.get("pressure_full") or {}).get("avg10", 0.0)
    promised = f", {_size(guard['promised_mb'])} of which what runs will still take" if guard["promised_mb"] >= 1 else ""
    return f"{_size(machine['available_mb'])} of {of} are left{promised}{swap}" + (f"; everything stands still {stalled:.0f} % of the time" if stalled >= 1 else "")


def _guard(guard: Mapping[str, Any]) -> str:
    if guard["state"] == "off":
        return "memory guard: off ([tool.fedtui.memory] guard = false)"
    bounds = guard["thresholds_mb"]
    ladder = f"warns below {bounds['warn']:.0f}, stops clients below {bounds['stop']:.0f}, at once below {bounds['stop_now']:.0f}, kills below {bounds['kill']:.0f} MB"
    dry = " (dry run: it only writes down what it would do)" if guard["state"] == "dry-run" else ""
    return f"memory guard{dry}: {STEPS[guard['step']]}; starts leave {guard['reserve_mb']:.0f} MB, it {ladder}"


def _row(process: Mapping[str, Any], pid: int | None, gpus: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    growth = process["mb_a_round"]
    on_gpu = sum(gpu["processes"].get(pid, 0.0) for gpu in gpus)
    return {
        "name": process["name"], "uses": _size(None if process["pss_mb"] is None else process["use_mb"]), "frees": _size(process["uss_mb"]), "resident": _size(process["rss_mb"]),
        "swap": _size(process["swap_mb"] or None), "gpu": _size(on_gpu or None), "peak": _size(max(process["peaks_mb"].values(), default=None)),
        "need": _size(process["need_mb"]), "growth": f"{growth:.0f} MB a round" if growth else "",
        "note": "the kernel tells only RESIDENT of it" if process["pss_refused"] else "clients are forked from it" if process["name"] == CLIENT_HOST else "",
    }  # fmt: skip


def _decision(decision: Mapping[str, Any]) -> dict[str, object]:
    when = datetime.datetime.fromtimestamp(decision["time"]).isoformat(" ", timespec="seconds")
    action = f"{decision['action']} (dry run)" if decision.get("dry_run") else decision["action"]
    return {
        "when": when, "action": action, "process": decision["process"], "left": _size(decision["machine"]["available_mb"]),
        "reserve": _size(decision["reserve_mb"]), "reason": decision["reason"],
    }  # fmt: skip


def _gpus() -> list[dict[str, Any]]:
    from fedtui.gpu import Gpus

    return [{"name": gpu.name, "used_mb": gpu.used_mb, "total_mb": gpu.total_mb, "busy_percent": gpu.busy_percent, "processes": gpu.processes} for gpu in Gpus().read()]


def _size(megabytes: float | None) -> str:
    return "" if megabytes is None else f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1024:.1f} GB"
