"""The deny-list: IDs that are not to be served for now, as entries of the ledger say."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from memsinks.errors import InputError, SequenceIdError
from memsinks.ids import format_id, parse_id
from memsinks.ledger.chain import Entry
from memsinks.ledger.forms import as_time, from_time


def denial(ids: Iterable[int], reason: str, until: datetime | None) -> dict[str, Any]:
    """The body of an entry of kind denied."""
    return permission(ids, reason) | {"until": None if until is None else as_time(until)}


def permission(ids: Iterable[int], reason: str) -> dict[str, Any]:
    """The body of an entry of kind allowed."""
    return {"ids": sorted({format_id(i) for i in ids}), "reason": reason}


def check_denial(kind: str, body: Mapping[str, Any]) -> None:
    """Check the body of an entry of kind denied or allowed.

    Raises:
        InputError: a key is missing or unknown, there are no IDs, or one, the reason or the time is ill-formed.
    """
    keys = {"ids", "reason", "until"} if kind == "denied" else {"ids", "reason"}
    if set(body) != keys:
        raise InputError(f"the body of an entry {kind!r} has the keys {', '.join(sorted(keys))}, not {sorted(body)}")
    if not isinstance(body["ids"], list | tuple) or not body["ids"]:
        raise InputError(f"an entry {kind!r} has to list at least one ID")
    for text in body["ids"]:
        try:
            parse_id(text)
        except (TypeError, SequenceIdError) as error:
            raise InputError(f"{text!r} is not a sequence ID: give 16 hexadecimal digits (0-9, a-f)") from error
    if not isinstance(body["reason"], str) or not body["reason"].strip():
        raise InputError(f"an entry {kind!r} has to give a reason")
    if body.get("until") is not None:
        from_time(body["until"])


def denied_at(entries: Iterable[Entry], now: datetime) -> dict[int, str]:
    """IDs that are denied at a moment, each with the reason of its last denial that is in force.

    A denial is in force until its time, or until an entry that allows the ID follows it.
    """
    moment = as_time(now)
    denials: dict[str, list[tuple[str, str | None]]] = {}
    for entry in entries:
        for digits in entry.body["ids"] if entry.kind in ("denied", "allowed") else ():
            if entry.kind == "allowed":
                denials.pop(digits, None)
            else:
                denials.setdefault(digits, []).append((entry.body["reason"], entry.body["until"]))
    # Times of one form compare as text.
    in_force = {d: [r for r, until in all_ if until is None or until > moment] for d, all_ in denials.items()}
    return {parse_id(digits): reasons[-1] for digits, reasons in in_force.items() if reasons}
