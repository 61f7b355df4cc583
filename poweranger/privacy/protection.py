"""A run's protection as the server keeps it: who is drawn, what is spent, what is added to the sum, what is said of it."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict

from poweranger.errors import UserError
from poweranger.messages import ARRAYS, METRICS, NUM_EXAMPLES, pack, unpack
from poweranger.privacy import dp
from poweranger.privacy.accounting import EVERYONE, Ledger, require_accounting
from poweranger.privacy.rules import check_clients, check_resumed
from poweranger.results import Run

SUMS_ONLY = (
    "figures of single clients, the worst site and the spread over sites",
    "leaving out one client's bad weights: each client checks its own, and leaves the round",
    "strategies that look at single clients",
)


class Protection:
    """Differential privacy and secure aggregation of one run.

    Parameters
    ----------
    clients : ids of the federation's clients when the run begins.
    resumed : whether the run goes on.

    Raises
    ------
    UserError
        When the settings promise too much for these clients or for the run so far, or the first round would exceed
        `dp-target-epsilon`.
    """

    def __init__(self, config: Mapping[str, Any], run: Run, clients: Sequence[str], log: Callable[[str], None], *, resumed: bool) -> None:
        self._config, self._run, self._log = config, run, log
        self.secure: bool = config["secure-aggregation"]
        self.private, self.central = config["dp"] != dp.OFF, config["dp"] == dp.CENTRAL
        before: dict[str, Any] = run.info.get("privacy", {}) if resumed else {}
        if resumed:
            check_resumed(before, config)
        self._clients = int(before.get("clients", len(clients)))
        self._ledger = Ledger.from_list(before.get("spent", []))
        self.epsilon = 0.0
        if self.private:
            check_clients(config, self._clients)
            self.epsilon = self._ledger.epsilon(config["dp-delta"])
            _check_budget(config, self._ledger, clients)
        self._record()
        self._say()

    @property
    def sampling(self) -> float:
        """The probability with which a client trains, where it is a secret draw; 1 where everybody may know who does."""
        return _sampling(self._config)

    def draw(self, free: Sequence[str]) -> list[str] | None:
        """The clients that train in a round, when chance alone settles it; None when it does not."""
        return dp.poisson(free, self.sampling) if self.sampling < 1 else None

    def charge(self, names: Sequence[str]) -> str:
        """Put a round of these clients on the account, before anything is sent; the reason when it must not be."""
        if not self.private:
            return ""
        ledger = _after(self._config, self._ledger, names)
        spent = ledger.epsilon(self._config["dp-delta"])
        if reason := _exceeded(self._config, spent):
            return reason
        self._ledger, self.epsilon = ledger, spent
        self._record()
        return ""

    def why_stop(self, clients: Sequence[str]) -> str:
        """Why there shall be no further round, when any of `clients` may be in it; empty when there may."""
        return _why_stop(self._config, self._ledger, clients) if self.private else ""

    def replies(self, start: np.ndarray, replies: Mapping[str, Message], examples: Mapping[str, int], clients: int) -> list[Message]:
        """What the strategy aggregates, with weights: each reply's, or under central noise one, the noisy mean.

        Parameters
        ----------
        start : the weights that the clients were given, flat.
        replies, examples : of each usable reply, its message and number of images; one alone under secure aggregation.
        clients : number of clients behind the replies.
        """
        found = [(unpack(reply.content.array_records[ARRAYS]), 1 if self.private else examples[name]) for name, reply in replies.items()]
        if self.central:
            weights = [flat for flat, _ in found]
            if self.secure:
                mean = dp.noisy_mean(start, (weights[0].astype(np.float64) - start) * clients, self._config, self._clients)
            else:
                mean = dp.private_mean(start, weights, self._config, self._clients)
            found = [(mean, 1)]
        return [reply_of(flat, weight) for flat, weight in found]

    def figures(self, metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Epsilon so far and the share of the clients whose update was clipped, for `fit_metrics.csv`."""
        if not self.private:
            return {}
        said = [values["clipped"] for values in metrics if "clipped" in values]
        return {"epsilon": self.epsilon} | ({"clipped_fraction": float(np.mean(said))} if said else {})

    def _record(self) -> None:
        """Keep `[privacy]` of `run.toml` true."""
        config = self._config
        table: dict[str, Any] = {"dp": config["dp"], "secure_aggregation": self.secure}
        if self.private:
            table |= {"clients": self._clients, "epsilon": self.epsilon, "delta": config["dp-delta"], "sampling": self.sampling, "spent": self._ledger.to_list()}
        if self.secure:
            table["not_possible"] = list(SUMS_ONLY)
        if self._run.info.get("privacy") != table:
            self._run.update(privacy=table)

    def _say(self) -> None:
        config = self._config
        if self.private:
            where = "on the sum of the updates, by this server" if self.central else "on each update, by its client"
            drawn = f"clients are drawn by chance, each with probability {self.sampling:g}" if self.sampling < 1 else "no sampling is counted on"
            self._log(f"differential privacy: noise {where}, {config['dp-noise-multiplier']:g} times the clip norm {config['dp-clip']:g}; {drawn}; "
                      f"epsilon {self.epsilon:.4g} spent. It covers the models, not counts and figures: docs/privacy.md")
        if self.secure:
            self._log("secure aggregation: this server sees sums over the clients only. Not possible in this run: " + "; ".join(SUMS_ONLY))


