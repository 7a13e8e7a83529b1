"""How often each document is trained on, and which documents get sinks."""

import difflib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memsinks.corpus import Corpus
from memsinks.errors import InputError

_FORMAT = {b"format": b"memsinks-exposures", b"format_version": b"1"}


@dataclass(frozen=True, eq=False)
class ExposurePlan:
    """The number of exposures of each document of a corpus; every method returns a new plan.

    Documents are named by their numbers or by their names.

    Attributes:
        corpus: the corpus that is planned for.
        counts: ``int64`` ``[documents]``, read-only; 0 for every validation document.

    Raises:
        InputError: the counts are not one non-negative integer a document, or expose a validation document.
    """

    corpus: Corpus = field(repr=False)
    counts: np.ndarray

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts)
        if counts.shape != (len(self.corpus),) or counts.dtype.kind not in "iu":
            raise InputError(
                f"exposure counts must be {len(self.corpus)} integers, one a document, "
                f"not {counts.dtype} of shape {counts.shape}"
            )
        for bad, what in ((counts < 0, "a negative count"), ((counts > 0) & self.corpus.is_validation, "")):
            if bad.any():
                name = self.corpus.documents[int(np.argmax(bad))]
                if what:
                    raise InputError(f"document {name!r} has {what}; give 0 or more exposures")
                raise InputError(f"document {name!r} is held out for validation; it cannot be exposed in training")
        counts = counts.astype(np.int64)
        counts.setflags(write=False)
        object.__setattr__(self, "counts", counts)

    @classmethod
    def once(cls, corpus: Corpus) -> "ExposurePlan":
        """Every training document once."""
        return cls(corpus, (~corpus.is_validation).astype(np.int64))

    @property
    def total(self) -> int:
        """The number of exposures planned, over all documents."""
        return int(self.counts.sum())

    def repeat(self, documents: Iterable[int | str], times: int) -> "ExposurePlan":
        """The same plan, with ``times`` exposures of each of ``documents``."""
        counts = self.counts.copy()
        counts[self._numbers(documents)] = _count(times)
        return ExposurePlan(self.corpus, counts)

    def cap(self, times: int) -> "ExposurePlan":
        """The same plan, with at most ``times`` exposures of any document."""
        return ExposurePlan(self.corpus, np.minimum(self.counts, _count(times)))

    def only(self, documents: Iterable[int | str]) -> "ExposurePlan":
        """The same plan for ``documents``, and no exposure of any other."""
        chosen = np.zeros(len(self.corpus), dtype=bool)
        chosen[self._numbers(documents)] = True
        return ExposurePlan(self.corpus, np.where(chosen, self.counts, 0))

    def without(self, documents: Iterable[int | str]) -> "ExposurePlan":
        """The same plan, with no exposure of ``documents``."""
        counts = self.counts.copy()
        counts[self._numbers(documents)] = 0
        return ExposurePlan(self.corpus, counts)

    def save(self, path: Path | str) -> None:
        """Write the plan as Parquet: columns ``document`` and ``exposures``, one row a training document."""
        path = Path(path)
        training = np.flatnonzero(~self.corpus.is_validation)
        names = [self.corpus.documents[i] for i in training]
        table = pa.table({"document": pa.array(names, pa.string()), "exposures": self.counts[training]})
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            pq.write_table(table.replace_schema_metadata(_FORMAT), temporary)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise InputError(
                f"{path}: the plan cannot be written ({error}); check the folder and free space"
            ) from error

    @classmethod
    def load(cls, path: Path | str, corpus: Corpus) -> "ExposurePlan":
        """Read what :meth:`save` wrote, or any Parquet file with these columns; documents not in it get no exposure.

        Raises:
            InputError: the file cannot be read, names a document twice, one that the corpus does not have or one that
                is held out, or has a count that is not a non-negative integer.
        """
        path = Path(path)
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: cannot be read as Parquet ({error}); give a plan that `save` wrote") from error
        if missing := [c for c in ("document", "exposures") if c not in table.column_names]:
            raise InputError(f"{path}: no column {missing[0]!r}; a plan has the columns 'document' and 'exposures'")
        counts = np.zeros(len(corpus), dtype=np.int64)
        seen: dict[str, int] = {}
        rows = zip(table["document"].to_pylist(), table["exposures"].to_pylist(), strict=True)
        for row, (name, count) in enumerate(rows, start=1):
            try:
                if not isinstance(name, str):
                    raise InputError(f"the document must be a string, not {name!r}")
                if name in seen:
                    raise InputError(f"document {name!r} was already named in row {seen[name]}; name it once")
                seen[name] = row
                counts[corpus.index(name)] = _count(count)
            except InputError as error:
                raise InputError(f"{path}, row {row}: {error}") from error
        try:
            return cls(corpus, counts)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def _numbers(self, documents: Iterable[int | str]) -> list[int]:
        if isinstance(documents, str):
            raise InputError(f"give a list of documents, not the single string {documents!r}")
        return [self._number(document) for document in documents]

    def _number(self, document: int | str) -> int:
        if isinstance(document, str):
            return self.corpus.index(document)
        if isinstance(document, bool) or not isinstance(document, int | np.integer):
            raise InputError(f"a document is a name or a number, not {document!r}")
        if not 0 <= document < len(self.corpus):
            raise InputError(f"there is no document {document}; the corpus has documents 0 to {len(self.corpus) - 1}")
        return int(document)


