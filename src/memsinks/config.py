"""Typed configurations in TOML: read with errors that name the key, write with a comment on every key, hash.

A configuration is a tree of frozen dataclasses that derive from :class:`Section`. The comments come from the
``Attributes:`` part of their docstrings, so that a key is described once, for Python, the command line and the file.
"""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_origin, get_type_hints

import docstring_parser
import tomlkit
from pydantic import ConfigDict, TypeAdapter, ValidationError
from tyro.constructors import PrimitiveConstructorSpec

from memsinks.errors import ConfigError


class Section:
    """Base of configuration dataclasses: no unknown keys, and no value of another type."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)


C = TypeVar("C", bound=Section)

LATER: Mapping[str, bool] = {"later": True}
"""Metadata of a key (``field(metadata=LATER)``) that came after hashes were kept: it is hashed only where it is not at
its default, so that what was made before it still has its hash."""


def _numbers(arguments: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for argument in arguments:
        name, sign, number = argument.rpartition("=")
        if not sign:
            raise ValueError(f"{argument!r} is not NAME=NUMBER")
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = float(number)
    return found


Numbers = Annotated[
    dict[str, float],
    PrimitiveConstructorSpec(
        nargs="*",
        metavar="[NAME=NUMBER ...]",
        instance_from_str=_numbers,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [f"{name}={number!r}" for name, number in value.items()],
    ),
]
"""Type of a key that gives numbers to names: ``{ "a" = 0.7, "b" = 0.3 }`` in TOML, ``a=0.7 b=0.3`` as an option."""


def read_config(cls: type[C], file: Path) -> C:
    """Read a TOML file into a configuration; keys that are left out keep their defaults.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown, misplaced, of another type, or out of range.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not TOML: {error}") from error
    try:
        return parse_config(cls, content)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def parse_config(cls: type[C], content: Mapping[str, Any]) -> C:
    """A configuration from nested mappings of TOML values.

    Raises:
        ConfigError: see :func:`read_config`; all unknown keys and wrong types are listed.
    """
    try:
        # By way of JSON, whose strict rules take a list for a tuple and a string for a path, and nothing else.
        return TypeAdapter(cls).validate_json(json.dumps(content, default=_json))
    except ValidationError as error:
        raise ConfigError("; ".join(_problems(cls, error))) from error


def config_toml(config: Section) -> str:
    """The configuration as a TOML file with every key; one that is not set stands there as a comment."""
    document = tomlkit.document()
    _write(document, config)
    return tomlkit.dumps(document)


