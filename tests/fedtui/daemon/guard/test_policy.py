"""The guard's decisions on a simulated machine: what it does in each kind of shortage, and what it never does."""
from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.guard_world import Actor, World, grows_to
from fedtui.daemon.guard.policy import ABOVE_MB, Step, fall, thresholds
from fedtui.memory_rules import MemoryRules

LIMIT = 4096.0
RESERVE = MemoryRules().reserve(LIMIT)


def crew(count: int, size: float = 450.0, need: float = 500.0, **options: float) -> list[Actor]:
    """Clients C1, C2, ... that need what is expected of them."""
    return [Actor(f"C{number}", grows_to(size), need, wanted=float(number), **options) for number in range(1, count + 1)]


def test_the_reserve_is_half_a_gigabyte_or_a_twentieth_but_never_most_of_a_small_limit() -> None:
    assert [MemoryRules().reserve(limit) for limit in (1024.0, 4096.0, 65536.0)] == [256.0, 512.0, 3276.8]
    assert MemoryRules(reserve_mb=100).reserve(1e6) == 100


def test_where_there_is_room_nothing_is_ever_decided() -> None:
    world = World(LIMIT, crew(6))
    world.run(600)
    assert not world.decisions("warn", "finish", "stop", "kill", "start") and not world.killed


def test_starts_that_would_not_fit_are_held_until_there_is_room() -> None:
    """Seven clients of 500 MB leave less than the reserve of a machine of 4 GB: the seventh waits for others to go."""
    world = World(LIMIT, crew(7), others=lambda now: 300.0 if now < 100 else 0.0)
    world.run(60)
    assert [actor.name for actor in world.actors if actor.held] == ["C7"]
    world.actors[0].begun = None  # its user stops C1
    world.run(60)
    assert [(decision.name, decision.action) for _, decision in world.decisions("start")] == [("C7", "start")]
    assert min(second.available_mb for second in world.seconds) >= RESERVE * 0.9


def test_a_slow_leak_is_warned_of_then_ended_at_the_round_s_end_and_the_leaking_client_is_the_victim() -> None:
    actors = [Actor("C1", grows_to(450, a_second=5), 500), *crew(5)[1:]]
    world = World(LIMIT, actors)
    world.run(400)
    first = [(decision.action, decision.name) for _, decision in world.decisions("warn", "finish", "stop", "kill")][:3]
    assert first == [("warn", ""), ("warn", ""), ("finish", "C1")]
    assert not world.killed
    assert all(second.available_mb > thresholds(world.rules, LIMIT)[Step.STOP_NOW] for second in world.seconds)


@pytest.mark.parametrize("count", [1, 5])
def test_clients_that_grow_by_50_mb_a_second_never_meet_the_kernel(count: int) -> None:
    """One alone, and all at once, which makes 250 MB a second."""
    world = World(LIMIT, [Actor(f"C{number}", grows_to(450, a_second=50), 500, round_s=30, wanted=number) for number in range(count)])
    world.run(900)
    assert not world.killed
    assert world.decisions("stop")


@pytest.mark.parametrize("depth", [23, 27])
def test_a_sawtooth_costs_one_stop_a_minute_at_most(depth: int) -> None:
    """Down to where a client is stopped at its round's end, and to where one is stopped at once."""
    def teeth(now: float) -> float:
        return 1500.0 + depth * (now % 40) if now > 60 else 1500.0

    world = World(LIMIT, crew(3), others=teeth)
    world.run(1800)
    chosen, ending = [], set()
    for time, act in world.decisions("finish", "stop", "kill", "start"):
        if act.action == "start":
            ending.discard(act.name)
        elif act.name not in ending:  # else the same one is stopped harder
            ending.add(act.name)
            chosen.append(time)
    assert chosen and not world.killed
    assert min((later - earlier for earlier, later in itertools.pairwise(chosen)), default=math.inf) >= 60


def test_a_client_that_ignores_the_gentle_stop_is_stopped_then_killed_and_no_other_is_touched() -> None:
    def short(now: float) -> float:
        return 3000.0 if now < 30 else 3200.0 + (now - 30) * 3

    world = World(LIMIT, [Actor("C1", grows_to(20), 20), Actor("C2", grows_to(450), 500, round_s=1e9, stop_s=1e9, wanted=10)], others=short)
    world.run(300)
    acts = [(decision.action, decision.name) for _, decision in world.decisions("finish", "stop", "kill")]
    assert [action for action, _ in acts[:3]] == ["finish", "stop", "kill"]
    assert len({name for _, name in acts[:3]}) == 1


def test_a_client_that_has_not_ended_its_round_after_two_minutes_is_stopped_at_once() -> None:
    world = World(LIMIT, crew(1, round_s=1e9), others=lambda now: 2900.0 if now < 20 else 3300.0)
    world.run(200)
    acts = world.decisions("finish", "stop")
    assert [decision.action for _, decision in acts] == ["finish", "stop"]
    assert acts[1][0] - acts[0][0] == pytest.approx(120, abs=2)


def test_what_was_stopped_comes_back_once_there_has_been_room_for_a_minute() -> None:
    world = World(LIMIT, crew(4), others=lambda now: 1950.0 if 60 <= now < 100 else 300.0)
    world.run(400)
    (stopped, decision), *_ = world.decisions("finish", "stop")
    (back, start), *others = world.decisions("start")
    assert start.name == decision.name == "C4" and not others
    assert back - max(stopped, 100) >= 60
    assert all(actor.begun is not None for actor in world.actors)


