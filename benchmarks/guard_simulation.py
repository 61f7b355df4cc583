"""The memory guard's policy over recorded clients, on machines on which they do not fit; and the plot of it for docs/memory.md.

    python -m benchmarks.guard_simulation [--out docs/pictures/guard.svg]

`traces/six_clients.json` is what the server and six clients used each second of a run that had room for all
(`python -m benchmarks.guard --limit-mb 16384 --record …`). A client that is started again begins its curve anew.
"""
from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.guard_world import Actor, Curve, World
from fedtui.daemon.guard.policy import Step, thresholds
from fedtui.memory_rules import MemoryRules

TRACE = Path(__file__).with_name("traces") / "six_clients.json"
SECONDS = 360
LOADED_S = 40.0  # of the recorded clients: a leak begins then
WIDTH, HEIGHT, LEFT, TOP, GAP = 860, 150, 70, 46, 62
COLOURS = {"guard": "#1f6feb", "none": "#9a9a9a", "warn": "#bf8700", "hold": "#bf8700", "stop": "#cf222e", "kill": "#82071e"}


@dataclass(frozen=True)
class Scenario:
    """A machine: its limit in MB, a leak in MB a second by client, and what others use."""

    title: str
    limit_mb: float
    leaks: dict[str, float]
    others: Curve = lambda now: 0.0


SCENARIOS = (
    Scenario("Six clients in 3 GB: they do not fit", 3072, {}),
    Scenario("6 GB, and one client that leaks 50 MB a second", 6144, {"C2": 50.0}),
    Scenario("6 GB, and all leak 10 MB a second", 6144, dict.fromkeys(("C1", "C2", "C3", "C4", "C5", "C6"), 10.0)),
    Scenario("5 GB, and another program that takes 1.3 GB every two minutes", 5120, {}, lambda now: min(now % 120, 10.0) * 130 if now > 60 and now % 120 < 40 else 0.0),
)


def main() -> int:
    """Simulate, tell, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    trace = json.loads(TRACE.read_text())
    panels = []
    for scenario in SCENARIOS:
        guarded, bare = world(scenario, trace, MemoryRules()), world(scenario, trace, MemoryRules(guard=False))
        guarded.run(SECONDS)
        bare.run(SECONDS)
        least = min(second.available_mb for second in guarded.seconds)
        acts = [f"{decision.action} {decision.name}" for _, decision in guarded.decisions("finish", "stop", "kill", "start")]
        print(f"{scenario.title}: with the guard {len(guarded.killed)} killed by the kernel, at least {least:.0f} MB left, {', '.join(acts) or 'nothing done'}; "
              f"without it {len(bare.killed)} killed by the kernel")
        panels.append((scenario, guarded, bare))
    if options.out:
        options.out.write_text(draw(panels))
    return 1 if any(guarded.killed for _, guarded, _ in panels) else 0


def world(scenario: Scenario, trace: dict[str, list[float]], rules: MemoryRules) -> World:
    """The recorded processes on that machine."""
    actors = [
        Actor(name, curve(sizes, scenario.leaks.get(name, 0.0)), 700.0, wanted=float(5 + number))
        for number, (name, sizes) in enumerate(trace.items()) if name != "server"
    ]  # fmt: skip
    server = curve(trace["server"], 0.0)
    return World(scenario.limit_mb, actors, lambda now: server(now) + scenario.others(now), rules)


def curve(sizes: list[float], leak: float) -> Curve:
    """A recorded curve from where it begins; its last value stays, and a leak comes on top of it."""
    begin = next(number for number, size in enumerate(sizes) if size)
    own = [size for size in sizes[begin:] if size]
    return lambda age: own[min(int(age), len(own) - 1)] + max(age - LOADED_S, 0.0) * leak


def draw(panels: list[tuple[Scenario, World, World]]) -> str:
    """What is left over time, as SVG: with the guard and without, its thresholds, and what it does."""
    height = TOP + len(panels) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEFT + 20}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18">Memory left, with the guard <tspan fill="{COLOURS["guard"]}">━</tspan> and without <tspan fill="{COLOURS["none"]}">━</tspan>;'
        " ○ a start held, ▼ a client stopped, ▲ it comes back, ✕ the kernel kills</text>",
    ]
    for number, panel in enumerate(panels):
        parts += draw_panel(*panel, y=TOP + number * (HEIGHT + GAP))
    return "\n".join([*parts, "</svg>", ""])


def draw_panel(scenario: Scenario, guarded: World, bare: World, y: float) -> list[str]:
    """One scenario; the axis ends at 2 GB, where nothing of interest happens any more."""
    top = min(scenario.limit_mb, 2048.0)
    across: Callable[[float], float] = lambda time: LEFT + time / SECONDS * WIDTH  # noqa: E731
    down: Callable[[float], float] = lambda size: y + HEIGHT - min(size, top) / top * HEIGHT  # noqa: E731
    parts = [f'<text x="{LEFT}" y="{y - 8}" font-weight="bold">{scenario.title}</text>',
             f'<rect x="{LEFT}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#d0d7de"/>']  # fmt: skip
    for step, bound in thresholds(guarded.rules, scenario.limit_mb).items():
        if step in (Step.HOLD, Step.STOP, Step.KILL):
            name = {Step.HOLD: "reserve", Step.STOP: "stop", Step.KILL: "kill"}[step]
            parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{down(bound):.1f}" y2="{down(bound):.1f}" stroke="{COLOURS[step.name.lower()]}" stroke-dasharray="4 4"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{down(bound) + 4:.1f}" text-anchor="end" fill="{COLOURS[step.name.lower()]}">{name}</text>')
    parts += [f'<text x="{across(time):.0f}" y="{y + HEIGHT + 16}" text-anchor="middle" fill="#57606a">{time} s</text>' for time in range(0, SECONDS + 1, 60)]
    for world_, colour in ((bare, COLOURS["none"]), (guarded, COLOURS["guard"])):
        line = " ".join(f"{across(second.time):.1f},{down(second.available_mb):.1f}" for second in world_.seconds)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    marks = [(second.time, second.available_mb, "✕", COLOURS["none"]) for second in bare.seconds if second.killed]
    signs = {"finish": ("▼", COLOURS["stop"]), "stop": ("▼", COLOURS["stop"]), "kill": ("▼", COLOURS["kill"]), "start": ("▲", "#1a7f37")}
    left = {second.time: second.available_mb for second in guarded.seconds}
    marks += [(time, left[time], *signs[decision.action]) for time, decision in guarded.decisions(*signs)]
    marks += [(time, left[time], "○", COLOURS["hold"]) for time in guarded.held_at]
    parts += [f'<text x="{across(time):.1f}" y="{max(down(size) - 4, y + 12):.1f}" text-anchor="middle" fill="{colour}">{sign}</text>' for time, size, sign, colour in marks]
    return parts


if __name__ == "__main__":
    sys.exit(main())
