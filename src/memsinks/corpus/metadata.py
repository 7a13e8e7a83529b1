"""One Arrow type for each metadata column, found before anything is written."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from memsinks.corpus.readers import Document, Scalar
from memsinks.errors import InputError


class MetadataTypes:
    """Watches the metadata of all documents and decides each column's type.

    Columns of integers become ``int64`` or ``uint64``; integers among fractional numbers become ``float64``; other
    mixtures are refused; a column of nulls only is a string column.
    """

    def __init__(self, columns: Iterable[str]) -> None:
        self._kinds: dict[str, dict[str, str]] = {column: {} for column in columns}
        self._range: dict[str, tuple[int, int]] = {}

    def observe(self, document: Document) -> None:
        """Take one document into account.

        Raises:
            InputError: a value is of another kind than those before it in its column.
        """
        for column in self._kinds:
            value = document.metadata[column]
            if value is None:
                continue
            kind = _kind(value)
            self._observe(column, kind, document.where)
            if kind == "integer":
                assert isinstance(value, int)
                self._widen(column, value, value)

    def _observe(self, column: str, kind: str, where: str) -> None:
        kinds = self._kinds[column]
        kinds.setdefault(kind, where)
        if len(kinds) > 1 and not kinds.keys() <= {"integer", "number"}:
            (first, place), *_ = kinds.items()
            raise InputError(
                f"{where}: column {column!r} holds a {kind} here and a {first} at {place}; "
                "use one type for the whole column"
            )

    def _widen(self, column: str, low: int, high: int) -> None:
        least, most = self._range.get(column, (low, high))
        self._range[column] = (min(least, low), max(most, high))

    def to_json(self) -> dict[str, Any]:
        """What was seen, for :meth:`add`."""
        return {"kinds": self._kinds, "range": self._range}

    def add(self, seen: dict[str, Any]) -> None:
        """Take into account what another watcher saw of later documents, as :meth:`to_json` gave it.

        Raises:
            InputError: see :meth:`observe`.
        """
        for column, kinds in seen["kinds"].items():
            for kind, where in kinds.items():
                self._observe(column, kind, where)
        for column, (low, high) in seen["range"].items():
            self._widen(column, low, high)

    def arrow_types(self) -> dict[str, pa.DataType]:
        """The type of each column.

        Raises:
            InputError: a column's integers fit neither ``int64`` nor ``uint64``.
        """
        return {column: self._arrow_type(column, kinds) for column, kinds in self._kinds.items()}

    def _arrow_type(self, column: str, kinds: dict[str, str]) -> pa.DataType:
        if "number" in kinds:
            low, high = self._range.get(column, (0, 0))
            if max(-low, high) > 2**53:
                raise InputError(
                    f"column {column!r} holds fractional numbers and integers from {low} to {high}, which a 64-bit "
                    "float cannot hold exactly; store them as strings"
                )
            return pa.float64()
        if "boolean" in kinds:
            return pa.bool_()
        if "integer" in kinds:
            low, high = self._range[column]
            if low >= -(2**63) and high < 2**63:
                return pa.int64()
            if low >= 0 and high < 2**64:
                return pa.uint64()
            raise InputError(
                f"column {column!r} holds integers from {low} to {high}, which fit neither int64 nor uint64; "
                "store them as strings"
            )
        return pa.string()


def _kind(value: Scalar) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else "string"