def test_without_auto_return_it_stays_away() -> None:
    world = World(LIMIT, crew(4), others=lambda now: 1950.0 if 60 <= now < 100 else 300.0, rules=MemoryRules(auto_return=False))
    world.run(400)
    assert world.decisions("finish", "stop") and not world.decisions("start")


def test_one_that_soon_has_to_be_stopped_again_waits_longer_each_time() -> None:
    world = World(LIMIT, [*crew(3), Actor("C4", grows_to(450, a_second=20), 500, wanted=4)], others=lambda now: 900.0)
    world.run(3000)
    stops = [time for time, decision in world.decisions("finish", "stop") if decision.name == "C4"]
    starts = [time for time, _ in world.decisions("start")]
    waits = [start - stop for stop, start in zip(stops, starts, strict=False)]
    assert len(waits) >= 3 and waits == sorted(waits) and waits[2] > 2 * waits[0]


def test_before_the_run_has_to_wait_for_a_client_that_is_said() -> None:
    world = World(LIMIT, [Actor("C1", grows_to(450, a_second=20), 500), Actor("C2", grows_to(450), 500)], minimum=2)
    world.run(300)
    said = [decision for _, decision in world.decisions("warn", "finish", "stop") if decision.name]
    assert said[0].action == "warn" and "the run will wait" in said[0].reason and said[1].action in ("finish", "stop")


def test_loading_tensorflow_is_no_alarm() -> None:
    """A start that fits takes 150 MB a second for a few seconds, down to just above the reserve."""
    world = World(LIMIT, [Actor("C1", grows_to(600, seconds=4), 620, wanted=20)], others=lambda now: LIMIT - RESERVE - 640)
    world.run(120)
    assert world.actors[0].begun is not None and not world.decisions("finish", "stop", "kill")


def test_a_fall_is_measured_by_all_readings_of_the_last_seconds() -> None:
    assert fall([1000.0 - 50 * t for t in range(6)]) == 50
    assert fall([1000.0 + 50 * t for t in range(6)]) == 0
    assert fall([1500.0, 1500.0, 1000.0, 500.0, 500.0]) == fall([1000.0, 0.0]) == 0


rates = st.one_of(st.just(0.0), st.floats(0, 50))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Machines of any size on which all kinds of clients start, some of which leak, beside others' memory that comes and goes."""
    limit = draw(st.floats(1500, 32000))
    actors = [
        Actor(f"C{number}", grows_to(draw(st.floats(50, 800)), draw(st.floats(2, 20)), draw(rates)), draw(st.floats(50, 800)),
              round_s=draw(st.floats(0, 300)), stop_s=draw(st.floats(0, 2)), wanted=draw(st.floats(0, 60)))
        for number in range(draw(st.integers(0, 5)))
    ]  # fmt: skip
    level, step = draw(st.floats(0, 0.5)) * limit, draw(st.floats(0, 0.2)) * limit
    period = draw(st.floats(30, 300))
    return World(limit, actors, lambda now: level + step * (math.sin(now / period) + 1) / 2, MemoryRules(auto_return=draw(st.booleans())), draw(st.integers(0, 3)))


@settings(max_examples=80, deadline=None)
@given(worlds())
def test_whatever_happens(world: World) -> None:
    """Only clients are chosen, one at a time with a pause, and none where there is plenty."""
    names = {actor.name for actor in world.actors}
    bounds = thresholds(world.rules, world.limit_mb)
    world.run(300)
    busy = ""
    last = -math.inf
    for second in world.seconds:
        decision = second.decision
        living = {name for name, use in second.uses.items() if use > 0}
        if busy not in living:
            busy = ""
        if decision and decision.action in ("finish", "stop", "kill"):
            assert decision.name in names, "neither server nor daemon is ever chosen"
            assert busy in ("", decision.name), "one at a time"
            if not busy:
                assert second.time - last >= (1 if decision.action == "kill" else 5), "one victim per cool-down"
                last = second.time
            busy = decision.name
            assert second.available_mb < 2 * bounds[Step.WARN], "nothing is stopped where there is plenty"


@settings(max_examples=80, deadline=None)
@given(st.floats(2500, 32000), st.lists(st.tuples(st.floats(200, 800), st.floats(0, 25)), min_size=1, max_size=6), st.floats(0, 40))
def test_the_reserve_is_restored_whenever_stopping_clients_can_do_it(limit: float, clients: list[tuple[float, float]], outside: float) -> None:
    """Whatever leaks, up to a total that can be watched: the kernel never kills, and a shortage ends or no client is left."""
    total = sum(rate for _, rate in clients)
    scale = min(1.0, 50 / total) if total else 1.0
    actors = [Actor(f"C{n}", grows_to(size, 10, rate * scale), size + ABOVE_MB, wanted=n) for n, (size, rate) in enumerate(clients)]
    world = World(limit, actors, lambda now: min(now * outside, 0.8 * limit), MemoryRules(auto_return=False))
    world.run(400)
    assert not world.killed
    bounds, short = thresholds(world.rules, limit), 0.0
    for second in world.seconds:
        living = any(use > 0 for use in second.uses.values())
        short = short + 1 if second.available_mb < bounds[Step.STOP_NOW] and living else 0
        assert short <= 70, f"{short:.0f} s below the threshold at {second.time:.0f} s"