def config_hash(config: Section) -> str:
    """SHA-256, as hexadecimal digits, of the configuration's values (not of comments or layout).

    Keys that came :data:`LATER` count only where they are not at their defaults.
    """
    canonical = json.dumps(_hashed(_normal(config)), sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _hashed(config: Any) -> dict[str, Any]:
    values = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if field.metadata.get("later") and value == _default(field):
            continue
        values[field.name] = _hashed(value) if is_dataclass(value) else value
    return values


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def differences(old: Section, new: Section) -> list[str]:
    """The keys, as ``section.key``, in which two configurations of one type differ."""
    left, right = dict(flat_values(_normal(old))), dict(flat_values(_normal(new)))
    # A pool of 1 is one sink, and of 1.0 as many as the MLP is wide.
    return [key for key, value in left.items() if (type(value), value) != (type(right[key]), right[key])]


def flat_values(config: Any, cls: Any = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key, as ``section.key``, and its value; with ``cls``, a base class, only those that it has."""
    for field in fields(cls or config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from flat_values(value, None, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def _normal(config: Any) -> Any:
    """The configuration as it would be read: 1 is 1.0 where only fractions are taken."""
    return parse_config(type(config), asdict(config))


def _json(value: Any) -> Any:
    """What JSON has no type for: paths, and TOML's dates, which no key takes."""
    return str(value) if isinstance(value, Path) else {type(value).__name__: str(value)}


def _comments(cls: Any) -> dict[str, str]:
    documented: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        documented |= {p.arg_name: p.description or "" for p in docstring_parser.parse(base.__doc__ or "").params}
    # One entry may describe several keys: "beta1, beta2: ...".
    return {
        name.strip(): " ".join(text.split()).replace("``", "")
        for names, text in documented.items()
        for name in names.split(",")
    }


def _write(table: Any, config: Any) -> None:
    comments = _comments(type(config))
    plain = [f.name for f in fields(config) if not is_dataclass(getattr(config, f.name))]
    for name in plain:
        value = getattr(config, name)
        for line in _wrapped(comments.get(name, "")):
            table.add(tomlkit.comment(line))
        if value is None:
            table.add(tomlkit.comment(f"{name} ="))
        else:
            table.add(name, _toml(value))
    for field in fields(config):
        if field.name not in plain:
            section = tomlkit.table()
            _write(section, getattr(config, field.name))
            table.add(tomlkit.nl())
            table.add(field.name, section)


def _toml(value: Any) -> Any:
    if isinstance(value, Mapping):
        # On one line, for the keys below it would else belong to the table.
        inline = tomlkit.inline_table()
        inline.update(value)
        return inline
    return str(value) if isinstance(value, Path) else value


def _wrapped(text: str, width: int = 110) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = ""
        line = f"{line} {word}".strip()
    if line:
        yield line


def _keys(cls: Any, prefix: str = "") -> Iterator[str]:
    for field in fields(cls):
        # Sections are named by their class, never by a string or a union.
        if is_dataclass(field.type):
            yield from _keys(field.type, f"{prefix}{field.name}.")
        yield prefix + field.name


def _tables(cls: Any, prefix: str = "") -> Iterator[str]:
    """The keys whose value is a mapping."""
    for name, kind in get_type_hints(cls).items():
        if is_dataclass(kind):
            yield from _tables(kind, f"{prefix}{name}.")
        elif get_origin(kind) is dict:
            yield prefix + name


_EXPECTED = {
    "int_type": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a table of names and numbers",
    "dataclass_type": "a section",
}
"""In TOML's words, by pydantic's name of the error."""


def _problems(cls: type, error: ValidationError) -> Iterator[str]:
    known, tables = list(_keys(cls)), set(_tables(cls))
    # The alternatives of a union are reported one by one.
    expected: dict[tuple[str, str], list[str]] = {}
    for problem in error.errors(include_url=False):
        path = problem["loc"]
        if problem["type"] == "unexpected_keyword_argument":
            yield _unknown(".".join(map(str, path)), str(path[-1]), known)
            continue
        # A union adds the names of its alternatives to the location, and a list or table the entry.
        ends = range(len(path), 0, -1)
        end = next((end for end in ends if ".".join(map(str, path[:end])) in known), 0)
        in_table = ".".join(map(str, path[:end])) in tables
        entry = "".join(f"[{part!r}]" for part in path[end:] if in_table or isinstance(part, int))
        kind = _EXPECTED.get(problem["type"], problem["msg"].removeprefix("Input should be "))
        expected.setdefault((".".join(map(str, path[:end])) + entry, repr(problem["input"])), []).append(kind)
    for (key, given), kinds in expected.items():
        yield f"{key} must be {' or '.join(kinds)}, not {given}"


def _unknown(key: str, name: str, known: list[str]) -> str:
    section = key.removesuffix(name)
    siblings = {k.removeprefix(section): k for k in known if k.rpartition(".")[0] == section[:-1]}
    names = {k.rpartition(".")[2]: k for k in known}
    close = [k for k in known if k.rpartition(".")[2] == name]
    for candidates in (siblings, names):
        close = close or [candidates[match] for match in difflib.get_close_matches(name, candidates, n=1)]
    if close:
        return f"unknown key {key!r}; did you mean {' or '.join(map(repr, close))}?"
    return (
        f"unknown key {key!r}; {f'keys of {section[:-1]}' if section else 'top-level keys'} are {', '.join(siblings)}"
    )
