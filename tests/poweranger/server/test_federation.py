"""What the server makes of the sites' descriptions."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from poweranger.errors import UserError
from poweranger.messages import Site
from poweranger.run_config import parse_overrides, resolve
from poweranger.server.federation import Federation, form_federation, pool_statistics, why_not


def site(client_id: str, classes: str = "a b", channels: int = 1, synthetic: bool = False, pixels: np.ndarray | None = None) -> Site:
    names = classes.split()
    x = np.full((10, channels), 0.5) if pixels is None else pixels
    return Site(client_id, names, [8] * len(names), [2] * len(names), channels, len(x), x.sum(0).tolist(), (x**2).sum(0).tolist(),
                synthetic=synthetic, synthetic_reason="DATA_DIR is not set" if synthetic else "")


def config(text: str = "") -> dict[str, Any]:
    return resolve(parse_overrides(text))


def test_union_of_classes_and_counts() -> None:
    made = form_federation([site("C1", "a b"), site("C2", "b c")], config())
    assert made.classes == ["a", "b", "c"] and made.class_counts == [8, 16, 8]
    assert made == Federation.from_dict(made.to_dict())


def test_colour_is_decided_for_the_federation() -> None:
    assert form_federation([site("C1"), site("C2", channels=3)], config()).channels == 3
    assert form_federation([site("C1"), site("C2")], config()).channels == 1


def test_mean_and_deviation_are_those_of_the_pooled_pixels() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.random((50, 3)), rng.random((7, 3)) * 0.2]
    mean, std = pool_statistics([site(f"C{i}", channels=3, pixels=part) for i, part in enumerate(parts)], 3)
    pooled = np.concatenate(parts)
    assert np.allclose(mean, pooled.mean(0)) and np.allclose(std, pooled.std(0))


def test_a_grey_site_in_an_rgb_federation_counts_for_each_channel() -> None:
    mean, std = pool_statistics([site("C1", pixels=np.array([[0.2], [0.4]])), site("C2", channels=3, pixels=np.full((2, 3), 0.6))], 3)
    assert np.allclose(mean, [0.45] * 3) and np.allclose(std, np.std([0.2, 0.4, 0.6, 0.6]))


@pytest.mark.parametrize("total", [float("nan"), float("inf"), -1.0, 11.0])
def test_pixel_sums_that_cannot_be_are_refused_before_they_spoil_the_mean(total: float) -> None:
    described = site("C1")
    assert Site.from_record(described.to_record()) == described
    for name in ("pixel_sum", "pixel_square_sum"):
        with pytest.raises(ValueError, match="pixel sums"):
            Site.from_record(replace(described, **{name: [total]}).to_record())


def test_real_and_synthetic_are_not_mixed() -> None:
    sites = [site("C1"), site("C2", synthetic=True)]
    with pytest.raises(UserError, match=r"C2 \(DATA_DIR is not set\).*C1.*allow-mixed-data"):
        form_federation(sites, config())
    assert not form_federation(sites, config("allow-mixed-data=true")).synthetic
    assert form_federation([site("C2", synthetic=True)], config()).synthetic


@pytest.mark.parametrize(
    ("newcomer", "settings", "words"),
    [
        (site("C9", "a x"), "classes=a,b", ["C9", "'x'", "a, b"]),
        (site("C9", "A b"), "", ["C9", "'A'", "'a'", "C1"]),
        (site("C9", synthetic=True), "", ["C9", "synthetic", "allow-mixed-data"]),
        (site("C9", "a b zz"), "", ["C9", "'zz'"]),
        (site("C9", "a spread"), "", ["C9", "'spread'", "auc_spread"]),
    ],
)
def test_a_site_that_cannot_fit_is_refused_with_site_and_difference(newcomer: Site, settings: str, words: list[str]) -> None:
    others = [site("C1"), site("C2")]
    reason = why_not(newcomer, others, config(settings), form_federation(others, config(settings)))
    assert all(word in reason for word in words), reason
    assert why_not(site("C3", "b"), others, config(), None) == ""


def test_one_class_in_all_is_no_federation() -> None:
    with pytest.raises(UserError, match="one class only"):
        form_federation([site("C1", "a"), site("C2", "a")], config())