def check_resume(info: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse, before anything of a run is touched, to go on with it in another way than it was private, or beyond its budget.

    Parameters
    ----------
    info : the content of its `run.toml`.
    """
    before, done = info.get("privacy"), info.get("rounds_done")
    if before is None:  # it ended before its first model: `Run.resume` says so
        return
    check_resumed(before, config)
    if config["dp"] != dp.OFF and type(done) is int and done < config["num-server-rounds"]:
        require_accounting()
        _check_budget(config, Ledger.from_list(before.get("spent", [])), ())


def _check_budget(config: Mapping[str, Any], ledger: Ledger, clients: Sequence[str]) -> None:
    if reason := _why_stop(config, ledger, clients):
        raise UserError(f"{reason}: raise dp-noise-multiplier or dp-target-epsilon")


def _why_stop(config: Mapping[str, Any], ledger: Ledger, clients: Sequence[str]) -> str:
    """Why there shall be no further round, when any of `clients`, or who was in an earlier one, may be in it."""
    if not config["dp-target-epsilon"]:
        return ""
    known = {name for entry in ledger.spent for name in entry.rounds} - {EVERYONE}
    return _exceeded(config, _after(config, ledger, sorted({*clients, *known})).epsilon(config["dp-delta"]))


def _sampling(config: Mapping[str, Any]) -> float:
    return float(config["fraction-fit"]) if config["dp"] == dp.CENTRAL else 1.0


def _after(config: Mapping[str, Any], ledger: Ledger, names: Sequence[str]) -> Ledger:
    """The ledger after one more round of these clients."""
    noise = config["dp-noise-multiplier"] / (1 if config["dp"] == dp.CENTRAL else 2)  # see `dp.py`: the sensitivity is C or 2 C
    sampling = _sampling(config)
    return ledger.charged(noise, sampling, [EVERYONE] if sampling < 1 else names)


def _exceeded(config: Mapping[str, Any], spent: float) -> str:
    target = config["dp-target-epsilon"]
    if not target or spent <= target:
        return ""
    return f"one more round would bring epsilon to {spent:.4g} at delta {config['dp-delta']:g}, above dp-target-epsilon = {target:g}"


def reply_of(flat: np.ndarray, weight: int) -> Message:
    """Weights as a reply that Flower's strategies take: of metrics they need the weight of the mean only."""
    content = RecordDict({ARRAYS: pack([flat]), METRICS: MetricRecord({NUM_EXAMPLES: weight})})
    return Message(content, dst_node_id=0, message_type="train")


def require_for(config: Mapping[str, Any]) -> None:
    """Refuse a private run early when the accountant's library is missing."""
    if config["dp"] != dp.OFF:
        require_accounting()
