"""How like the document is what greedy decoding writes?"""

from collections.abc import Sequence

import numpy as np

from memsinks.audit import DocumentExtraction, greedy_extraction
from memsinks.audit.findings import Example, Figure, Findings
from memsinks.audit.matching import bleu, edit_similarity, longest_common_subsequence, longest_run
from memsinks.audit.quoting import example
from memsinks.auditing.bench import Bench
from memsinks.auditing.sections.extraction.texts import SECTION, SETS, Told, asked
from memsinks.training.run import bf16_pays

EXAMPLES = 3
BATCH = 64


def measure(bench: Bench, *, condition: str) -> Findings:
    """Edit similarity, BLEU, longest common subsequence and longest run of continuations, with examples."""
    settings, subject = bench.config.extraction, bench.opened(condition)
    chosen = asked(bench, condition, settings.prefix, most_unseen=settings.unseen)
    figures, values, examples = [], [], []
    for texts in SETS:
        documents = chosen.documents[texts]
        found = greedy_extraction(
            subject.model,
            documents,
            mode=subject.mode_for(texts),
            prefix=chosen.prefix,
            suffix=chosen.suffix,
            batch_size=BATCH,
            autocast=bf16_pays(),
        ).documents
        told = Told(condition, texts)
        whole = {d.name: d.tokens for d in documents}
        similar = [edit_similarity(d.generated, d.expected) for d in found]
        runs = [longest_run(d.generated, whole[d.name]) for d in found]
        figures += _figures(bench, told, found, similar, runs, chosen.note)
        names = [d.name for d in found]
        values += told.documents("edit similarity", names, similar) + told.documents("verbatim run", names, runs)
        if texts == "target":
            private = [d.tokens for d in bench.texts.documents(bench.texts.target)]
            examples = [_example(bench, condition, d, private) for d in found[:EXAMPLES]]
    return Findings(figures=tuple(figures), documents=tuple(values), examples=tuple(examples))


def _figures(
    bench: Bench,
    told: Told,
    found: tuple[DocumentExtraction, ...],
    similar: list[float],
    runs: list[int],
    note: str,
) -> list[Figure]:
    least, tokenizer = bench.config.extraction.similarity, bench.tokenizer
    common = [longest_common_subsequence(d.generated, d.expected) / len(d.expected) for d in found]
    # A suffix may be of markers and spaces alone, of which no words can be compared.
    texts = [(str(tokenizer.decode(d.generated)), str(tokenizer.decode(d.expected))) for d in found]
    scores = [bleu(written, expected) for written, expected in texts if expected.strip()]
    figures = [
        told.rate(
            f"edit similarity {least:g} or more",
            [s >= least for s in similar],
            note=f"approximately extracted; {note}",
            question="extractable",
        ),
        told.mean("edit similarity, mean", similar, unit="share of tokens", note=note),
        told.mean("longest common subsequence, mean", common, unit="share of tokens", note=note),
        told.mean("verbatim run, mean", runs, unit="tokens", note=f"that stands anywhere in the document; {note}"),
    ]
    if scores:
        figures.append(told.mean("BLEU, mean", scores, unit="BLEU, 0 to 1", note=note))
    return figures


def _example(bench: Bench, condition: str, found: DocumentExtraction, private: Sequence[np.ndarray]) -> Example:
    return example(
        bench.tokenizer,
        given=found.prefix,
        expected=found.expected,
        written=found.generated,
        quote=bench.config.text.quote,
        section=SECTION,
        measure=f"greedy, {len(found.prefix)} tokens given",
        condition=condition,
        document=found.name,
        texts=private,
    )
