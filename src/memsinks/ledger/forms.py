"""The one form in which the ledger writes a JSON value, and a moment."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from memsinks.errors import InputError

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
"""UTC to the second."""

_DEPTH = 64


def canonical(value: Any, where: str = "body") -> str:
    """The one JSON text of a value: ASCII, keys sorted, no blanks.

    Raises:
        InputError: JSON cannot hold it exactly; the message names the place within ``where``.
    """
    _check(value, where, 0)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def as_time(moment: datetime) -> str:
    """UTC to the second, as in ``2026-01-31T12:00:00Z``.

    Raises:
        InputError: it has no time zone.
    """
    if moment.utcoffset() is None:
        raise InputError(f"{moment} has no time zone; give one, as in datetime.now(UTC)")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_time(text: str) -> datetime:
    """The inverse of :func:`as_time`.

    Raises:
        InputError: it is no such text, or no such moment.
    """
    try:
        if not TIME.fullmatch(text):
            raise ValueError
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise InputError(f"{text!r} is no time; give UTC, as in 2026-01-31T12:00:00Z") from error


def _check(value: Any, where: str, depth: int) -> None:
    if depth > _DEPTH:
        raise InputError(f"{where}: nested in more than {_DEPTH} levels; make it flatter")
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if any(0xD800 <= ord(c) <= 0xDFFF for c in value):
            raise InputError(f"{where}: a text with half a character (lone surrogate); give valid Unicode")
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise InputError(f"{where}: {value:.3e} does not fit 64 bits; write it as text")
    elif isinstance(value, float):
        if value - value != 0:
            raise InputError(f"{where}: {value} is not a number in JSON; write it as text, or leave it out")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InputError(f"{where}: the key {key!r} is no text")
            _check(key, f"{where}: key", depth)
            _check(item, f"{where}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]", depth + 1)
    else:
        raise InputError(f"{where}: a {type(value).__name__} has no place in JSON; convert it")
