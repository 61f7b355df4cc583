"""Settings that protect nobody, or claim more than they do, are refused with the reason."""
from __future__ import annotations

import pytest

from poweranger.errors import UserError
from poweranger.messages import Site
from poweranger.privacy.rules import check_clients, check_resumed
from poweranger.run_config import parse_overrides, resolve
from poweranger.server.federation import why_not

SECURE = "secure-aggregation=true min-available-clients=3 min-fit-clients=3 min-evaluate-clients=3 "


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dp=central dp-noise-multiplier=0", "epsilon is infinite"),
        ("dp=central min-fit-clients=2", "by chance alone"),
        ("dp=local strategy=krum min-fit-clients=5", "looks at each one"),
        ("dp-target-epsilon=3", "would end nothing"),
        ("dp=elsewhere", "one of"),
        (SECURE + "strategy=fedmedian", "looks at each one"),
        (SECURE + "dp=central min-fit-clients=1", "fraction-fit = 1"),
        ("secure-aggregation=true", "set min-available-clients to 3"),
        (SECURE + "min-evaluate-clients=2", "set min-evaluate-clients to 3"),
        (SECURE + "secagg-threshold=0.5", "secagg-threshold"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        resolve(parse_overrides(text))


@pytest.mark.parametrize("text", ["dp=central", "dp=central fraction-fit=1 min-fit-clients=3", "dp=local", SECURE, SECURE + "dp=central fraction-fit=1", SECURE + "fraction-evaluate=0 min-evaluate-clients=1"])
def test_allowed(text: str) -> None:
    resolve(parse_overrides(text))


def test_delta_has_to_be_below_one_over_the_clients() -> None:
    values = resolve(parse_overrides("dp=central dp-delta=0.1"))
    check_clients(values, 9)
    with pytest.raises(UserError, match="1/10"):
        check_clients(values, 10)


@pytest.mark.parametrize(
    ("was", "now"),
    [(("central", False), ("off", False)), (("off", False), ("central", False)), (("local", False), ("central", False)),
     (("off", False), ("off", True)), (("off", True), ("off", False))],
)
def test_a_run_goes_on_only_as_private_as_it_was(was: tuple[str, bool], now: tuple[str, bool]) -> None:
    before = {"dp": was[0], "secure_aggregation": was[1]}
    with pytest.raises(UserError, match="start a new run"):
        check_resumed(before, {"dp": now[0], "secure-aggregation": now[1]})
    check_resumed(before, {"dp": was[0], "secure-aggregation": was[1]})


def test_epsilon_is_given_at_one_delta_throughout() -> None:
    with pytest.raises(UserError, match="dp-delta = 0.001 and cannot go on with 1e-05"):
        check_resumed({"dp": "local", "delta": 0.001}, {"dp": "local", "dp-delta": 1e-5, "secure-aggregation": False})


def test_the_server_refuses_a_site_that_is_too_small() -> None:
    site = Site("C1", ["a", "b"], [10, 5], [4, 2], 1, 100, [50.0], [30.0])
    values = resolve(parse_overrides("min-site-examples=16"))
    assert why_not(site, [], values, None) == "C1 has fewer training images than min-site-examples = 16 asks for"
    assert why_not(site, [], values | {"min-site-examples": 15}, None) == ""
