"""Made-up images: labelled, learnable, the client's own, always the same."""
from __future__ import annotations

import numpy as np

from poweranger.client import synthetic
from poweranger.client.data_loader import SiteData, load_site


def make(client_id: str = "C1", seed: int = 0, **changes: object) -> SiteData:
    wanted: dict = {"image_size": 48, "channels": 0, "validation_fraction": 0.2, "strict": False, "cache_mb": 64,
                    "synthetic_examples": 90, "log": lambda line: None} | changes
    return load_site(None, client_id=client_id, seed=seed, **wanted)


def test_the_same_client_makes_the_same_images() -> None:
    first, second = make(), make()
    assert np.array_equal(first.train.x, second.train.x) and np.array_equal(first.train.y, second.train.y)
    assert np.array_equal(first.validation.x, second.validation.x)


def test_another_client_or_seed_makes_other_images_in_other_shares() -> None:
    base = make()
    for other in (make("C2"), make(seed=1)):
        assert not np.array_equal(np.bincount(base.train.y), np.bincount(other.train.y))
        assert not {image.tobytes() for image in base.train.x} & {image.tobytes() for image in other.train.x}


def test_every_class_is_there_to_train_and_to_validate() -> None:
    for examples in (10, 90):
        site = make(synthetic_examples=examples)
        assert len(site.train.y) + len(site.validation.y) == examples
        assert set(site.train.y) == set(site.validation.y) == {0, 1, 2}
        assert site.classes == ["disc", "ring", "stripes"] and site.channels == 1


def test_rgb_is_made_when_the_federation_is_rgb() -> None:
    site = make(channels=3)
    assert site.train.x.shape[1:] == (48, 48, 3)
    assert np.array_equal(site.train.x[..., 0], site.train.x[..., 2])


def test_virtual_clients_share_a_pool_out() -> None:
    sites = [make(f"client {index}", partition=(index, 3)) for index in range(3)]
    assert sum(len(site.train.y) + len(site.validation.y) for site in sites) == 270
    assert all(set(site.train.y) == {0, 1, 2} for site in sites)


def test_the_classes_show_in_the_pixels() -> None:
    """A label can be told from the picture: a disc is full at its centre, a ring is not, stripes alternate there."""
    spread = {name: [] for name in synthetic.CLASSES}
    for label, name in enumerate(synthetic.CLASSES):
        for index in range(20):
            image = synthetic.phantom("C1", 100 * label + index, label, 64, 0).astype(float)
            finding = image > np.quantile(image, 0.95)  # its brightest pixels
            rows, columns = np.nonzero(finding)
            filled = np.hypot(rows - rows.mean(), columns - columns.mean())
            spread[name].append(np.quantile(filled, 0.2) / np.quantile(filled, 0.9))
    assert np.median(spread["ring"]) > 1.3 * np.median(spread["disc"])
    assert np.median(spread["ring"]) > 1.3 * np.median(spread["stripes"])
