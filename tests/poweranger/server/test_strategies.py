"""Every strategy by name: the right numbers, with a client that fails; what it keeps survives the run's end."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poweranger.errors import RunFailed, UserError
from poweranger.results import Run, load_weights, snapshots
from poweranger.run_config import parse_overrides, resolve
from tests.poweranger.server.conftest import FIRST

Federate = Callable[..., Run]
Config = Mapping[str, Any]


def site(number: int) -> Callable[[np.ndarray, Config], np.ndarray]:
    """A site whose weights go their own way, every one a different one."""
    own = np.random.default_rng(number).normal(size=FIRST.size).astype(np.float32)
    return lambda weights, config: weights * np.float32(0.9) + own


def broken(weights: np.ndarray, config: Config) -> np.ndarray:
    raise RuntimeError("this site is out of order")


def trained(weights: np.ndarray, numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The sites' weights, one a row, and their numbers of examples."""
    return np.array([site(number)(weights, {}) for number in numbers], np.float64), np.array([10.0 * number for number in numbers])


def mean(weights: np.ndarray, numbers: list[int]) -> np.ndarray:
    rows, examples = trained(weights, numbers)
    return examples @ rows / examples.sum()


def expected(strategy: str, rounds: int, numbers: list[int]) -> np.ndarray:
    """What the papers say, in plain NumPy; momentum 0.9, beta_2 0.99, tau 0.001."""
    w, m, v = FIRST.astype(np.float64), np.zeros(FIRST.size), np.zeros(FIRST.size)
    for number in range(1, rounds + 1):
        rows, _ = trained(w.astype(np.float32), numbers)
        delta = mean(w.astype(np.float32), numbers) - w
        if strategy in ("fedavg", "fedprox"):
            w = w + delta
        elif strategy == "fedavgm":
            m = 0.9 * m + delta
            w = w + 0.5 * m
        elif strategy in ("fedadam", "fedyogi"):
            m = 0.9 * m + 0.1 * delta
            v = 0.99 * v + 0.01 * delta**2 if strategy == "fedadam" else v - 0.01 * delta**2 * np.sign(v - delta**2)
            rate = 0.5 * np.sqrt(1 - 0.99 ** (number + 1)) / (1 - 0.9 ** (number + 1)) if strategy == "fedadam" else 0.5
            w = w + rate * m / (np.sqrt(v) + 0.001)
        elif strategy == "fedmedian":
            w = np.median(rows, axis=0)
        elif strategy == "trimmed-mean":
            w = np.sort(rows, axis=0)[1:-1].mean(axis=0)
        else:  # krum: least sum of squared distances to the n - f - 2 nearest others
            squares = ((rows[:, None] - rows[None]) ** 2).sum(-1)
            w = rows[np.sort(squares, axis=1)[:, 1 : len(rows) - 2].sum(axis=1).argmin()]
    return w


def flat(run: Run, number: int) -> np.ndarray:
    return np.concatenate([array.ravel() for array in load_weights(run.path / "models" / f"round_{number:03d}.npz")])


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedmedian", "krum", "trimmed-mean"])
def test_two_rounds_with_a_client_that_fails(federate: Federate, strategy: str) -> None:
    numbers = [1, 2, 3, 4, 5]
    seen: list[object] = []

    def watched(weights: np.ndarray, config: Config) -> np.ndarray:
        seen.append(config["proximal-mu"])
        return site(5)(weights, config)

    text = f"num-server-rounds=2 strategy={strategy} server-learning-rate=0.5 num-malicious=1 trim=0.2 proximal-mu=0.3"
    run = federate(text, {number: site(number) for number in numbers[:-1]} | {5: watched, 6: broken})
    np.testing.assert_allclose(flat(run, 2), expected(strategy, 2, numbers), rtol=1e-5, atol=1e-5)
    assert run.info["outcome"] == "finished" and seen == [0.3 if strategy == "fedprox" else 0.0] * 2
    fits = [(row["round"], row["client_id"], row["outcome"]) for row in run.tables["participation"].read() if row["phase"] == "fit"]
    assert fits == [(number, f"C{k}", "failed" if k == 6 else "ok") for number in "12" for k in range(1, 7)]


