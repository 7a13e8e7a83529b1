"""How figures, times and names of an audit are written."""

import math
import re
from datetime import datetime

from memsinks.report.format import MISSING, percent

_PATH = re.compile(
    r"(?<![^\s\"'`“‘(<=\[,:])(?:file://)?(?:[A-Za-z]:[\\/]|~/|(?:\.\.[\\/])+|/)"
    r"(?:[^\s\"'`”’\\/:;,)\]>]+[\\/])*([^\s\"'`”’\\/:;,)\]>]+)[\\/]?"
)


def figure(value: float | None, unit: str) -> str:
    """A value in its unit, which is not written but for percent."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if unit == "rate":
        return percent(value)
    if unit in ("tokens", "steps") or abs(value) >= 1000:
        digits = 0 if value == int(value) or abs(value) >= 1000 else 1
    else:
        digits = 3
    return f"{value:,.{digits}f}".replace("-", "−")


def between(low: float | None, high: float | None, unit: str) -> str:
    """An interval; empty where there is none."""
    return "" if low is None or high is None else f"[{figure(low, unit)}, {figure(high, unit)}]"


def sort_key(value: float | None) -> str:
    """What tables sort a value by, as JavaScript reads numbers; empty where there is none."""
    if value is None or math.isnan(value):
        return ""
    return repr(value).replace("inf", "Infinity")


def day(time: str) -> str:
    """The day of an ISO 8601 time, for people; what cannot be read stays as it is."""
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        return time
    return f"{moment.day} {moment:%B %Y}"


def without_paths(text: str) -> str:
    """Text in which folders of the machine it was written on are left out: of a path, its last part stays."""
    return _PATH.sub(r"\1", text)
