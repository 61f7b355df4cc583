"""What the sites have in common: classes, channels, mean and deviation. Formed once, before round 1."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from poweranger.errors import UserError
from poweranger.messages import Site
from poweranger.run_config import class_names


@dataclass
class Federation:
    """Fixed for the whole run; written to `run.toml` and sent with every message.

    Attributes
    ----------
    class_counts : training images of each class over all sites of the handshake.
    mean, std : per channel, of training pixels scaled to 0..1.
    synthetic : True when the sites' images are made up.
    """

    classes: list[str]
    class_counts: list[int]
    channels: int
    image_size: int
    mean: list[float]
    std: list[float]
    synthetic: bool

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `run.toml` under `[federation]`."""
        return asdict(self) | {"image_shape": [self.image_size, self.image_size, self.channels]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Federation:
        """Read `[federation]` of a `run.toml`."""
        try:
            return cls(**{name: values[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise UserError(f"run.toml has no {error.args[0]!r} in [federation]: this run cannot be resumed") from None


def form_federation(sites: list[Site], config: Mapping[str, Any]) -> Federation:
    """The federation of the sites that described themselves.

    Raises
    ------
    UserError
        When real and synthetic sites are mixed, or fewer than two classes are left.
    """
    check_mixture(sites, config)
    classes = class_names(config) or sorted({name for site in sites for name in site.classes})
    if len(classes) < 2:
        raise UserError(f"all clients together have one class only ({', '.join(classes)}): training needs two or more")
    counts = dict.fromkeys(classes, 0)
    for site in sites:
        for name, count in zip(site.classes, site.train_counts, strict=True):
            counts[name] += count
    channels = config["channels"] or max(site.channels for site in sites)
    mean, std = pool_statistics(sites, channels) if config["standardise"] else ([0.0] * channels, [1.0] * channels)
    return Federation(classes, list(counts.values()), channels, config["image-size"], mean, std, all(site.synthetic for site in sites))


def check_mixture(sites: list[Site], config: Mapping[str, Any]) -> None:
    """Refuse real and synthetic images in one federation unless `allow-mixed-data` is set."""
    made_up = {site.client_id: site.synthetic_reason for site in sites if site.synthetic}
    if made_up and len(made_up) < len(sites) and not config["allow-mixed-data"]:
        names = ", ".join(f"{name} ({reason})" if reason else name for name, reason in sorted(made_up.items()))
        real = ", ".join(sorted(site.client_id for site in sites if not site.synthetic))
        raise UserError(f"synthetic images at {names} would be mixed with real ones at {real}: give every client a DATA_DIR, "
                        "or set allow-mixed-data = true")


def why_not(site: Site, others: list[Site], config: Mapping[str, Any], federation: Federation | None) -> str:
    """Why `site` cannot take part, as a sentence; empty when it can. `others` are the accepted sites."""
    known = {name.casefold(): (name, other.client_id) for other in reversed(others) for name in other.classes}
    for name in site.classes:
        near, owner = known.get(name.casefold(), (name, ""))
        if near != name:
            return f"{site.client_id} calls a class {name!r} that {owner} calls {near!r}: rename one of the folders"
        if name in ("worst", "spread"):
            return f"{site.client_id} calls a class {name!r}, and the column auc_{name} is of the sites, not of a class: rename the folder"
    allowed = federation.classes if federation else class_names(config)
    if allowed:
        strange = [name for name in site.classes if name not in allowed]
        if strange:
            return f"{site.client_id} has the class{_plural(strange)}, which the federation ({', '.join(allowed)}) does not have"
    if federation and site.synthetic != federation.synthetic and not config["allow-mixed-data"]:
        here = "synthetic" if site.synthetic else "real"
        return f"{site.client_id} has {here} images ({site.synthetic_reason or 'DATA_DIR'}), the others do not: allow-mixed-data = true permits it"
    if site.num_train == 0:
        return f"{site.client_id} has no training image"
    if site.num_train < config["min-site-examples"]:
        return f"{site.client_id} has fewer training images than min-site-examples = {config['min-site-examples']} asks for"
    return ""


def pool_statistics(sites: list[Site], channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation per channel of all sites' training pixels (0..1), exactly, from their sums."""
    count, total, squares = 0, np.zeros(channels), np.zeros(channels)
    for site in sites:
        count += site.pixel_count
        for own, pooled in ((site.pixel_sum, total), (site.pixel_square_sum, squares)):
            values = np.asarray(own, dtype=np.float64)
            pooled += values if len(values) == channels else values.mean()  # a grey site in an RGB federation counts thrice
    mean = total / max(count, 1)
    variance = squares / max(count, 1) - mean**2
    return mean.tolist(), np.sqrt(np.maximum(variance, 1e-6)).tolist()


def _plural(names: list[str]) -> str:
    quoted = ", ".join(repr(name) for name in names)
    return f" {quoted}" if len(names) == 1 else f"es {quoted}"
