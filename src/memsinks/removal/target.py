"""What is asked to be removed: everything, sources, groups, documents, IDs, or what a query over metadata finds."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from memsinks.corpus import Corpus
from memsinks.errors import InputError
from memsinks.ids import format_id, parse_id
from memsinks.stream import mixture

_CONDITION = re.compile(r"\s*([^<>=!]+?)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A request; documents that any part of it names are meant.

    Attributes:
        everything: all sinks, whatever they hold.
        sources: names of sources.
        groups: documents that stand for the group they are in, with its near-copies.
        documents: names of documents.
        ids: sequence IDs, 16 hexadecimal digits each.
        where: conditions on metadata columns, ``COLUMN=VALUE`` with ``=``, ``!=``, ``<``, ``<=``, ``>`` or ``>=``; a
            document has to meet all of them. ``source`` and ``document`` are columns too.
    """

    everything: bool = False
    sources: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        named = any((self.sources, self.groups, self.documents, self.ids, self.where))
        if self.everything and named:
            raise InputError("everything is to be removed, and something in particular too; give one of the two")
        if not self.everything and not named:
            raise InputError(
                "nothing is named to remove; give --sources, --groups, --documents, --ids, --where or --everything"
            )

    def describe(self) -> str:
        """For people."""
        if self.everything:
            return "all sinks"
        kinds = {
            "source": self.sources,
            "group of document": self.groups,
            "document": self.documents,
            "ID": self.ids,
        }
        parts = [
            f"{kind}{'s' if len(names) > 1 else ''} {', '.join(map(repr, names[:5]))}"
            + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            for kind, names in kinds.items()
            if names
        ]
        if self.where:
            parts.append(f"documents where {' and '.join(self.where)}")
        return "; ".join(parts)


def find(target: Target, corpus: Corpus) -> np.ndarray:
    """The documents that a request names: ``bool [documents]``, held-out ones among them.

    Raises:
        InputError: a name does not occur, a condition cannot be read, or nothing meets the conditions.
    """
    if target.everything:
        return np.ones(len(corpus), dtype=bool)
    chosen = np.zeros(len(corpus), dtype=bool)
    if target.sources:
        chosen |= mixture.find_names(corpus.sources, target.sources, "source") >= 0
    for name in target.groups:
        chosen |= corpus.group_ids == corpus.group_ids[corpus.index(name)]
    for name in target.documents:
        chosen[corpus.index(name)] = True
    for text in target.ids:
        same = corpus.sequence_ids == np.uint64(parse_id(text))
        if not same.any():
            raise InputError(f"{corpus.place}: no document has ID {text}, as the run gave IDs")
        chosen |= same
    if target.where:
        found = np.ones(len(corpus), dtype=bool)
        for condition in target.where:
            found &= meets(condition, corpus)
        if not found.any():
            raise InputError(f"{corpus.place}: no document meets {' and '.join(map(repr, target.where))}")
        chosen |= found
    return chosen


def meets(condition: str, corpus: Corpus) -> np.ndarray:
    """Which documents meet one condition: ``bool [documents]``. A missing value meets none, not even ``!=``.

    Raises:
        InputError: it cannot be read, or its value is of another kind than the column's.
    """
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise InputError(f"--where {condition!r}: expected COLUMN=VALUE, with =, !=, <, <=, > or >=")
    column, sign, wanted = match.groups()
    values: list[Any]
    if column == "source":
        values = list(corpus.sources)
    elif column == "document":
        values = list(corpus.documents)
    else:
        values = corpus.metadata(column)
    kind = next((type(value) for value in values if value is not None), str)
    value = _parsed(condition, wanted, kind)
    compare = _OPERATORS[sign]
    return np.array([own is not None and compare(own, value) for own in values], dtype=bool)


def shown_ids(ids: np.ndarray, most: int = 5) -> str:
    """Some IDs, for prose."""
    more = f" and {len(ids) - most} more" if len(ids) > most else ""
    return ", ".join(format_id(int(i)) for i in ids[:most]) + more


def _parsed(condition: str, wanted: str, kind: type) -> Any:
    if kind is bool:
        if wanted.lower() in ("true", "false"):
            return wanted.lower() == "true"
        raise InputError(f"--where {condition!r}: the column holds true and false, not {wanted!r}")
    try:
        return float(wanted) if kind is float else kind(wanted)
    except ValueError as error:
        raise InputError(f"--where {condition!r}: the column holds numbers, not {wanted!r}") from error
