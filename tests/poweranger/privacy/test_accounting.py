"""Epsilon against closed forms, published values and another accountant of the library."""
from __future__ import annotations

import math
import sys

import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from poweranger.errors import UserError
from poweranger.privacy.accounting import EVERYONE, Ledger, Spending, epsilon
from poweranger.privacy.protection import require_for


def gaussian_epsilon(noise: float, delta: float) -> float:
    """The exact one of a Gaussian mechanism (Balle & Wang, 2018, Theorem 8)."""

    def excess(value: float) -> float:
        return float(norm.cdf(0.5 / noise - value * noise) - math.exp(value) * norm.cdf(-0.5 / noise - value * noise) - delta)

    return float(brentq(excess, 0, 300))


@pytest.mark.parametrize(("noise", "rounds", "delta"), [(1.0, 1, 1e-5), (4.0, 30, 1e-5), (2.0, 100, 1e-6), (20.0, 1, 1e-3)])
def test_without_sampling_it_is_the_closed_form(noise: float, rounds: int, delta: float) -> None:
    exact = gaussian_epsilon(noise / math.sqrt(rounds), delta)
    assert exact <= epsilon([(noise, 1.0, rounds)], delta) <= exact + 0.01


def test_with_sampling_it_is_below_the_published_moments_accountant() -> None:
    """Abadi et al., 2016, section 3.2: q = 0.01, sigma = 4, 10,000 steps at delta 1e-5 give 1.26."""
    assert 0.9 < epsilon([(4.0, 0.01, 10_000)], 1e-5) < 1.26


@pytest.mark.parametrize(("noise", "sampling", "rounds"), [(1.0, 0.3, 30), (1.1, 256 / 60_000, 14_062), (0.7, 0.5, 10)])
def test_it_is_tighter_than_renyi_and_not_by_much(noise: float, sampling: float, rounds: int) -> None:
    renyi = RdpAccountant()
    renyi.compose(PoissonSampledDpEvent(sampling, GaussianDpEvent(noise)), rounds)
    loose = renyi.get_epsilon(1e-5)
    assert 0.75 * loose < epsilon([(noise, sampling, rounds)], 1e-5) < loose


def test_little_noise_gets_a_bound_that_is_above_the_truth() -> None:
    assert gaussian_epsilon(0.05, 1e-5) <= epsilon([(0.05, 1.0, 1)], 1e-5) < 1.2 * gaussian_epsilon(0.05, 1e-5)


def test_rounds_of_different_noise_compose() -> None:
    exact = gaussian_epsilon(1 / math.sqrt(3 / 4 + 2 / 9), 1e-5)
    assert epsilon([(2.0, 1.0, 3), (3.0, 1.0, 2)], 1e-5) == pytest.approx(exact, abs=0.01)
    assert epsilon([(2.0, 0.5, 3), (3.0, 1.0, 2)], 1e-5) < exact


def test_the_ledger_survives_run_toml_and_counts_the_client_that_spent_most() -> None:
    ledger = Ledger().charged(2.0, 1.0, ["C1", "C2"]).charged(2.0, 1.0, ["C1"]).charged(4.0, 1.0, ["C2"])
    assert [entry.rounds for entry in ledger.spent] == [{"C1": 2, "C2": 1}, {"C2": 1}]
    assert Ledger.from_list(ledger.to_list()) == ledger
    assert ledger.epsilon(1e-5) == pytest.approx(gaussian_epsilon(2 / math.sqrt(2), 1e-5), abs=0.01)
    drawn = Ledger((Spending(1.0, 0.3, {EVERYONE: 30}),))
    assert drawn.epsilon(1e-5) == epsilon([(1.0, 0.3, 30)], 1e-5) and Ledger().epsilon(1e-5) == 0
    both = Ledger((*drawn.spent, Spending(2.0, 1.0, {"C1": 1})))
    assert both.epsilon(1e-5) == epsilon([(1.0, 0.3, 30), (2.0, 1.0, 1)], 1e-5)
    with pytest.raises(UserError, match="cannot be resumed"):
        Ledger.from_list([{"noise_multiplier": 1.0}])


def test_without_the_library_a_private_run_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    require_for({"dp": "off"})
    with pytest.raises(UserError, match=r"pip install 'federated-health\[privacy\]'"):
        require_for({"dp": "local"})
