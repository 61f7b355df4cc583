"""Axes: which values get a label, and how numbers, rounds and times are spelt."""
from __future__ import annotations

import datetime
import math

Tick = tuple[float, str]  # where on the axis, and what stands there
_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_MOST_TICKS = 50


def number(value: float) -> str:
    """A figure in few characters, for reading it off."""
    if not math.isfinite(value):
        return "–"
    if value and not 1e-3 <= abs(value) < 1e5:
        return _short_exponent(f"{value:.2e}")
    return f"{value:.4g}"


def value_ticks(low: float, high: float, count: int) -> list[Tick]:
    """About `count` round values from `low` to `high`, all with the decimals that tell them apart."""
    step = _nice_step(high - low, count, (1, 2, 2.5, 5, 10, 20))
    if not step:
        return []
    largest = max(abs(low), abs(high))
    power = math.floor(math.log10(step))
    decimals = max(0, -power + (round(step / 10.0**power, 6) == 2.5))
    digits = min(max(0, math.floor(math.log10(largest)) - power), 3)
    plain = largest < 1e5 and decimals <= 4

    def spell(value: float) -> str:
        return f"{value:.{decimals}f}" if plain else _short_exponent(f"{value:.{digits}e}") if value else "0"

    return _distinct([(value, spell(value)) for value in _multiples(low, high, step)])


def log_ticks(low: float, high: float, count: int) -> list[Tick]:
    """Ticks for an axis of decimal logarithms, from 10^`low` to 10^`high`: decades, or round values within one."""
    first, last = math.ceil(low), math.floor(high)
    if last - first >= 1:
        step = max(1, math.ceil((last - first + 1) / max(count, 1)))
        return _distinct([(float(power), number(10.0**power)) for power in range(first, last + 1, step)][:_MOST_TICKS])
    bottom, top = 10.0**low, 10.0**high
    return [(math.log10(value), label) for value, label in value_ticks(bottom, top, count) if value > 0]


def round_ticks(low: float, high: float, count: int) -> list[Tick]:
    """Ticks at whole rounds, the first one included."""
    step = _nice_step(high - low, count)
    if not step:
        return [(low, f"{low:.0f}")]
    step = max(1.0, float(math.ceil(step)))
    first = math.ceil(low)
    ticks = [(value, f"{value:.0f}") for value in _multiples(low, high, step) if value - first >= step * 0.6]
    return _distinct([(float(first), str(first)), *ticks])


def clock_ticks(low: float, high: float, count: int) -> list[Tick]:
    """Ticks at whole minutes, hours or days of the local time; `low` and `high` in seconds since the epoch."""
    step = _time_step(high - low, count)
    try:
        offset = datetime.datetime.fromtimestamp(low).astimezone().utcoffset()
    except (OverflowError, OSError, ValueError):
        return []
    shift = offset.total_seconds() if offset else 0.0
    return _distinct([(value - shift, clock(value - shift, high - low, step)) for value in _multiples(low + shift, high + shift, step)])


def elapsed_ticks(low: float, high: float, count: int) -> list[Tick]:
    """Ticks of a time since the start, in seconds."""
    return _distinct([(value, elapsed(value)) for value in _multiples(low, high, _time_step(high - low, count))])


def clock(moment: float, span: float = 0.0, step: float = 1.0) -> str:
    """A moment of the local time: with seconds when `step` is below a minute, with the day when `span` is above one."""
    try:
        when = datetime.datetime.fromtimestamp(moment)
    except (OverflowError, OSError, ValueError):
        return "–"
    if step >= 86400:
        return f"{when:%d %b}"
    text = f"{when:%H:%M}" if step >= 60 else f"{when:%H:%M:%S}"
    return f"{when:%d %b} {text}" if span > 86400 else text


def elapsed(seconds: float) -> str:
    """A time since the start: 45s, 12:30, 3:05:00."""
    if not abs(seconds) < 1e9:
        return "–"
    sign, whole = "-" if seconds < 0 else "", round(abs(seconds))
    if whole < 60:
        return f"{sign}{whole}s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}:{minutes:02}:{rest:02}" if hours else f"{sign}{minutes}:{rest:02}"


def _nice_step(span: float, count: int, factors: tuple[float, ...] = (1, 2, 5, 10, 20)) -> float:
    """The smallest round number that cuts `span` in at most `count` pieces; 0 when there is none."""
    raw = span / max(count, 1)
    if not (math.isfinite(raw) and raw > 1e-300):
        return 0.0
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in factors if factor * power >= raw * (1 - 1e-9))


def _time_step(span: float, count: int) -> float:
    raw = span / max(count, 1)
    return float(next((step for step in _SECONDS if step >= raw), 86400 * math.ceil(raw / 86400) if math.isfinite(raw) else math.inf))


def _multiples(low: float, high: float, step: float) -> list[float]:
    if not (step > 0 and math.isfinite(step) and math.isfinite(low) and math.isfinite(high)) or (high - low) / step > _MOST_TICKS:
        return []
    first, slack = math.ceil(low / step - 1e-9), step * 1e-9
    values = ((first + k) * step for k in range(_MOST_TICKS))
    return [value + 0.0 for value in values if low - slack <= value <= high + slack]


def _distinct(ticks: list[Tick]) -> list[Tick]:
    """Without ticks whose label another one has already."""
    return list({label: (value, label) for value, label in reversed(ticks)}.values())[::-1]


def _short_exponent(text: str) -> str:
    mantissa, _, exponent = text.partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}"
