"""Who is behind a node: for the list of clients on other machines."""
from __future__ import annotations

import datetime
from dataclasses import dataclass, field


def now() -> datetime.datetime:
    """The current time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


@dataclass
class Peer:
    """One node's connection.

    Attributes
    ----------
    address : the machine it calls from.
    since : when it joined.
    answered : when its last answer to a message came; None before the first.
    """

    address: str
    since: datetime.datetime = field(default_factory=now)
    answered: datetime.datetime | None = None
