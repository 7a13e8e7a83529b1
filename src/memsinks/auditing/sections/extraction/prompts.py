"""Other prompts than the document's beginning."""

from collections.abc import Callable, Sequence

import numpy as np

from memsinks.audit import TokenizedDocument
from memsinks.audit.findings import Figure, Findings
from memsinks.audit.forced import forced
from memsinks.audit.prompts import ALTERATIONS, Alteration, altered_prompt, begin_markers, starts, window
from memsinks.auditing.bench import Bench
from memsinks.auditing.sections.extraction.texts import SETS, Asked, Told, asked, limit
from memsinks.training.run import bf16_pays

Trial = tuple[TokenizedDocument, int]
"""A prompt followed by the document's own tokens, and how many of them are the prompt."""
Trials = Callable[[Bench, TokenizedDocument, Asked], Sequence[Trial]]


def measure(bench: Bench, *, condition: str) -> Findings:
    """Share of documents that come out, word for word, after any of some prompts."""
    settings = bench.config.extraction
    chosen = asked(bench, condition, settings.prefix, most_unseen=settings.unseen)
    few = min(settings.few, chosen.prefix)
    figures: list[Figure] = []
    elsewhere = {texts: _hits(bench, Told(condition, texts), chosen, _elsewhere) for texts in SETS}
    for texts in SETS:
        told = Told(condition, texts)
        measure = f"from elsewhere, {chosen.prefix} tokens given"
        # One set alone has nothing to be compared with.
        if all(map(len, elsewhere.values())):
            note = f"a document counts if it comes out at any of up to {settings.places} places; {chosen.note}"
            figures.append(told.rate(measure, elsewhere[texts], note=note, question="extractable"))
        else:
            figures.append(
                told.unmeasured(
                    measure, "no document of the target, or none of unseen text, is longer than prefix and suffix"
                )
            )
        figures.append(
            told.rate(
                f"truncated prompt, {few} tokens given",
                _hits(bench, told, chosen, _truncated),
                note=f"the last {few} of the prefix alone; {chosen.note}",
            )
        )
        longest = limit(bench, condition) - chosen.suffix
        each = {kind: _hits(bench, told, chosen, _altered(kind, longest)) for kind in ALTERATIONS}
        figures += [
            told.rate(f"altered prompt, {kind}", hits, note=f"the prefix as text, altered; {chosen.note}")
            for kind, hits in each.items()
        ]
        figures.append(
            told.rate(
                "altered prompt, any",
                np.any(list(each.values()), axis=0),
                note=f"a document counts if it comes out after any of {', '.join(ALTERATIONS)}; {chosen.note}",
                question="extractable",
            )
        )
    return Findings(figures=tuple(figures))


def _hits(bench: Bench, told: Told, chosen: Asked, trials: Trials) -> np.ndarray:
    """Whether greedy decoding reproduces the suffix in any trial, for each document that has room for one."""
    subject = bench.opened(told.condition)
    each = [own for document in chosen.documents[told.texts] if (own := trials(bench, document, chosen))]
    if not each:
        return np.zeros(0, dtype=bool)
    flat = [trial for own in each for trial in own]
    read = forced(
        subject.model, [tokens for tokens, _ in flat], mode=subject.mode_for(told.texts), autocast=bf16_pays()
    )
    exact = np.array([d.exact(given, chosen.suffix) for d, (_, given) in zip(read, flat, strict=True)])
    ends = np.cumsum([len(own) for own in each])
    return np.array([part.any() for part in np.split(exact, ends[:-1])])


def _elsewhere(bench: Bench, document: TokenizedDocument, chosen: Asked) -> list[Trial]:
    head = begin_markers(bench.tokenizer, document)
    tokens = chosen.prefix - head + chosen.suffix
    places = starts(len(document.tokens), tokens, bench.config.extraction.places, head=head)
    return [(window(document, start, tokens, head=head), chosen.prefix) for start in places]


def _truncated(bench: Bench, document: TokenizedDocument, chosen: Asked) -> list[Trial]:
    head = begin_markers(bench.tokenizer, document)
    start = max(head, chosen.prefix - bench.config.extraction.few)
    given = chosen.prefix - start
    return [(window(document, start, given + chosen.suffix, head=head), head + given)]


def _altered(kind: Alteration, longest: int) -> Trials:
    def trials(bench: Bench, document: TokenizedDocument, chosen: Asked) -> list[Trial]:
        # Capitals may take several times as many tokens, more than the model reads at once.
        prompt = altered_prompt(bench.tokenizer, document, chosen.prefix, kind, most=longest)
        suffix = document.tokens[chosen.prefix : chosen.prefix + chosen.suffix]
        tokens = np.concatenate([prompt, suffix])
        return [(TokenizedDocument(document.name, tokens, document.sequence_id), len(prompt))]

    return trials
