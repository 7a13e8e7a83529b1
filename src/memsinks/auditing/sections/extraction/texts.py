"""What all measurements of extraction share: the texts as they are asked for, and figures of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memsinks.audit import DocumentLosses, TokenizedDocument, bootstrap, wilson
from memsinks.audit.findings import DocumentValue, Figure
from memsinks.auditing.bench import Bench
from memsinks.errors import InputError

SECTION = "extraction"
LEAST = 10
"""Tokens below which nothing is asked for: so few come out by chance."""
SETS = ("target", "unseen")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prefix and a suffix, and the documents that have both.

    Attributes:
        prefix, suffix: tokens.
        documents: by set of texts, ``target`` and ``unseen``.
        note: for people.
    """

    prefix: int
    suffix: int
    documents: dict[str, list[TokenizedDocument]]
    note: str


def limit(bench: Bench, condition: str) -> int:
    """Tokens of a document that are read at once: what training read and the model sees."""
    return min(bench.config.text.max_length, int(bench.opened(condition).model.config.max_position_embeddings))


def asked(bench: Bench, condition: str, prefix: int, *, most_unseen: int | None = None) -> Asked:
    """Documents for a prefix; the suffix is shortened, alike for all, to what half of the target's documents have.

    Documents that are shorter still are left out.

    Args:
        bench: of the audit.
        condition: of the model.
        prefix: tokens given.
        most_unseen: unseen documents, spread evenly over all.

    Raises:
        InputError: half of the target has no suffix of that length, or no unseen document has.
    """
    longest, texts = limit(bench, condition), bench.texts
    numbers = {"target": texts.target, "unseen": texts.unseen}
    room = min(longest, int(np.median(texts.corpus.lengths[texts.target]))) - prefix
    suffix = min(bench.config.extraction.suffix, room)
    if suffix < LEAST:
        raise InputError(
            f"documents are too short: after {prefix} tokens half of the target has fewer than {LEAST} more that the "
            f"model reads at once ({longest}); give shorter prefixes (--extraction.prefixes)"
        )
    whole = {
        name: [n for n in own.tolist() if int(texts.corpus.lengths[n]) >= prefix + suffix]
        for name, own in numbers.items()
    }
    if not whole["unseen"]:
        raise InputError(f"no unseen document has {prefix + suffix} tokens, so there is nothing to compare with")
    short = len(texts.target) - len(whole["target"])
    note = f"{prefix} tokens given, the next {suffix} compared"
    if short:
        note += f"; {short} of {len(texts.target)} documents of the target are too short"
    if most_unseen is not None and len(whole["unseen"]) > most_unseen:
        # Evenly, since a corpus may be sorted by source.
        whole["unseen"] = [whole["unseen"][i * len(whole["unseen"]) // most_unseen] for i in range(most_unseen)]
    documents = {name: texts.documents(np.array(own)) for name, own in whole.items()}
    return Asked(prefix=prefix, suffix=suffix, documents=documents, note=note)


def cut(document: TokenizedDocument, tokens: int) -> TokenizedDocument:
    """The document's first tokens."""
    return replace(document, tokens=document.tokens[:tokens], scored_from=1)


@dataclass(frozen=True)
class Told:
    """Figures of one set of texts under one condition."""

    condition: str
    texts: str

    def rate(self, measure: str, hits: Iterable[bool], **rest: Any) -> Figure:
        """Share of documents, with its Wilson interval."""
        found = list(hits)
        return Figure.of(wilson(sum(found), len(found)), number=len(found), unit="rate", **self._named(measure), **rest)

    def mean(self, measure: str, values: Sequence[float] | np.ndarray, *, unit: str, **rest: Any) -> Figure:
        """Mean over documents, with an interval by resampling them if there are two."""
        named, number = self._named(measure), len(values)
        if number < 2:
            return Figure(value=float(np.mean(values)), number=number, unit=unit, **named, **rest)
        each = DocumentLosses(
            tuple(map(str, range(number))), np.asarray(values, float), np.ones(number, dtype=np.int64)
        )
        return Figure.of(bootstrap(lambda mean: mean, each), number=number, unit=unit, **named, **rest)

    def unmeasured(self, measure: str, why: str) -> Figure:
        """A share of documents that could not be measured."""
        return Figure(value=None, unit="rate", note=why, **self._named(measure))

    def documents(self, measure: str, names: Iterable[str], values: Iterable[float]) -> list[DocumentValue]:
        """A value for each document."""
        return [
            DocumentValue(document=name, value=float(value), **self._named(measure))
            for name, value in zip(names, values, strict=True)
        ]

    def _named(self, measure: str) -> dict[str, Any]:
        return {"section": SECTION, "measure": measure, "condition": self.condition, "texts": self.texts}
