"""Flower's strategies by the names that the run configuration gives them, each with `Saveable` in front.

What a strategy keeps from round to round (momentum, second moments) is saved beside the snapshot and restored on
resume, so that a resumed run goes on as if it had never been broken.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from flwr.serverapp.strategy import FedAdam, FedAvg, FedAvgM, FedMedian, FedProx, FedTrimmedAvg, FedYogi, Krum

from poweranger.messages import ARRAYS, WEIGHTS
from poweranger.server.session import Session
from poweranger.server.strategy import Saveable

Config = Mapping[str, Any]


class SaveableFedAvg(Saveable, FedAvg):
    """The mean, weighted by `num-examples` (McMahan et al., 2017, https://arxiv.org/abs/1602.05629)."""


class SaveableFedProx(Saveable, FedProx):
    """The weighted mean; the clients are held near the global model (Li et al., 2018, https://arxiv.org/abs/1812.06127)."""


class SaveableFedAvgM(Saveable, FedAvgM):
    """Momentum on the server (Hsu et al., 2019, https://arxiv.org/abs/1909.06335)."""

    KEEPS = ("momentum",)

    def state(self) -> dict[str, np.ndarray]:
        """The momentum; empty before the first round."""
        return {"momentum": self.momentum_vector[0]} if self.momentum_vector else {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` gave; the next round says what the global model is."""
        self.momentum_vector = [state["momentum"]] if state else None
        self.current_arrays = None


class _Adaptive(Saveable):
    """The state that Flower's adaptive strategies have in common (Reddi et al., 2020, https://arxiv.org/abs/2003.00295)."""

    KEEPS = ("m", "v")
    m_t: dict[str, np.ndarray] | None
    v_t: dict[str, np.ndarray] | None

    def state(self) -> dict[str, np.ndarray]:
        """First and second moment; empty before the first round."""
        return {"m": self.m_t[WEIGHTS], "v": self.v_t[WEIGHTS]} if self.m_t and self.v_t else {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` gave."""
        self.m_t = {WEIGHTS: state["m"]} if state else None
        self.v_t = {WEIGHTS: state["v"]} if state else None


class SaveableFedAdam(_Adaptive, FedAdam):
    """Adam on the server."""


class SaveableFedYogi(_Adaptive, FedYogi):
    """Yogi on the server: its second moment grows no faster than it shrinks."""


class SaveableFedMedian(Saveable, FedMedian):
    """The median of every single weight (Yin et al., 2018, https://arxiv.org/abs/1803.01498)."""


class SaveableTrimmedMean(Saveable, FedTrimmedAvg):
    """The mean of every single weight without its extremes (Yin et al., 2018, https://arxiv.org/abs/1803.01498)."""


class SaveableKrum(Saveable, Krum):
    """The one client's weights that are nearest to the others' (Blanchard et al., 2017, https://arxiv.org/abs/1703.02757)."""

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """As Flower's, in double precision: single loses distances that are small beside the weights themselves."""
        replies = list(replies)
        for reply in replies:
            arrays = reply.content.array_records[ARRAYS]
            arrays[WEIGHTS] = Array(arrays[WEIGHTS].numpy().astype(np.float64))
        return super().aggregate_train(server_round, replies)


def _rate(own: float) -> Callable[[Config], float]:
    """`server-learning-rate`, where 0 stands for the strategy's own."""
    return lambda config: config["server-learning-rate"] or own


def _given(name: str) -> Callable[[Config], Any]:
    return lambda config: config[name]


STRATEGIES: dict[str, tuple[type[Saveable], dict[str, Callable[[Config], Any]]]] = {  # Flower's arguments from the configuration
    "fedavg": (SaveableFedAvg, {}),
    "fedprox": (SaveableFedProx, {"proximal_mu": _given("proximal-mu")}),
    "fedavgm": (SaveableFedAvgM, {"server_learning_rate": _rate(1.0), "server_momentum": _given("server-momentum")}),
    "fedadam": (SaveableFedAdam, {"eta": _rate(0.1), "beta_1": _given("server-momentum")}),
    "fedyogi": (SaveableFedYogi, {"eta": _rate(0.03), "beta_1": _given("server-momentum")}),
    "fedmedian": (SaveableFedMedian, {}),
    "krum": (SaveableKrum, {"num_malicious_nodes": _given("num-malicious")}),
    "trimmed-mean": (SaveableTrimmedMean, {"beta": _given("trim")}),
}


def make_strategy(session: Session) -> Saveable:
    """The strategy that the run configuration names."""
    kind, arguments = STRATEGIES[session.config["strategy"]]
    return kind(session, **{name: value(session.config) for name, value in arguments.items()})
