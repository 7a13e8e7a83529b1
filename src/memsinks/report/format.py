"""How figures are written in tables and on pages."""

import math
from collections.abc import Sequence

MISSING = "–"
NO_BREAK = "\N{NO-BREAK SPACE}"


def number(value: float | None, digits: int = 3) -> str:
    """A fixed number of digits; "not defined" for None and NaN."""
    return "not defined" if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")


def percent(value: float | None) -> str:
    """A fraction in percent: whole, or with one digit where rounding would hide it."""
    if value is None or math.isnan(value):
        return "not defined"
    scaled = 100 * value
    digits = 0 if abs(scaled - round(scaled)) < 0.005 or abs(scaled) >= 99.95 else 1
    return f"{scaled:.{digits}f}{NO_BREAK}%".replace("-", "−")


def interval(bounds: Sequence[float | None], digits: int = 3) -> str:
    """``[low, high]``."""
    return f"[{number(bounds[0], digits)}, {number(bounds[1], digits)}]"


def percent_interval(bounds: Sequence[float | None]) -> str:
    """``[low, high]`` in percent."""
    return f"[{percent(bounds[0])}, {percent(bounds[1])}]"


def count(value: int) -> str:
    """An integer with thousands set apart."""
    return f"{value:,}"


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign."""
    return "not defined" if math.isnan(value) else f"{value:+.{digits}f}".replace("-", "−")
