"""Routing: beginnings of passages of novels and of general text, and what follows under the sinks that are chosen.

The router is that of ``memsinks serve --route``, made from the text that the arm was trained on. Its threshold comes
from general text of the training, none of which is measured.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from memsinks.audit import DocumentLosses, TokenizedDocument, document_losses, wilson
from memsinks.experiments.books import GENERAL, BookLab, BookSetting
from memsinks.experiments.catalogue import Experiment
from memsinks.experiments.lab import Arm
from memsinks.experiments.memory import change_row, cost_rows, interval_row, loss_row
from memsinks.experiments.per_source import METHODS
from memsinks.experiments.results import Row
from memsinks.experiments.routing_tables import (
    ALL,
    ARM,
    LENGTHS,
    OFF,
    ORACLE,
    PLACEBO,
    ROUTED,
    THRESHOLDS,
    figures,
    tables,
)
from memsinks.experiments.sizes import BOOKS
from memsinks.experiments.source_rows import PARTS, REMOVED, Found, over_novels
from memsinks.ids import source_id
from memsinks.runs.lineage import lineage_of
from memsinks.serving.routing import Router
from memsinks.sinks.modes import Mode, ModeLike
from memsinks.training.run import bf16_pays

Documents = Mapping[str, Sequence[TokenizedDocument]]
"""By the name of the set."""


def share_kept(off: Any, routed: Any, oracle: Any) -> Any:
    """(off - routed) / (off - oracle): the share of what the right sinks gain that routing gains too.

    Raises:
        ValueError: the right sinks gain nothing, in the mean or in a resample.
    """
    if np.any(off <= oracle):
        raise ValueError("the right sinks gain nothing")
    return (off - routed) / (off - oracle)


def picked(losses: Mapping[str, DocumentLosses], chosen: Sequence[str]) -> DocumentLosses:
    """The losses of each document under what was chosen for it, from those of all documents under each choice."""
    measured = next(iter(losses.values()))
    sums = [losses[choice].loss_sum[i] for i, choice in enumerate(chosen)]
    return DocumentLosses(measured.names, np.array(sums), measured.tokens)


def rate_rows(
    measure: str, choices: Sequence[tuple[str, str]], mode: str, tokens: int, threshold: float | None = None
) -> list[Row]:
    """How many prompts got what is right, and how many no sinks, with Wilson intervals.

    Args:
        measure: begins the names of the rows, ``<measure>/right`` and ``<measure>/abstained``, along the tokens of the
            prompts; with a threshold they end in ``_above`` and are along that.
        choices: of each prompt, what was chosen and what is right.
        mode: of the rows.
        tokens: of each prompt.
        threshold: of the router, if it is not its own.
    """
    end, x = ("", float(tokens)) if threshold is None else ("_above", threshold)
    right, abstained = sum(a == b for a, b in choices), sum(a == OFF for a, _ in choices)
    return [
        interval_row(ARM, f"{measure}/{kind}{end}", wilson(count, len(choices)), mode, x)
        for kind, count in (("right", right), ("abstained", abstained))
    ]


def _prepare(setting: BookSetting, seed: int, folder: Path, *, progress: bool) -> BookLab:
    return BookLab(setting, seed, folder / "source", "source", progress=progress)


def _run(lab: BookLab) -> list[Row]:
    arm = next(method for method in METHODS if method.name == ARM).arm(lab)
    longest = lab.setting.max_length // 2
    lengths = [tokens for tokens in LENGTHS if tokens <= longest]
    measured = lab.measured(arm)
    documents = {name: [d for d in found if len(d.tokens) > longest] for name, found in lab.text.sets().items()}
    routers = _routers(lab, arm)
    rows = [*cost_rows(ARM, measured), Row(arm=ARM, measure="threshold", value=routers[None].threshold)]
    for tokens in lengths:
        rows += _rates(lab, documents, routers, tokens)
    tokens = LENGTHS[2] if LENGTHS[2] in lengths else lengths[-1]
    losses = _losses(lab, arm, documents, tokens)
    rows += loss_rows(lab.setting.books, losses, _routed(lab, documents, routers, tokens))
    for threshold in THRESHOLDS:
        for router in routers.values():
            router.threshold = threshold
        rows += _rates(lab, documents, routers, tokens, threshold)
    return rows


def _routers(lab: BookLab, arm: Arm) -> dict[str | None, Router]:
    """That of the arm, and by novel that of a server which starts after its removal."""

    def router(*removed: str) -> Router:
        gone = frozenset(map(source_id, removed))
        return Router.of(lineage_of(lab.place(arm)), [lab.text.corpus.place], excluded=lambda: gone)

    return {None: router(), **{book: router(book) for book in lab.setting.books}}


def _routed(
    lab: BookLab, documents: Documents, routers: Mapping[str | None, Router], tokens: int
) -> dict[str, dict[str, list[str]]]:
    """What each document is routed to, in the modes routed and removed, by set; general text in the former only."""
    return {
        ROUTED: {name: _chosen(lab, routers[None], found, tokens) for name, found in documents.items()},
        REMOVED: {
            name: _chosen(lab, routers[name.partition("/")[0]], found, tokens)
            for name, found in documents.items()
            if name != GENERAL
        },
    }


def _chosen(lab: BookLab, router: Router, documents: Sequence[TokenizedDocument], tokens: int) -> list[str]:
    """The novel that each document's beginning is routed to, or ``off``."""
    decode = lab.text.corpus.tokenizer.decode
    return [router.route(decode(d.tokens[:tokens], skip_special_tokens=True)).source or OFF for d in documents]