@pytest.mark.parametrize("strategy", ["fedavgm", "fedadam", "fedyogi"])
def test_what_a_strategy_keeps_is_taken_up_bit_for_bit(federate: Federate, strategy: str) -> None:
    sites = {number: site(number) for number in (1, 2)}
    text = f"strategy={strategy} lr-schedule=constant num-server-rounds="
    unbroken = federate(text + "6", sites)
    broken_off = federate(text + "3", sites)
    models = broken_off.path / "models"
    # killed in the commit of round 4: its model and what the strategy kept are there, run.toml does not know
    np.savez(models / "round_004.npz", *load_weights(models / "round_001.npz"))
    with np.load(models / "strategy_003.npz") as kept:
        np.savez(models / "strategy_004.npz", **{name: array + 1 for name, array in kept.items()})
    resumed = federate("num-server-rounds=6", sites, resume=broken_off.name)
    for number in range(7):
        assert np.array_equal(flat(unbroken, number), flat(resumed, number)), number
    assert [path.name for path in models.glob("strategy_*")] == ["strategy_006.npz"]


def test_a_round_that_cannot_be_used_leaves_the_strategy_as_it_was(federate: Federate) -> None:
    """Squares of such weights are infinite: FedAdam would never move again, and the weights themselves look well."""

    def absurd(weights: np.ndarray, config: Config) -> np.ndarray:
        return np.full_like(weights, 1e30) if config["server-round"] == 2 else site(2)(weights, config)

    run = federate("num-server-rounds=3 strategy=fedadam server-learning-rate=0.5", {1: site(1), 2: absurd})
    assert sorted(snapshots(run.path)) == [0, 1, 3]
    with np.load(run.path / "models" / "strategy_003.npz") as kept:
        assert all(np.isfinite(kept[name]).all() for name in ("m", "v")) and kept["v"].dtype == np.float32


def test_krum_tells_apart_what_single_precision_does_not(federate: Federate) -> None:
    """Late in a run weights differ by much less than they measure; Flower's own distances are noise then."""

    def near(step: float) -> Callable[[np.ndarray, Config], np.ndarray]:
        return lambda weights, config: np.float32(1000) + np.float32(step) * np.arange(1, FIRST.size + 1, dtype=np.float32)

    steps = {1: 0.0, 2: 0.001, 3: 0.002, 4: 0.003, 5: 5.0}  # the third is in their midst
    run = federate("num-server-rounds=1 strategy=krum", {number: near(step) for number, step in steps.items()})
    chosen = [number for number, step in steps.items() if np.array_equal(flat(run, 1), near(step)(FIRST, {}))]
    assert chosen in ([2], [3]), chosen


def test_too_few_answers_void_a_round_with_the_reason(federate: Federate, capsys: pytest.CaptureFixture[str]) -> None:
    sites = {number: site(number) for number in range(1, 5)} | {5: broken}
    with pytest.raises(RunFailed, match="4 usable answers, krum needs 5; participation.csv"):
        federate("num-server-rounds=3 strategy=krum max-failed-rounds=2", sites)
    assert "round 1/3  FAILED: 4 usable answers, krum needs 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "needed"),
    [("krum", 5), ("krum num-malicious=0", 3), ("krum num-malicious=3", 9), ("fedmedian", 3), ("trimmed-mean", 5), ("trimmed-mean trim=0.34", 3), ("trimmed-mean trim=0.01", 100)],
)
def test_too_few_clients_for_a_strategy_are_refused_before_anything_starts(text: str, needed: int) -> None:
    with pytest.raises(UserError, match=f"set min-fit-clients to {needed} or more"):
        resolve(parse_overrides(f"strategy={text} min-fit-clients={needed - 1}"))
    assert resolve(parse_overrides(f"strategy={text} min-fit-clients={needed}"))["min-fit-clients"] == needed


def test_a_strategy_taken_up_without_what_it_kept_says_so(federate: Federate, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = federate("num-server-rounds=1", {1: site(1), 2: site(2)})
    again = federate("num-server-rounds=2 strategy=fedyogi", {1: site(1), 2: site(2)}, resume=run.name)
    assert "nothing is saved of what fedyogi keeps between rounds" in capsys.readouterr().out
    assert again.info["outcome"] == "finished" and (tmp_path / "models" / "strategy_002.npz").is_file()
