"""A ledger in a file of JSON lines: a first line with format and head, then an entry a line, all in canonical JSON."""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from memsinks.errors import InputError, LedgerError
from memsinks.ledger.chain import FORMAT, FORMAT_VERSION, Entry, Head, Problem, check_chain
from memsinks.ledger.forms import canonical
from memsinks.ledger.people import Person, check_people

_FIELDS = {"seq", "time", "kind", "removal", "people", "body", "previous", "hash"}


def write_file(output: Path, entries: Iterable[Entry], head: Head, names: Mapping[str, Person] | None = None) -> None:
    """Write a ledger; the file appears whole or not at all.

    Args:
        output: the file to make.
        entries: all entries, in order.
        head: number and hash of the last one.
        names: rows of the table of names by their commitment; without it the file has no names.

    Raises:
        InputError: the file exists or cannot be written.
    """
    check_new(output)
    temporary = output.with_name(f".{output.name}.{uuid.uuid4().hex[:8]}.partial")
    header = {"format": FORMAT, "format_version": FORMAT_VERSION, "head": head._asdict()}
    try:
        with temporary.open("x", encoding="ascii", newline="\n") as file:
            file.write(canonical(header, "head") + "\n")
            for entry in entries:
                line = asdict(entry)
                if names is not None:
                    line["names"] = {role: _name(names.get(c)) for role, c in entry.people.items()}
                file.write(canonical(line, "entry") + "\n")
        temporary.replace(output)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error}); check its folder and the space in it") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_new(output: Path) -> None:
    """Raise :class:`InputError` if the file exists, or its folder does not."""
    if output.exists() or output.is_symlink():
        raise InputError(f"{output}: already exists; choose another file or remove it")
    if not output.parent.is_dir():
        raise InputError(f"{output}: the folder {output.parent} does not exist; make it first")


def verify_file(file: Path, anchors: Iterable[tuple[int, str]] = ()) -> tuple[Head, list[Problem]]:
    """Check a ledger that was exported, without its database.

    Args:
        file: what ``memsinks ledger export`` wrote.
        anchors: numbers and hashes of entries that were written down elsewhere.

    Returns:
        Number and hash of the last entry, and what is wrong.

    Raises:
        InputError: the file cannot be read, or is no exported ledger of a format that is known; or an anchor is not a
            number and a hash.
    """
    try:
        with file.open(encoding="utf-8", newline="\n") as lines:
            head = _read_header(file, next(lines, ""))
            problems: list[Problem] = []
            parsed = list(_read_lines(lines, problems))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file}: cannot be read as a ledger ({error}); give a file of `memsinks ledger export`"
        ) from error
    sequence = [fields for fields, _ in parsed]
    problems += check_chain(sequence, head, anchors)
    named = [(fields, names) for fields, names in parsed if names is not None]
    problems += check_people(
        [fields for fields, _ in named], [person for fields, names in named for person in _people(fields, names)]
    )
    return head, problems


def _name(person: Person | None) -> dict[str, str | None] | None:
    return None if person is None or person.erased else {"name": person.name, "salt": person.salt}


def _read_header(file: Path, line: str) -> Head:
    try:
        header = json.loads(line)
        version = header["format_version"]
        if header["format"] != FORMAT:
            raise ValueError
        if version == FORMAT_VERSION:
            return Head(**header["head"]).checked()
    except (ValueError, KeyError, TypeError, RecursionError, InputError) as error:
        raise InputError(f"{file}: is no exported ledger; give a file of `memsinks ledger export`") from error
    raise InputError(
        f"{file}: is of format version {version}; this version of memsinks knows {FORMAT_VERSION}: install a newer one"
    )


def _read_lines(
    lines: Iterable[str], problems: list[Problem]
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Fields of each entry as a database holds them, and its names if they are there."""
    for number, line in enumerate(lines, 2):
        try:
            fields = json.loads(line)
            # Of two equal keys one reader takes the first and another the second, so no other text than ours will do.
            if canonical(fields, "line") + "\n" != line or set(fields) - {"names"} != _FIELDS:
                raise LedgerError("not in the form of an entry")
            names = fields.pop("names", None)
            if names is not None and not isinstance(names, dict):
                raise LedgerError("its names are no JSON object")
            fields |= {name: canonical(fields[name], name) for name in ("people", "body")}
        except (ValueError, TypeError, RecursionError, InputError, LedgerError) as error:
            problems.append(Problem(None, f"line {number} is not an entry as it was exported ({error})"))
            continue
        yield fields, names


def _people(fields: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[Person]:
    """Rows of the table of names as a file holds them; a commitment of another form is told of elsewhere."""
    for role, committed in json.loads(fields["people"]).items():
        if role in names:
            kept = names[role] if isinstance(names[role], dict) else {}
            # A name without its salt, or another kind of value, must not pass for an erased one.
            salt, name = (None, None) if names[role] is None else (kept.get("salt", ""), kept.get("name", ""))
            yield Person(committed, role, salt, name, None)