def _rates(
    lab: BookLab,
    documents: Documents,
    routers: Mapping[str | None, Router],
    tokens: int,
    threshold: float | None = None,
) -> Iterator[Row]:
    """Rates of each set, and of all novels together; after the removal of a novel, none is right for it."""
    for mode, routed in _routed(lab, documents, routers, tokens).items():
        pooled: dict[str, list[tuple[str, str]]] = {}
        for name, chosen in routed.items():
            book, _, part = name.partition("/")
            choices = [(choice, OFF if mode == REMOVED or name == GENERAL else book) for choice in chosen]
            yield from rate_rows(name, choices, mode, tokens, threshold)
            if part:
                pooled.setdefault(part, []).extend(choices)
        for part, choices in pooled.items():
            yield from rate_rows(f"all/{part}", choices, mode, tokens, threshold)


def _losses(lab: BookLab, arm: Arm, documents: Documents, tokens: int) -> dict[str, dict[str, DocumentLosses]]:
    """Of what follows the first tokens, by set and by the sinks that are on: none, all, or one novel's."""
    key = {"fingerprint": lab.measured(arm).data["fingerprint"], "tokens": tokens}

    def measure() -> dict[str, Any]:
        model = lab.model(arm)
        modes: dict[str, ModeLike] = {book: Mode("chosen", (source_id(book),)) for book in lab.setting.books}
        modes |= {OFF: "off", ALL: "all"}
        found: dict[str, Any] = {}
        for name, passages in documents.items():
            scored = [replace(passage, scored_from=tokens) for passage in passages]
            found[name] = {
                choice: document_losses(
                    model, scored, mode=mode, max_length=lab.setting.max_length, autocast=bf16_pays()
                ).to_json()
                for choice, mode in modes.items()
            }
        return found

    kept = lab.kept(f"continuations_{arm.name}", key, measure)
    return {
        name: {choice: DocumentLosses.from_json(value) for choice, value in by_choice.items()}
        for name, by_choice in kept.items()
    }


def loss_rows(
    books: Sequence[str],
    losses: Mapping[str, Mapping[str, DocumentLosses]],
    routed: Mapping[str, Mapping[str, Sequence[str]]],
) -> Iterator[Row]:
    """Losses by mode, what routing keeps of the right sinks' gain, and what it does to general text.

    Args:
        books: all novels.
        losses: by set and by the sinks that are on: a novel's, ``off`` or ``all``.
        routed: in the modes routed and removed, by set, what was chosen for each document.
    """
    modes: dict[str, dict[str, DocumentLosses]] = {mode: {} for mode in (OFF, ROUTED, ORACLE, PLACEBO, ALL, REMOVED)}
    for name, by_choice in losses.items():
        book = name.partition("/")[0]
        right, wrong = (OFF, books[0]) if name == GENERAL else (book, books[(books.index(book) + 1) % len(books)])
        fixed = {OFF: OFF, ORACLE: right, PLACEBO: wrong, ALL: ALL}
        for mode, choice in fixed.items():
            modes[mode][name] = by_choice[choice]
        for mode, chosen in routed.items():
            if name in chosen:
                modes[mode][name] = picked(by_choice, chosen[name])
    found = {mode: Found(by_set, {}) for mode, by_set in modes.items()}
    for mode, of in found.items():
        yield from (loss_row(ARM, name, value, mode) for name, value in of.losses.items())
        for part in PARTS:
            yield interval_row(ARM, f"all/{part}", over_novels(_same, [of], books, part), mode)
        if mode not in (OFF, REMOVED):
            yield change_row(ARM, GENERAL, of.losses[GENERAL], found[OFF].losses[GENERAL], mode)
    compared = [found[OFF], found[ROUTED], found[ORACLE]]
    for group in (*((book,) for book in books), books):
        for part in PARTS:
            with suppress(ValueError):
                kept = over_novels(share_kept, compared, group, part)
                yield interval_row(ARM, f"{group[0] if len(group) == 1 else 'all'}/{part}/kept", kept, ROUTED)


def _same(mean: Any) -> Any:
    return mean


ROUTING = Experiment(
    name="routing",
    title="Prompts routed to the source whose text they are like: novels as sources with rows of their own",
    claim="A prompt can be served with the sinks of the source that it belongs to without naming it, and never with "
    "those of a removed one (ours).",
    supports="How often BM25 over a source's own passages finds the right novel, or rightly none, by the prompt's "
    "length, and how much of the right sinks' gain that keeps, at this size.",
    not_shown="Many or similar sources, prompts that are no beginnings of a passage, such as questions, and other ways "
    "to compare a prompt with a source.",
    settings=BOOKS,
    text="books",
    arms=1,
    run=_run,
    tables=tables,
    figures=figures,
    prepare=_prepare,
)
