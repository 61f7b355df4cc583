"""What there is to see in a few typical moments, made up and always the same, for pictures of the screens."""
from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fedtui.memory_rules import MemoryRules
from fedtui.metrics import RunSummary
from fedtui.project import Project
from fedtui.table import Table
from fedtui.tui import project_file
from fedtui.tui.store import News, Store, clean_all

NOW = datetime.datetime(2026, 1, 31, 12, 10, tzinfo=datetime.UTC).timestamp()
CONFIG = {"num-server-rounds": 10, "fraction-fit": 1.0, "fraction-evaluate": 1.0, "image-size": 64, "learning-rate": 0.05, "seed": 0}
CLIENTS = ("C1", "C2", "C3", "C4")
STRANGE = ("Universitätsklinikum-Düsseldorf-Abteilung-für-Radiologie-und-Nuklearmedizin"[:64], "東京大学医学部附属病院", "Ψυχικό", "e\u0301cole", "C10")


@dataclass
class Scene:
    """A moment. `news` lacks the tables: they are read from the runs' files in the project."""

    news: dict[str, Any]
    runs: list[RunSummary] = field(default_factory=list)
    history: Mapping[str, float] = field(default_factory=dict)  # memory at the end, in MB
    selected: str = "server"

    def fill(self, store: Store) -> None:
        """Let `store` remember what an interface that was open all the time remembers."""
        store.selected = self.selected
        for number, (name, size) in enumerate(self.history.items()):
            points = ((NOW - second, size * (1 - 0.6 * min((second / (400 - 40 * number)) ** 2, 1))) for second in range(420, -1, -2))
            store.history[name] = deque(points, maxlen=600)

    def look(self, store: Store) -> News:
        """The news, with the tables that the screens have asked for."""
        tables = {}
        for run in store.wanted():
            path = next(summary.path for summary in self.runs if summary.name == run)
            tables[run] = {name: Table(path / "metrics" / f"{name}.csv") for name in _TABLES}
            for table in tables[run].values():
                table.poll()
        processes = [{**one, "log": str(store.project.logs / f"{one['name']}.log")} for one in self.news["processes"]]
        return {**self.news, "processes": processes, "runs": list(self.runs), "file": project_file.read(store.project), "tables": tables}


_TABLES = ("fit_metrics", "eval_metrics", "fit_client_metrics", "eval_client_metrics", "participation")


def process(name: str, state: str = "running", **others: Any) -> dict[str, Any]:
    """A process as `ps --json` tells of it."""
    lives = state in ("starting", "ready", "running", "stopping")
    found = {
        "name": name, "role": "server" if name == "server" else "client", "state": state, "pid": 4711 if lives else None, "status": "", "uptime_s": 432.0,
        "restarts": 0, "exit_code": None, "cause": "", "cpu_percent": 83.0, "rss_mb": 612.0, "pss_mb": 480.0, "started": "2026-01-31T12:02:48+00:00",
        "reason": "", "log": "", "restart_policy": "no", **others,
    }  # fmt: skip
    return found if lives else found | dict.fromkeys(("uptime_s", "cpu_percent", "rss_mb", "pss_mb"))


def news(processes: list[dict[str, Any]], progress: Mapping[str, Any], run: Mapping[str, Any], **machine: Any) -> dict[str, Any]:
    """What one look at the daemon sees."""
    limits = {"total_mb": 32000.0, "available_mb": 21000.0, "limit_mb": None, "swap_total_mb": 4096.0, "swap_used_mb": 0.0, "pressure": None, **machine}
    sizes = [
        {"name": one["name"], "rss_mb": one["rss_mb"], "pss_mb": one["pss_mb"], "use_mb": one["pss_mb"], "uss_mb": one["pss_mb"] and one["pss_mb"] - 60, "swap_mb": 0.0}
        for one in processes if one["pss_mb"] is not None
    ]  # fmt: skip
    reserve = MemoryRules().reserve(limits["limit_mb"] or limits["total_mb"])
    bounds = {"warn": 1.25 * reserve, "hold": reserve, "stop": 0.75 * reserve, "stop_now": 0.5 * reserve, "kill": 0.25 * reserve}
    guard = {"state": "on", "step": "calm", "auto_return": True, "reserve_mb": reserve, "promised_mb": 0.0, "thresholds_mb": bounds, "forecasts": [], "last": []}
    found = {
        "daemon_ok": True, "daemon_error": "", "processes": processes, "memory": {"machine": limits, "processes": sizes, "guard": guard}, "failures": {},
        "info": {"daemon_pid": 1, "notes": []}, "progress": dict(progress), "run": dict(run),
    }  # fmt: skip
    return dict(clean_all(found))


