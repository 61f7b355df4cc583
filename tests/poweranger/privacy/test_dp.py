"""Clipping and noise are there: at the client, at the server, and in the models of a real run."""
from __future__ import annotations

import csv
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from scipy.stats import kstest

from poweranger.errors import UserError
from poweranger.messages import metric_reply, pack, unpack
from poweranger.privacy import dp
from poweranger.results import Run, load_weights
from tests.poweranger.privacy.conftest import Part, letter, parts

SIZE = 4000


def is_noise(values: np.ndarray, deviation: float) -> bool:
    """Gaussian, of this standard deviation within five of its own: one good run in a million is taken for a bad one."""
    close = abs(values.std() / deviation - 1) < 5 / math.sqrt(2 * values.size) and abs(values.mean()) < 5 * deviation / math.sqrt(values.size)
    return bool(close and kstest(values / deviation, "norm").pvalue > 1e-6)


def trained(update: np.ndarray, mode: str, noise: float = 1.0, clip: float = 2.0) -> tuple[np.ndarray, dict[str, Any]]:
    """The update and the metrics that leave a client."""
    start = np.linspace(-1, 1, update.size)
    config = ConfigRecord({"dp": mode, "dp-clip": clip, "dp-noise-multiplier": noise})
    message = letter(RecordDict({"arrays": pack([start]), "config": config}), "train")
    metrics = {"num-examples": 3, "loss": 0.5, "accuracy": 0.5}
    reply = dp.dp_mod(message, Context(1, 7, {}, RecordDict(), {}), lambda asked, _: Message(metric_reply(metrics, pack([start + update])), reply_to=asked))
    return unpack(reply.content.array_records["arrays"]) - start, dict(reply.content.metric_records["metrics"])


def test_a_long_update_is_shortened_and_a_short_one_is_left() -> None:
    update = np.random.default_rng(1).standard_normal(SIZE)
    sent, metrics = trained(update, "central")
    assert np.linalg.norm(sent) == pytest.approx(2.0, rel=1e-4) and metrics["clipped"] == 1 and metrics["loss"] == 0.5
    assert np.corrcoef(sent, update)[0, 1] > 0.999
    for short in (update * 1e-3, np.zeros(SIZE)):
        sent, metrics = trained(short, "central")
        assert np.allclose(sent, short, atol=1e-6) and metrics["clipped"] == 0
    assert np.allclose(trained(update, "off")[0], update, atol=1e-6)


def test_local_noise_is_gaussian_of_the_stated_size_and_hides_the_metrics() -> None:
    update = np.random.default_rng(1).standard_normal(SIZE)
    first, metrics = trained(update, "local", noise=1.5)
    again, _ = trained(update, "local", noise=1.5)
    noise = first - update * 2 / np.linalg.norm(update)
    assert is_noise(noise, 1.5 * 2) and not np.array_equal(first, again)
    assert set(metrics) == {"num-examples", "clipped"}


def test_an_update_that_is_not_finite_leaves_the_round() -> None:
    with pytest.raises(UserError, match="not finite"):
        trained(np.array([1.0, math.nan]), "local")


def test_the_server_clips_again_and_divides_by_what_does_not_depend_on_the_answers() -> None:
    config = {"dp-clip": 1.0, "dp-noise-multiplier": 0.5, "fraction-fit": 0.5}
    start, unclipped = np.ones(SIZE), np.full(SIZE, 11.0)
    noise = np.random.default_rng(3).normal(0, 0.5, SIZE)
    for weights, expected in (([unclipped], 1 / math.sqrt(SIZE)), ([unclipped, unclipped], 2 / math.sqrt(SIZE)), ([], 0.0)):
        found = dp.private_mean(start, weights, config, 8, np.random.default_rng(3))
        assert np.allclose(found, start + (expected + noise) / 4)


def test_everyone_is_drawn_by_himself() -> None:
    names = [f"C{k}" for k in range(20)]
    draws = [dp.poisson(names, 0.3) for _ in range(2000)]
    sizes = np.array([len(draw) for draw in draws])
    assert abs(sizes.mean() - 6) < 0.25 and abs(sizes.var() - 4.2) < 0.7  # binomial, not a fixed number


def table(run: Run, name: str) -> list[dict[str, str]]:
    with (run.path / "metrics" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_with_central_noise(federate: Callable[..., Run]) -> None:
    """What the second model lacks of the clipped sum is noise of the stated size; one huge update counts as one."""
    sites = [*parts(3, SIZE, scale=0.001), Part("C4", np.full(SIZE, 1e4, np.float32))]
    run = federate(sites, dp="central", dp_clip=1.0, dp_noise_multiplier=2.0, fraction_evaluate=0.0, num_server_rounds=2)
    (one,), (two,) = (load_weights(run.path / "models" / f"round_00{number}.npz") for number in (1, 2))
    expected = (sum(site.update for site in sites[:3]) + sites[3].update / np.linalg.norm(sites[3].update)) / 4
    assert is_noise(two - one - expected, 2.0 / 4)
    assert is_noise(one - expected, 2.0 / 4)
    rows = table(run, "fit_metrics")
    assert [float(row["clipped_fraction"]) for row in rows] == [0.25, 0.25]
    assert 0 < float(rows[0]["epsilon"]) < float(rows[1]["epsilon"]) == run.info["privacy"]["epsilon"]


def test_chance_may_draw_nobody_and_the_round_is_noise(federate: Callable[..., Run]) -> None:
    run = federate(parts(2, SIZE), dp="central", fraction_fit=0.001, fraction_evaluate=0.0, num_server_rounds=2)
    assert table(run, "participation") == [] and run.info["outcome"] == "finished"
    (one,), (two,) = (load_weights(run.path / "models" / f"round_00{number}.npz") for number in (1, 2))
    assert is_noise(two - one, 1 / 0.002)


def test_the_run_ends_before_the_budget_does(federate: Callable[..., Run]) -> None:
    run = federate(parts(2, 10), dp="local", dp_noise_multiplier=8.0, dp_target_epsilon=2.0, fraction_evaluate=0.0, num_server_rounds=50)
    spent = [float(row["epsilon"]) for row in table(run, "fit_metrics")]
    assert run.info["outcome"] == "finished" and "above dp-target-epsilon = 2" in run.info["reason"]
    assert 1 < len(spent) < 50 and spent == sorted(spent) and spent[-1] <= 2.0


def test_a_budget_too_small_for_one_round_is_refused(federate: Callable[..., Run]) -> None:
    with pytest.raises(UserError, match="raise dp-noise-multiplier"):
        federate(parts(2, 10), dp="central", dp_target_epsilon=0.1, fraction_fit=1.0)
