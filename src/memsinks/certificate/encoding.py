"""JSON that gives the same bytes for the same content, JSON that everybody reads alike, and times in UTC."""

import json
from datetime import UTC, datetime
from typing import Any

from memsinks.errors import InputError

_TIME = "%Y-%m-%dT%H:%M:%SZ"


def canonical(content: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no blanks.

    Raises:
        InputError: the content has a number that is not finite, or text that is not Unicode.
    """
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except ValueError as error:
        raise InputError(f"cannot be written as JSON: {error}") from error


def read_object(data: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: it is not UTF-8 or JSON, not an object, or one that parsers may read differently: a key is there
            twice, or a number is not finite.
    """
    try:
        content = json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError("not a JSON object")
    return content


def utc(time: datetime) -> datetime:
    """The same time in UTC, in whole seconds.

    Raises:
        InputError: the time has no zone.
    """
    if time.tzinfo is None:
        raise InputError(f"the time {time.isoformat()} has no zone; give it one, as in datetime.now(UTC)")
    return time.astimezone(UTC).replace(microsecond=0)


def format_time(time: datetime) -> str:
    """As in ``2026-01-31T12:00:00Z``."""
    return utc(time).strftime(_TIME)


def parse_time(text: str) -> datetime:
    """Read what :func:`format_time` wrote.

    Raises:
        InputError: the text has another form.
    """
    try:
        time = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        time = None
    # `strptime` also takes digits that are left out.
    if time is None or format_time(time) != text:
        raise InputError(f"{text!r} is not a time; write it in UTC as in 2026-01-31T12:00:00Z")
    return time


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("an object has a key twice")
    return content


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")