def empty(project: Project) -> Scene:
    """A new project: nothing has been started yet."""
    nothing = {"image-size": 64}
    _write_project(project.root, nothing, {})
    return Scene(news([process(name, "stopped") for name in ("server", "C1", "C2")], {"run": None}, {}))


def running(project: Project) -> Scene:
    """Round 4 of 10, on made-up images; older runs lie there."""
    _write_project(project.root, CONFIG, {"C1": "sites/aachen", "C2": "sites/bonn", "C3": None, "C4": None})
    runs = [
        _run(project, "20260131-120248-chest", "running", 3, seconds=432.0),
        _run(project, "20260130-081500-chest-slow", "finished", 10, {"learning-rate": 0.01}, seconds=1505.0, worse=0.15),
        _run(project, "20260129-174500-first", "interrupted", 4, {"learning-rate": 0.01, "image-size": 32}, seconds=610.0, worse=0.4),
    ]
    processes = [
        process("server", status="round 4 of 10, training", cpu_percent=4.0, pss_mb=96.0, rss_mb=121.0),
        process("C1", status="round 4, trained"), process("C2", status="round 4, training epoch 1 of 1", pss_mb=512.0),
        process("C3", status="round 4, training epoch 1 of 1", restarts=1, uptime_s=75.0), process("C4", "starting", status="loading TensorFlow", uptime_s=3.0, pss_mb=140.0),
    ]  # fmt: skip
    _write_logs(project, "server", *CLIENTS)
    progress = {
        "run": runs[0].name, "outcome": "running", "phase": "fit", "round": 4, "rounds": 10, "connected": list(CLIENTS), "sampled": ["C1", "C2", "C3"],
        "replied": ["C1"], "seconds_left": 610.0, "best": {"round": 3, "metric": "balanced_accuracy", "value": 0.625},
    }  # fmt: skip
    return Scene(news(processes, progress, _about(runs[0], CLIENTS)), runs, _sizes(processes))


def failed(project: Project) -> Scene:
    """The run has ended: too few clients were left, one was killed, one is being started again."""
    scene = running(project)
    scene.runs[0] = replace(scene.runs[0], outcome="failed", reason="3 rounds in a row without one usable answer")
    cause = "killed by the kernel: the machine ran out of memory (it used 1.9 GB, the limit is 2.0 GB)"
    lines = ["12:08:14 INFO round 4: 480 examples, 30 steps", "12:08:31 WARNING cache is full: images are decoded again in each round"]
    processes = [
        process("server", "failed", exit_code=1, cause=scene.runs[0].reason), process("C1", "exited", exit_code=0, status="the server has ended the run"),
        process("C2", "failed", exit_code=-9, cause=cause), process("C3", "backoff", exit_code=1, restarts=3, cause="ValueError: bad image", reason="started again in 8 s"),
        process("C4", "stopped"),
    ]  # fmt: skip
    progress = {"run": scene.runs[0].name, "outcome": "failed", "phase": "failed", "round": 4, "rounds": 10, "reason": scene.runs[0].reason}
    seen = news(processes, progress, _about(scene.runs[0], CLIENTS) | {"outcome": "failed", "reason": scene.runs[0].reason})
    cards = {
        "server": {"cause": scene.runs[0].reason, "exit_code": 1, "signal": None, "last_lines": lines},
        "C2": {"cause": cause, "exit_code": None, "signal": 9, "last_lines": lines}, "C3": {"cause": "ValueError: bad image", "exit_code": 1, "signal": None, "last_lines": lines},
    }  # fmt: skip
    return Scene(seen | {"failures": cards}, scene.runs, {}, "C2")


