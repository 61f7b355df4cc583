"""Combinations of privacy settings that would protect nobody, or claim more than they do. Plain values, no imports."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poweranger.errors import UserError

MEANS = ("fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi")  # strategies that take one mean of the clients' weights
FEWEST = 3  # clients of a sum: of two, each would know the other's part


def check_privacy(values: Mapping[str, Any]) -> None:
    """Refuse a run configuration whose privacy settings contradict each other.

    Raises
    ------
    UserError
        With the reason, and what to set instead.
    """
    private, secure = values["dp"] != "off", values["secure-aggregation"]
    if (private or secure) and values["strategy"] not in MEANS:
        cause = f"dp = \"{values['dp']}\"" if private else "secure-aggregation = true"
        raise UserError(f"{cause} needs the mean of the clients' updates, and strategy = \"{values['strategy']}\" looks at each one: take one of {', '.join(MEANS)}")
    if private:
        _check_dp(values)
    elif values["dp-target-epsilon"]:
        raise UserError("dp-target-epsilon without differential privacy would end nothing: set dp to \"central\" or \"local\"")
    if secure:
        _check_secagg(values)


def check_clients(values: Mapping[str, Any], clients: int) -> None:
    """Refuse a delta that would allow to give one client away: it has to be below one over their number."""
    if values["dp"] != "off" and values["dp-delta"] >= 1 / clients:
        raise UserError(f"dp-delta = {values['dp-delta']:g} is not below 1/clients = 1/{clients}: a mechanism that publishes one client in full would pass; set it well below")


def check_resumed(before: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Refuse to go on with a run in another way than it was private before.

    Parameters
    ----------
    before : `[privacy]` of its `run.toml`.
    """
    was, now = before.get("dp", "off"), values["dp"]
    if was != now:
        reason = "what was spent would be forgotten" if was != "off" else "its first rounds were without noise, which no later noise makes up for"
        raise UserError(f"the run ran with dp = \"{was}\" and cannot go on with dp = \"{now}\": {reason}; start a new run")
    delta = before.get("delta")
    if now != "off" and delta is not None and delta != values["dp-delta"]:
        raise UserError(f"the run gave epsilon at dp-delta = {delta:g} and cannot go on with {values['dp-delta']:g}: one column would mean two things; leave it as it was")
    sums, secure = before.get("secure_aggregation", False), values["secure-aggregation"]
    if sums != secure:
        reason = "the sites took part where the server sees sums only" if sums else "the server has seen what single sites sent"
        raise UserError(f"the run ran with secure-aggregation = {str(sums).lower()} and cannot go on with {str(secure).lower()}: {reason}; start a new run")


def _check_dp(values: Mapping[str, Any]) -> None:
    if values["dp-noise-multiplier"] == 0:
        raise UserError("dp-noise-multiplier = 0 adds no noise, so epsilon is infinite: give a value above 0, or set dp = \"off\"")
    if values["dp"] == "central" and values["fraction-fit"] < 1:
        if values["min-fit-clients"] > 1:
            raise UserError(f"min-fit-clients = {values['min-fit-clients']} would force clients into a round, and the sampling by fraction-fit = "
                            f"{values['fraction-fit']:g}, which epsilon counts on, would not be by chance alone: set min-fit-clients = 1, or fraction-fit = 1, which claims no sampling")
        if values["secure-aggregation"]:
            raise UserError("secure-aggregation with dp = \"central\" needs fraction-fit = 1: a draw by chance alone may take fewer clients than a sum can hide")


def _check_secagg(values: Mapping[str, Any]) -> None:
    names = ["min-available-clients", "min-fit-clients"] + ["min-evaluate-clients"] * (values["fraction-evaluate"] > 0)
    for name in names:
        if values[name] < FEWEST:
            raise UserError(f"secure-aggregation needs {FEWEST} clients or more in every sum: set {name} to {FEWEST} or more")
