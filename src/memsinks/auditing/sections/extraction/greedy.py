"""Greedy decoding and samples, from one teacher-forced pass."""

from collections.abc import Sequence

import numpy as np

from memsinks.audit import wilson
from memsinks.audit.discoverable import chance_within, log10_draws_needed
from memsinks.audit.findings import Curve, DocumentValue, Figure, Findings
from memsinks.audit.forced import ForcedDocument, forced
from memsinks.auditing.bench import Bench
from memsinks.auditing.sections.extraction.texts import SECTION, SETS, Told, asked, cut, limit
from memsinks.errors import InputError

EVEN = 0.5
"""Chance from which a document counts as drawn."""
DECADES = 9


def measure(bench: Bench, *, condition: str) -> Findings:
    """Exact extraction after each prefix, the longest run anywhere, and chances of samples."""
    settings = bench.config.extraction
    subject, longest = bench.opened(condition), limit(bench, condition)
    numbers = {"target": bench.texts.target, "unseen": bench.texts.unseen}
    figures: list[Figure] = []
    curves: list[Curve] = []
    values: list[DocumentValue] = []
    read = {}
    for texts in SETS:
        documents = [cut(d, longest) for d in bench.texts.documents(numbers[texts])]
        # Not in bfloat16: rounding there lets first choices that are close win or lose.
        found = forced(
            subject.model,
            documents,
            mode=subject.mode_for(texts),
            sampling=settings.sampling,
        )
        read[texts] = {d.name: d for d in found}
        told, runs = Told(condition, texts), [d.longest_run for d in found]
        note = f"most tokens in a row that greedy decoding reproduces, given all before them; of the first {longest}"
        figures.append(told.mean("longest run", runs, unit="tokens", note=note))
        values += told.documents("longest run", [d.name for d in found], runs)
    guessed = float(np.mean(np.concatenate([d.first_choice[1:] for d in read["unseen"].values()])))
    for prefix in sorted(settings.prefixes):
        try:
            chosen = asked(bench, condition, prefix)
        except InputError as error:
            figures.append(Told(condition, "target").unmeasured(f"exact, {prefix} tokens given", str(error)))
            continue
        for texts in SETS:
            told, found = Told(condition, texts), [read[texts][d.name] for d in chosen.documents[texts]]
            matching = [d.matching(prefix, chosen.suffix) for d in found]
            exact = [m == chosen.suffix for m in matching]
            # By chance every first choice would have to be right: even one document that comes out is no accident.
            chance = guessed**chosen.suffix
            figures += [
                told.rate(
                    f"exact, {prefix} tokens given", exact, note=chosen.note, question="extractable", chance=chance
                ),
                told.mean(f"matching from the start, {prefix} tokens given", matching, unit="tokens", note=chosen.note),
            ]
            if prefix == settings.prefix:
                own = _sampled(told, found, prefix, chosen.suffix, bench)
                figures, curves, values = figures + own[0], curves + own[1], values + own[2]
    return Findings(figures=tuple(figures), curves=tuple(curves), documents=tuple(values))


def _sampled(
    told: Told, found: Sequence[ForcedDocument], prefix: int, suffix: int, bench: Bench
) -> tuple[list[Figure], list[Curve], list[DocumentValue]]:
    settings = bench.config.extraction
    chances = np.array([d.suffix_log_chance(prefix, suffix) for d in found])
    scheme = f"temperature {settings.temperature:g}, {settings.drawn_from}"
    note = f"documents whose {suffix} tokens after {prefix} come out with a chance of {EVEN:g} or more; {scheme}"
    figures = [
        told.rate(
            f"drawn within {draws:,} samples",
            chance_within(chances, draws) >= EVEN,
            note=note,
            question="extractable" if draws == max(settings.draws) else "",
        )
        for draws in sorted(settings.draws)
    ]
    needed = log10_draws_needed(chances, EVEN)
    median = float(np.median(needed))
    figures.append(
        Figure(
            section=SECTION,
            measure="samples needed, median",
            condition=told.condition,
            texts=told.texts,
            value=median if np.isfinite(median) else None,
            number=len(found),
            unit="log10 samples",
            note=f"for a chance of {EVEN:g}; {scheme}"
            + ("" if np.isfinite(median) else "; half of the documents or more cannot be drawn at all"),
        )
    )
    points = [10.0**power for power in range(DECADES + 1)]
    shares = [wilson(int((chance_within(chances, n) >= EVEN).sum()), len(found)) for n in points]
    curve = Curve(
        section=SECTION,
        measure="documents drawn within so many samples",
        condition=told.condition,
        texts=told.texts,
        x_label=f"samples ({scheme})",
        y_label=f"share of documents with a chance of {EVEN:g}",
        x=tuple(points),
        y=tuple(s.estimate for s in shares),
        low=tuple(s.low for s in shares),
        high=tuple(s.high for s in shares),
    )
    drawable = np.isfinite(needed)
    names = [d.name for d, finite in zip(found, drawable, strict=True) if finite]
    return figures, [curve], told.documents("log10 of samples needed", names, needed[drawable])