def held(project: Project) -> Scene:
    """Memory is short: clients wait until there is enough."""
    scene = running(project)
    stopped = "stopped at its round's end by the memory guard: 380 MB were left, it uses 700 MB, 190 more than expected; it comes back when there is room for the 700 MB of memory it needs"
    withheld = "starting C4 needs about 510 MB of memory, 410 MB are left for it; it starts when there is room"
    reasons = {"C3": ("return", stopped), "C4": ("memory", withheld)}
    processes = [*scene.news["processes"][:3], *(process(name, "held", waits_for=what, reason=why) for name, (what, why) in reasons.items())]
    progress = scene.news["progress"] | {"sampled": ["C1", "C2"], "replied": [], "connected": ["C1", "C2"]}
    tight = {"limit_mb": 2048.0, "available_mb": 410.0, "swap_used_mb": 512.0, "pressure": {"avg10": 12.4, "avg60": 3.0, "avg300": 1.0}}
    seen = news(processes, progress, scene.news["run"], **tight)
    seen["memory"]["guard"] |= {
        "step": "hold",
        "forecasts": [{"process": "C2", "mb_a_round": 31.0, "round": 17, "text": "C2 grows 31 MB a round: reaches the limit about round 17"}],
        "last": [
            {"time": NOW - 290, "action": "hold", "process": "C4", "reason": withheld, "dry_run": False},
            {"time": NOW - 95, "action": "warn", "process": "", "reason": "memory is short: 600 MB of this cgroup's 2048 MB are left, the reserve is 512 MB", "dry_run": False},
            {"time": NOW - 60, "action": "finish", "process": "C3", "reason": "it uses 700 MB, 190 more than expected", "dry_run": False},
        ],
    }  # fmt: skip
    return Scene(seen, scene.runs, _sizes(processes), "C3")


def names(project: Project) -> Scene:
    """Long and foreign names wherever there are names."""
    _write_project(project.root, CONFIG, {name: f"sites/{name}" for name in STRANGE if name.isascii()})
    word = "Lungenentzündung-肺炎-" + "sehr-langer-Name-" * 3
    runs = [_run(project, f"20260131-120248-{word}", "running", 3, clients=STRANGE, seconds=432.0), _run(project, f"20260130-081500-{word}", "finished", 10, clients=STRANGE, seconds=90.0)]
    processes = [process("server", status="round 4 of 10, training", pss_mb=96.0), *(process(name, status="round 4, training 胸部X線写真 epoch 1 of 1") for name in STRANGE)]
    _write_logs(project, "server", *STRANGE)
    progress = {"run": runs[0].name, "outcome": "running", "phase": "fit", "round": 4, "rounds": 10, "connected": list(STRANGE), "sampled": list(STRANGE), "replied": list(STRANGE[:2])}
    return Scene(news(processes, progress, _about(runs[0], STRANGE)), runs, _sizes(processes), STRANGE[1])


SCENES: dict[str, Callable[[Project], Scene]] = {"empty": empty, "running": running, "failed": failed, "held": held, "names": names}


def _sizes(processes: list[dict[str, Any]]) -> dict[str, float]:
    return {one["name"]: one["pss_mb"] for one in processes if one["pss_mb"] is not None}


def _about(run: RunSummary, clients: tuple[str, ...]) -> dict[str, Any]:
    """`run.toml`."""
    return {"run": run.name, "outcome": run.outcome, "clients": list(clients), "synthetic": list(run.synthetic), "config": run.config,
            "sites": {name: {"train": 480 + 10 * place} for place, name in enumerate(clients)}}  # fmt: skip


