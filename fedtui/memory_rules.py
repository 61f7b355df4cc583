"""`[tool.fedtui.memory]`: whether the memory guard acts, and from which shortage on."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from poweranger.errors import UserError

LEAST_RESERVE_MB, RESERVE_SHARE, MOST_SHARE = 512.0, 0.05, 0.25
MEMORY_KEYS: dict[str, Any] = {
    "guard": bool, "dry-run": bool, "auto-return": bool, "reserve-mb": int,
    "warn-at": float, "stop-at": float, "stop-now-at": float, "kill-at": float,
}  # fmt: skip
STEPS = {  # of the guard's ladder, in words
    "calm": "there is room", "warn": "memory becomes short", "hold": "no client is started", "stop": "a client is stopped at its round's end",
    "stop_now": "a client is stopped at once", "kill": "a client is killed",
}  # fmt: skip
UNKNOWN = "the kernel does not tell how much memory there is"


@dataclass(frozen=True)
class MemoryRules:
    """What the guard may do, and when.

    Attributes
    ----------
    guard : whether it does anything but measure.
    dry_run : decisions are made and recorded, but not carried out.
    auto_return : what it has stopped comes back when there has been room for a while.
    reserve_mb : what a start must leave free; 0 takes 512 MB or 5 % of the limit, whichever is more, but a quarter at most.
    warn_at, stop_at, stop_now_at, kill_at : how little may be left, as multiples of the reserve, before the guard warns,
        stops a client once it has sent its answer, stops one at once, and kills one.
    """

    guard: bool = True
    dry_run: bool = False
    auto_return: bool = True
    reserve_mb: int = 0
    warn_at: float = 1.25
    stop_at: float = 0.75
    stop_now_at: float = 0.5
    kill_at: float = 0.25

    def reserve(self, limit_mb: float) -> float:
        """The reserve in MB under this limit."""
        return float(self.reserve_mb) or min(max(LEAST_RESERVE_MB, RESERVE_SHARE * limit_mb), MOST_SHARE * limit_mb)


def beyond_limit(reserve_mb: float, limit_mb: float) -> str:
    """What to say of a reserve that is more than there is, so that no start can leave it; else ""."""
    return "" if reserve_mb < limit_mb else f"[tool.fedtui.memory] reserve-mb = {reserve_mb:.0f} lets no client run in {limit_mb:.0f} MB: lower it, or set 0 for the default"


def read_rules(table: Mapping[str, Any]) -> MemoryRules:
    """The rules in a parsed `[tool.fedtui.memory]`.

    Raises
    ------
    UserError
        When a key has a wrong value; unknown keys have been refused before.
    """
    where = "[tool.fedtui.memory]"
    values: dict[str, Any] = {}
    for key, kind in MEMORY_KEYS.items():
        if key in table:
            value: Any = float(table[key]) if kind is float and type(table[key]) is int else table[key]
            if type(value) is not kind or (kind is not bool and not 0 <= value <= (1e9 if kind is int else 100)):
                allowed = {bool: "true or false", int: "a number of MB, 0 for the default", float: "a number from 0 to 100"}[kind]
                raise UserError(f"{where} {key} = {table[key]!r} is not allowed: it takes {allowed}")
            values[key.replace("-", "_")] = value
    rules = MemoryRules(**values)
    if not rules.warn_at >= 1 >= rules.stop_at >= rules.stop_now_at >= rules.kill_at:
        raise UserError(f"{where}: warn-at, 1, stop-at, stop-now-at and kill-at must not grow in this order, and are multiples of the reserve")
    return rules

