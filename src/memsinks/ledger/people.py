"""People by role: an entry holds a commitment to a name, a table beside it holds the name until it is erased.

A commitment is the SHA-256 of a random salt, the role and the name. Without the salt it tells nothing about the name,
and two commitments to one person do not resemble each other.
"""

import hashlib
import json
import re
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Literal, get_args

from memsinks.errors import InputError, LedgerError
from memsinks.ledger.chain import Problem, read_entry

Role = Literal["requester", "approver", "operator"]
"""Who asked for a removal, who approved it, who carried it out."""
ROLES: tuple[Role, ...] = get_args(Role)

_SALT = re.compile(r"[0-9a-f]{32}")
_LENGTH = 200


@dataclass(frozen=True)
class Person:
    """A row of the table of names.

    Attributes:
        commitment: as the entry has it.
        role: requester, approver or operator.
        salt: 32 hexadecimal digits; None once erased.
        name: None once erased.
        keep_until: last day on which the name is kept, as in ``2026-01-31``; None to keep it until told.
    """

    commitment: str
    role: str
    salt: str | None
    name: str | None
    keep_until: str | None

    @property
    def erased(self) -> bool:
        """Whether the name is gone."""
        return self.name is None and self.salt is None


def commitment(salt: str, role: str, name: str) -> str:
    """SHA-256, in 64 hexadecimal digits, of the JSON array of the three."""
    return hashlib.sha256(json.dumps([salt, role, name], separators=(",", ":")).encode()).hexdigest()


def commit(people: Mapping[Role, str], keep_days: int | None, today: date) -> list[Person]:
    """A row with a fresh salt for each role.

    Args:
        people: a name by role.
        keep_days: days after ``today`` for which the names are kept; None to keep them until told.
        today: the day of the entry.

    Raises:
        InputError: a role is unknown, a name is empty, too long or has control characters, or ``keep_days`` is no
            number of days.
    """
    until = _keep_until(keep_days, today)
    rows = []
    for role, name in people.items():
        if role not in ROLES:
            raise InputError(f"people: there is no role {role!r}; the roles are {', '.join(ROLES)}")
        salt, name = secrets.token_hex(16), normal_name(name)
        rows.append(Person(commitment(salt, role, name), role, salt, name, until))
    return rows


def normal_name(name: str) -> str:
    """The name in Unicode's composed form with single blanks, as it is kept and compared.

    Raises:
        InputError: it is empty, longer than 200 characters, or has control characters.
    """
    if not isinstance(name, str):
        raise InputError(f"a name must be a text, not {name!r}")
    normal = " ".join(unicodedata.normalize("NFC", name).split())
    if not normal or len(normal) > _LENGTH or any(unicodedata.category(c) in ("Cc", "Cs") for c in normal):
        raise InputError(f"{name!r} is not a name: it has to have 1 to {_LENGTH} characters, none for control")
    return normal


def is_named(person: Person, name: str) -> bool:
    """Whether the row holds this name, whatever its case."""
    return isinstance(person.name, str) and person.name.casefold() == normal_name(name).casefold()


def has_passed(person: Person, today: date) -> bool:
    """Whether the last day on which the row's name is kept lies before ``today``."""
    return isinstance(person.keep_until, str) and person.keep_until < today.isoformat()


def refuse_names(content: Any, people: Iterable[Person], where: str) -> None:
    """Refuse a text that names one of the people: it would stay when their names are erased.

    Raises:
        InputError: a text somewhere in ``content`` has one of the names in it.
    """
    for person in people:
        # Its own words only: "Al" is not in "also".
        pattern = re.compile(rf"(?<!\w){re.escape(person.name or '')}(?!\w)", re.IGNORECASE)
        if any(pattern.search(unicodedata.normalize("NFC", text)) for text in _texts(content)):
            raise InputError(
                f"{where} has the name of the {person.role} in it, where it could not be erased; leave it out"
            )


def check_people(sequence: Iterable[Mapping[str, Any]], people: Iterable[Person]) -> list[Problem]:
    """What is wrong with the names that belong to stored entries. Erased names are no problem.

    Entries that cannot be read are passed over: :func:`memsinks.ledger.chain.check_chain` tells of them.
    """
    rows = {person.commitment: person for person in people}
    problems = []
    for fields in sequence:
        try:
            entry = read_entry(fields)
        except LedgerError:
            # A row is not called a stranger because its entry was changed.
            rows = {key: row for key, row in rows.items() if str(key) not in str(fields["people"])}
            continue
        for role, committed in entry.people.items():
            person = rows.pop(committed, None)
            if person is None:
                problems.append(Problem(entry.seq, f"the row of its {role} is missing from the table of names"))
            elif person.role != role or not (person.erased or _agrees(person)):
                problems.append(Problem(entry.seq, f"the name, role or salt of its {role} was changed"))
    if rows:
        problems.append(Problem(None, f"names that belong to no entry: {len(rows)}"))
    return problems


def _agrees(person: Person) -> bool:
    if type(person.salt) is not str or type(person.name) is not str or not _SALT.fullmatch(person.salt):
        return False
    return commitment(person.salt, person.role, person.name) == person.commitment


def _keep_until(keep_days: int | None, today: date) -> str | None:
    if keep_days is None:
        return None
    if type(keep_days) is not int or not 0 <= keep_days <= 36525:
        raise InputError(f"names cannot be kept for {keep_days!r} days; give a number from 0 to 36525, or None")
    return (today + timedelta(days=keep_days)).isoformat()


def _texts(content: Any) -> Iterable[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(content, list | tuple):
        for value in content:
            yield from _texts(value)