def _run(
    project: Project, name: str, outcome: str, rounds: int, config: Mapping[str, Any] | None = None, *, seconds: float, worse: float = 0.0, clients: tuple[str, ...] = CLIENTS,
) -> RunSummary:  # fmt: skip
    """A run with its tables: C3 is an outlier from round 2 on, C2 was slow in round 2, C4 failed in round 3."""
    path = project.results / "runs" / name
    rows: dict[str, list[str]] = {
        "fit_metrics": ["round,loss,accuracy"], "eval_metrics": ["round,loss,accuracy,balanced_accuracy,auroc"],
        "fit_client_metrics": ["round,client_id,num_examples,loss,accuracy"], "eval_client_metrics": ["round,client_id,num_examples,loss,accuracy"],
        "participation": ["round,phase,client_id,outcome,seconds,reason"],
    }  # fmt: skip
    for number in range(1, rounds + 1):
        loss = 0.3 + worse + 1.4 / (number + 1)
        rows["fit_metrics"].append(f"{number},{loss * 0.9:.4f},{1 - loss / 2.2:.4f}")
        rows["eval_metrics"].append(f"{number},{loss:.4f},{1 - loss / 2:.4f},{0.95 - loss / 2:.4f},{1 - loss / 4:.4f}")
        for place, client in enumerate(clients):
            seconds_taken, outcome_here, reason = 8.0 + place / 4, "ok", ""
            if place == 1 and number == 2:
                seconds_taken = 31.0
            if place == 3 and number == 3:
                outcome_here, reason = "failed", "ValueError: image 17 is no image"
            if place == 2 and number == 1:
                outcome_here, reason = "late", "no answer within the deadline"
            rows["participation"].append(f"{number},fit,{client},{outcome_here},{seconds_taken},{reason}")
            if outcome_here == "ok":
                own = loss + place / 50 + (1.1 if place == 2 and number > 1 else 0.0)
                for table in ("fit_client_metrics", "eval_client_metrics"):
                    rows[table].append(f"{number},{client},{480 + 10 * place},{own:.4f},{1 - own / 2:.4f}")
                rows["participation"].append(f"{number},eval,{client},ok,1.5,")
    (path / "metrics").mkdir(parents=True)
    for table, lines in rows.items():
        (path / "metrics" / f"{table}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    start = datetime.datetime.strptime(name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=datetime.UTC)
    end = None if outcome == "running" else start + datetime.timedelta(seconds=seconds)
    best = {"best_accuracy": 1 - loss / 2, "best_loss": loss, "best_round": rounds, "best_metric": "balanced_accuracy", "best_value": 0.95 - loss / 2}
    return RunSummary(name, path, outcome, "", start, end, rounds, 10, seconds=seconds, config=CONFIG | dict(config or {}), clients=clients, synthetic=clients[2:], **best)


def _write_project(root: Path, config: Mapping[str, Any], clients: Mapping[str, str | None]) -> None:
    """The project file, with a roster; the folders of images are empty."""
    lines = ["[tool.flwr.app]", 'publisher = "test"', "[tool.flwr.app.config]", *(f"{name} = {value}" for name, value in config.items())]
    for name, folder in clients.items():
        lines += [f"[tool.fedtui.clients.{name}]", *([f'data-dir = "{folder}"'] if folder else [])]
        if folder:
            for label, count in (("normal", 3), ("pneumonia", 2)):
                (root / folder / label).mkdir(parents=True, exist_ok=True)
                for number in range(count):
                    (root / folder / label / f"{number}.png").touch()
    (root / "pyproject.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_logs(project: Project, *who: str) -> None:
    project.logs.mkdir(parents=True)
    for name in who:
        lines = [f"2026-01-31 12:{3 + number // 12:02}:{number % 12 * 5:02} INFO round {number // 20 + 1}: step {number % 20} of 20, loss {2 / (number + 1):.3f}" for number in range(60)]
        lines[17] = "2026-01-31 12:04:25 WARNING cache is full: images are decoded again in each round"
        lines[41] = f"2026-01-31 12:06:25 ERROR {name}: image 17 of class 肺炎 is no image"
        (project.logs / f"{name}.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