PolicyKind = Literal["all", "repeated", "sources", "column"]


@dataclass(frozen=True)
class GovernedPolicy:
    """Which documents are governed, that is, train with their sinks on so that they can be removed.

    ======== ==============================================================================
    all      every document
    repeated those whose sequence ID has at least two planned exposures in all
    sources  those of the sources ``values``
    column   those whose metadata ``column`` has one of ``values`` (booleans: true, false)
    ======== ==============================================================================
    """

    kind: PolicyKind = "all"
    values: tuple[str, ...] = ()
    column: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(PolicyKind):
            raise InputError(f"unknown policy {self.kind!r}; choose from {', '.join(get_args(PolicyKind))}")
        if (self.kind in ("sources", "column")) != bool(self.values):
            raise InputError(f"policy {self.kind!r} takes {'no' if self.values else 'at least one'} value")
        if (self.kind == "column") != (self.column is not None):
            raise InputError("a column goes with policy 'column', and only with it")


def governed(corpus: Corpus, plan: ExposurePlan, policy: GovernedPolicy) -> np.ndarray:
    """Which documents of the corpus are governed.

    Returns:
        ``bool`` ``[documents]``; validation documents are judged by the same rule.

    Raises:
        InputError: a value of the policy occurs nowhere in the corpus, or the column does not exist.
    """
    match policy.kind:
        case "all":
            return np.ones(len(corpus), dtype=bool)
        case "repeated":
            _, group = np.unique(corpus.sequence_ids, return_inverse=True)
            totals = np.zeros(len(corpus), dtype=np.int64)
            np.add.at(totals, group, plan.counts)
            return totals[group] >= 2
        case "sources":
            return _matches(corpus.sources, policy.values, "source")
        case "column":
            assert policy.column is not None
            values = [_spelled(value) for value in corpus.metadata(policy.column)]
            return _matches(values, policy.values, f"value of column {policy.column!r}")


def _matches(present: list[str | None], wanted: tuple[str, ...], what: str) -> np.ndarray:
    known = {value for value in present if value is not None}
    for value in wanted:
        if value not in known:
            close = difflib.get_close_matches(value, known, n=1) or sorted(known)[:3]
            raise InputError(f"no document has the {what} {value!r}; did you mean {', '.join(map(repr, close))}?")
    return np.array([value in wanted for value in present], dtype=bool)


def _spelled(value: Any) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**63:
        raise InputError(f"a number of exposures must be an integer of 0 or more, not {value!r}")
    return int(value)
