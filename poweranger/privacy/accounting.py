"""What differential privacy a run has spent: epsilon at a delta, from the rounds that were really asked for."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from poweranger.errors import UserError

EVERYONE = "all"  # in place of a client: who took part was settled by a secret draw
STEP = 1e-3  # of the discretised privacy loss, rounded up: epsilon is never too low, and too high by 0.01 at the most
LARGE = 150.0  # zCDP, roughly, above which a plain bound is taken: epsilon is in the hundreds then, and says nothing


@dataclass(frozen=True)
class Spending:
    """Rounds with the same noise.

    Attributes
    ----------
    noise_multiplier : the noise's standard deviation over the sensitivity.
    sampling : probability with which each client took part, by a draw nobody knows; 1 when it is known who did.
    rounds : number of rounds by client; those of `EVERYONE` count for each.
    """

    noise_multiplier: float
    sampling: float
    rounds: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ledger:
    """All that was spent, in order. It stands in `run.toml`, so that a resumed run goes on with it."""

    spent: tuple[Spending, ...] = ()

    @classmethod
    def from_list(cls, rows: Sequence[Mapping[str, Any]]) -> Ledger:
        """Read what `to_list` gave; raises UserError when it is damaged."""
        try:
            return cls(tuple(Spending(float(row["noise_multiplier"]), float(row["sampling"]), dict(row["rounds"])) for row in rows))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"run.toml does not say what privacy budget was spent ({error!r}): this run cannot be resumed") from None

    def to_list(self) -> list[dict[str, Any]]:
        """As it stands in `run.toml`."""
        return [asdict(entry) for entry in self.spent]

    def charged(self, noise_multiplier: float, sampling: float, clients: Sequence[str]) -> Ledger:
        """The ledger after one more round of these clients."""
        *before, last = self.spent or (Spending(noise_multiplier, sampling),)
        if (last.noise_multiplier, last.sampling) != (noise_multiplier, sampling):
            before, last = [*before, last], Spending(noise_multiplier, sampling)
        return Ledger((*before, replace(last, rounds=last.rounds | {name: last.rounds.get(name, 0) + 1 for name in clients})))

    def epsilon(self, delta: float) -> float:
        """Epsilon at `delta` of the client that has spent most."""
        clients = {name for entry in self.spent for name in entry.rounds}
        histories = {
            tuple((e.noise_multiplier, e.sampling, e.rounds.get(name, 0) + (e.rounds.get(EVERYONE, 0) if name != EVERYONE else 0)) for e in self.spent)
            for name in clients
        }
        return max((epsilon(history, delta) for history in histories), default=0.0)


def require_accounting() -> None:
    """Refuse to start a private run without the accountant's library."""
    try:
        import dp_accounting  # noqa: F401
    except ImportError:
        raise UserError("differential privacy needs the package dp-accounting: pip install 'federated-health[privacy]'") from None


def epsilon(history: Sequence[tuple[float, float, int]], delta: float) -> float:
    """Epsilon at `delta` of Gaussian mechanisms composed, each on a Poisson sample, for one client added or removed.

    By the privacy loss distribution (Koskela et al., 2020, https://arxiv.org/abs/1906.03049), as dp-accounting has it.

    Parameters
    ----------
    history : noise multiplier, sampling probability (1 is none) and number of rounds of each mechanism.
    """
    from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    history = [entry for entry in history if entry[2]]
    if not history:
        return 0.0
    rough = sum(sampling**2 * rounds / (2 * noise**2) for noise, sampling, rounds in history)
    if max(rough, *(1 / (2 * noise**2) for noise, _, _ in history)) > LARGE:
        rho = sum(rounds / (2 * noise**2) for noise, _, rounds in history)  # Bun & Steinke, 2016, Proposition 1.3; sampling only makes it less
        return rho + 2 * math.sqrt(rho * math.log(1 / delta))
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=STEP)
    whole = sum(rounds / noise**2 for noise, sampling, rounds in history if sampling == 1)
    if whole:  # Gaussian mechanisms without sampling compose to one (Dong et al., 2022)
        accountant.compose(GaussianDpEvent(1 / math.sqrt(whole)))
    for noise, sampling, rounds in history:
        if sampling < 1:
            accountant.compose(PoissonSampledDpEvent(sampling, GaussianDpEvent(noise)), rounds)
    return float(accountant.get_epsilon(delta))
