"""What a message of the server asks for, checked: its word counts no more than a user's."""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, TypeVar

from poweranger.client.training import Spec
from poweranger.errors import UserError
from poweranger.run_config import find_key

T = TypeVar("T", int, float, str)
SITE_KEYS = ("image-size", "channels", "validation-fraction", "seed", "synthetic-examples", "dirichlet-alpha", "min-site-examples")
TASK_KEYS = (
    *SITE_KEYS,
    "num-server-rounds", "learning-rate", "local-epochs", "batch-size", "momentum", "proximal-mu", "dropout", "augment", "prior-shift",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """The checked configuration of a training or evaluation message."""

    values: dict[str, Any]  # of the run configuration's keys, under their names
    server_round: int
    classes: tuple[str, ...]  # the federation's, in its order
    class_counts: tuple[int, ...]  # its training images of each
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def spec(self) -> Spec:
        """What the trainer has to be built for."""
        v = self.values
        return Spec(
            v["image-size"], v["channels"], len(self.classes), self.mean, self.std, v["dropout"], v["batch-size"], v["momentum"], v["proximal-mu"]
        )

    @property
    def where(self) -> str:
        """The round in words."""
        return f"round {self.server_round} of {self.values['num-server-rounds']}"


def checked(config: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Those run configuration values of a message; the server's word is checked like a user's."""
    for name in names:
        if name not in config:
            raise UserError(f"the server's message has no {name}: server and client need the same version")
    return {name: find_key(name).check(config[name]) for name in names}


def read_task(config: Mapping[str, Any]) -> Task:
    """Check the configuration of a training or evaluation message.

    Raises
    ------
    UserError
        When a value is missing, of another type, or out of its range.
    """
    values, classes = checked(config, TASK_KEYS), read_classes(config)
    channels = read_channels(values)
    server_round, counts = config.get("server-round"), config.get("class-counts")
    if type(server_round) is not int or server_round < 0:
        raise UserError(f"the server's message gives server-round = {server_round!r}, which is no round")
    if not _is_list(counts, int) or len(counts) != len(classes) or min(counts) < 0:
        raise UserError("the server's message does not give one class-count, at least 0, a class")
    for name in ("mean", "std"):
        numbers = config.get(name)
        if not _is_list(numbers, float) or len(numbers) != channels or not all(map(math.isfinite, numbers)):
            raise UserError(f"the server's message does not give one finite {name} a channel")
    if min(config["std"]) <= 0:
        raise UserError("the server's message gives a std that is not above 0")
    return Task(values, server_round, classes, tuple(counts), tuple(config["mean"]), tuple(config["std"]))


def read_classes(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The federation's class names in its order: two or more, all different; raises as `read_task` does."""
    classes = config.get("classes")
    if not _is_list(classes, str) or len(set(classes)) != len(classes) or len(classes) < 2:
        raise UserError("the server's message gives no list of two or more different classes")
    return tuple(classes)


def read_channels(values: Mapping[str, Any]) -> int:
    """The federation's channels, 1 or 3; raises as `read_task` does."""
    if values["channels"] == 0:
        raise UserError("the server's message gives channels = 0: for a model it has to be 1 or 3")
    return values["channels"]


def _is_list(value: object, kind: type[T]) -> TypeGuard[list[T]]:
    return isinstance(value, list) and bool(value) and all(type(item) is kind for item in value)
