"""Differential privacy for a client's update: clipping, Gaussian noise, and the draw of a private round.

What is protected is a client, a whole site: that it takes part (central), or what its images are (local). Each update
is clipped to the L2 norm C = `dp-clip`, and the updates are added with equal weights, whatever the number of images:
so one client changes the sum by C at the most. Noise of standard deviation z C (z = `dp-noise-multiplier`) is added

- centrally to the sum, by the server, which is trusted; the sum is divided by a number that does not depend on who
  answered (McMahan et al., 2018, https://arxiv.org/abs/1710.06963, the estimator with a fixed denominator);
- or locally to each update before it is sent. Replacing one update by another changes it by 2 C, so z / 2 is accounted.

Flower's own parts fit only in half: `fixedclipping_mod` divides by zero when an update is zero, `LocalDpMod` takes a
noise formula that holds below epsilon 1 for one round only (Dwork & Roth, 2014, Theorem A.1), both take noise
from NumPy's global generator, and neither counts rounds. Noise comes from a generator seeded by the operating system's
entropy, not by the run's seed, which is public.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message

from poweranger.errors import UserError
from poweranger.messages import ARRAYS, CONFIG, METRICS, pack, unpack
from poweranger.privacy.declared import Next
from poweranger.run_config import find_key

OFF, CENTRAL, LOCAL = "off", "central", "local"


def clip(update: np.ndarray, bound: float) -> tuple[np.ndarray, bool]:
    """`update`, shape (n,), scaled down to the L2 norm `bound` when it is longer; and whether it was (McMahan et al., 2018)."""
    norm = float(np.linalg.norm(update))
    return (update * (bound / norm), True) if norm > bound else (update, False)


def gaussian(size: int, deviation: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """Noise, float64 (size,), from fresh entropy of the operating system; `rng` is for tests."""
    return (rng or np.random.default_rng()).normal(0.0, deviation, size)


def dp_mod(message: Message, context: Context, call_next: Next) -> Message:
    """Flower mod: clips the update of a training reply and, with `dp = local`, adds noise to it.

    Under local noise loss and accuracy of the training images, which carry none, stay here.

    Raises
    ------
    UserError
        When the update is not finite: no noise would cover it.
    """
    config = message.content.config_records.get(CONFIG, ConfigRecord())
    mode = find_key("dp").check(config.get("dp", OFF))
    if mode == OFF or message.metadata.message_type != "train":
        return call_next(message, context)
    bound, noise = (find_key(name).check(config.get(name)) for name in ("dp-clip", "dp-noise-multiplier"))
    start = unpack(message.content.array_records[ARRAYS]).astype(np.float64)
    reply = call_next(message, context)
    update = unpack(reply.content.array_records[ARRAYS]) - start
    if not np.isfinite(update).all():
        raise UserError("its update is not finite: it leaves the round")
    update, clipped = clip(update, float(bound))
    metrics = reply.content.metric_records[METRICS]
    if mode == LOCAL:
        update = update + gaussian(update.size, float(noise) * float(bound))
        for name in ("loss", "accuracy"):
            metrics.pop(name, None)
    metrics["clipped"] = int(clipped)
    reply.content.array_records[ARRAYS] = pack([start + update])
    return reply


def poisson(clients: Iterable[str], probability: float, rng: np.random.Generator | None = None) -> list[str]:
    """Each client by itself with `probability`, by a draw that nobody can repeat; `rng` is for tests."""
    rng = rng or np.random.default_rng()
    return [name for name in sorted(clients) if rng.random() < probability]


def private_mean(
    start: np.ndarray, weights: Sequence[np.ndarray], config: Mapping[str, Any], clients: int, rng: np.random.Generator | None = None
) -> np.ndarray:
    """The new weights of a round with central noise, float64 (n,).

    The bound is enforced again here: it must hold also for a client that did not clip.

    Parameters
    ----------
    start : the weights that the clients were given, (n,).
    weights : what each one made of them.
    clients : the federation's clients when the run began; `fraction-fit` of them is the denominator.
    """
    total = np.zeros(start.size)
    for own in weights:
        total += clip(own.astype(np.float64) - start, config["dp-clip"])[0]
    return noisy_mean(start, total, config, clients, rng)


def noisy_mean(
    start: np.ndarray, total: np.ndarray, config: Mapping[str, Any], clients: int, rng: np.random.Generator | None = None
) -> np.ndarray:
    """As `private_mean`, from the sum of the clipped updates."""
    noise = gaussian(start.size, config["dp-noise-multiplier"] * config["dp-clip"], rng)
    return start + (total + noise) / (config["fraction-fit"] * clients)
