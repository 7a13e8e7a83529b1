"""How often each document is trained on, and which documents get sinks."""

import hashlib
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memsinks.corpus import Corpus
from memsinks.errors import InputError
from memsinks.stream import mixture

_FORMAT = {b"format": b"memsinks-exposures", b"format_version": b"1"}


@dataclass(frozen=True, eq=False)
class ExposurePlan:
    """The number of exposures of each document of a corpus; every method returns a new plan.

    Documents are named by their numbers or by their names. Where a method has to round, whether a document gets the
    exposure above or below depends on ``seed`` and on what the corpus contains, not on the order of its documents.

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

    @property
    def hash(self) -> str:
        """SHA-256 of the counts, as hexadecimal digits."""
        return hashlib.sha256(self.counts.tobytes()).hexdigest()

    @property
    def tokens(self) -> int:
        """The stored tokens that are planned, over all exposures."""
        return int((self.counts * self.corpus.lengths).sum())

    def upsample(self, factors: Mapping[str, float], *, column: str | None = None, seed: int = 0) -> "ExposurePlan":
        """The same plan, with so many times the exposures of the documents of a source.

        A document whose exposures come out as 2.3 gets 2 or 3. The tokens of each source are those wanted but for less
        than one document, its longest.

        Args:
            factors: 1 or more, by source (``""`` for documents without one), or by value of ``column``.
            column: a metadata column that decides instead of the source; booleans are spelled true and false.
            seed: of the rounding.

        Raises:
            InputError: a factor is below 1, there is no such column, or a source or value does not occur, is held out
                for validation as a whole, or has no exposure in this plan.
        """
        mixture.check_factors(factors)
        factors = dict(sorted(factors.items()))
        present = self._sources() if column is None else [_spelled(value) for value in self.corpus.metadata(column)]
        what = "source" if column is None else f"value of column {column!r}"
        group = mixture.find_names(present, factors, what)
        for i, name in enumerate(factors):
            mixture.check_exposed(self._text(), group == i, f"the {what} {mixture.shown(name)}", "its factor")
        return self._scaled(np.array([*factors.values(), 1.0])[group], [group], seed)

    def weighted(
        self,
        weights: Mapping[str, float],
        *,
        mixture_tokens: int | None = None,
        mixture_epochs: float | None = None,
        subsample: bool = False,
        seed: int = 0,
    ) -> "ExposurePlan":
        """The same plan, scaled so that each source has its share of the tokens.

        All documents of a source are scaled alike; the number of exposures of each is then rounded up or down. The
        tokens of each source are those wanted but for less than one document, its longest.

        Args:
            weights: by source (``""`` for documents without one); divided by their sum, they are shares of the tokens.
                ``"*"`` is the weight of all sources without one of their own, which divide it in proportion to their
                tokens in this plan. Sources with weight 0 get no exposure.
            mixture_tokens: tokens planned in all; by default as many as this plan has.
            mixture_epochs: the same as a multiple of the tokens of this plan.
            subsample: leave documents out, chosen by hash, where a share is too small to show each once. By default
                that is an error.
            seed: of the rounding.

        Raises:
            InputError: a weight or the budget is out of range; a source has no weight, does not occur, is held out
                for validation as a whole or has no exposure in this plan; or the budget is too small.
        """
        share = mixture.shares(weights)
        if mixture_tokens is not None and mixture_epochs is not None:
            raise InputError("mixture_tokens and mixture_epochs both say how much is planned; give one of the two")
        given = next((b for b in (mixture_tokens, mixture_epochs) if b is not None), 1.0)
        if not 0 < given < math.inf:
            raise InputError(f"a budget of {given} plans nothing; give more than 0")
        budget = float(mixture_tokens) if mixture_tokens is not None else self.tokens * given
        sources = self._sources()
        group, factors = mixture.weighted_factors(self._text(), sources, share, budget, subsample=subsample)
        by_name = {name: i for i, name in enumerate(sorted(set(sources)))}
        plan = self._scaled(factors[group], [np.array([by_name[name] for name in sources]), group], seed)
        if not plan.total:
            raise InputError(f"a budget of {budget:,.0f} tokens is less than half a document; give more")
        return plan

    def epochs(self, number: int) -> "ExposurePlan":
        """The same plan ``number`` times over: every count times ``number``."""
        if _count(number) < 1:
            raise InputError(f"a plan is gone through 1 time or more, not {number}")
        if int(self.counts.max(initial=0)) * number >= 2**63:
            raise InputError(f"{number} times the exposures of this plan are more than 64 bits count; give fewer")
        return ExposurePlan(self.corpus, self.counts * number)

    def cap_id(self, times: int, *, seed: int = 0) -> "ExposurePlan":
        """The same plan, with at most ``times`` exposures of any sequence ID, over all its documents.

        An ID that has more keeps exactly ``times``, divided among its documents in proportion to their exposures, each
        rounded up or down. Where ``times`` is less than the number of its documents, some get none.

        Raises:
            InputError: ``times`` is below 1.
        """
        if _count(times) < 1:
            raise InputError(f"a cap of {times} per ID would leave nothing to train on; give 1 or more")
        order, _ = mixture.hash_order(self.corpus.content_ids, self.corpus.documents, seed)
        return ExposurePlan(self.corpus, mixture.cap_groups(self.counts, self.corpus.sequence_ids, times, order))

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

    def _sources(self) -> list[str]:
        return [mixture.NO_SOURCE if source is None else source for source in self.corpus.sources]

    def _text(self) -> mixture.Text:
        return mixture.Text(self.counts, self.corpus.lengths, self.corpus.is_validation)

    def _scaled(self, factor: np.ndarray, groups: list[np.ndarray], seed: int) -> "ExposurePlan":
        wanted = self.counts * factor
        if wanted.max(initial=0) >= 2**53:
            raise InputError("more than 2**53 exposures of one document are wanted; give a smaller budget or factor")
        order, keys = mixture.hash_order(self.corpus.content_ids, self.corpus.documents, seed)
        return ExposurePlan(self.corpus, mixture.round_counts(wanted, self.corpus.lengths, groups, order, keys))

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
            return mixture.find_names(corpus.sources, policy.values, "source") >= 0
        case "column":
            assert policy.column is not None
            values = [_spelled(value) for value in corpus.metadata(policy.column)]
            return mixture.find_names(values, policy.values, f"value of column {policy.column!r}") >= 0


def _spelled(value: Any) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 <= value < 2**63:
        raise InputError(f"a number of exposures must be an integer of 0 or more, not {value!r}")
    return int(value)
