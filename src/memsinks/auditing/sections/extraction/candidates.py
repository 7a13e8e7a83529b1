"""The best of several continuations."""

from memsinks.audit.candidates import Candidates, beam_candidates, sampled_candidates
from memsinks.audit.findings import Figure, Findings
from memsinks.auditing.bench import Bench
from memsinks.auditing.sections.extraction.texts import SETS, Told, asked
from memsinks.training.run import bf16_pays


def measure(bench: Bench, *, condition: str) -> Findings:
    """Beam search, and samples at a high temperature: the most that any of them brings out."""
    settings, subject = bench.config.extraction, bench.opened(condition)
    chosen = asked(bench, condition, settings.prefix, most_unseen=settings.unseen)
    figures = []
    for texts in SETS:
        told, documents = Told(condition, texts), chosen.documents[texts]
        mode, prefix, suffix = subject.mode_for(texts), chosen.prefix, chosen.suffix
        beams = beam_candidates(
            subject.model,
            documents,
            mode=mode,
            prefix=prefix,
            suffix=suffix,
            beams=settings.beams,
            autocast=bf16_pays(),
        )
        figures += _figures(bench, told, f"best of {settings.beams} beams", beams, chosen.note, question="extractable")
        samples = sampled_candidates(
            subject.model,
            documents,
            mode=mode,
            prefix=prefix,
            suffix=suffix,
            samples=settings.samples,
            sampling=settings.hot_sampling,
            seed=bench.config.seed,
            autocast=bf16_pays(),
        )
        name = f"best of {settings.samples} samples at temperature {settings.hot:g}"
        figures += _figures(bench, told, name, samples, f"drawn from {settings.drawn_from}; {chosen.note}")
    return Findings(figures=tuple(figures))


def _figures(
    bench: Bench, told: Told, name: str, found: list[Candidates], note: str, question: str = ""
) -> list[Figure]:
    least = bench.config.extraction.similarity
    similar = [c.edit_similarity for c in found]
    return [
        told.rate(
            f"{name}: edit similarity {least:g} or more",
            [s >= least for s in similar],
            note=note,
            question=question,
        ),
        told.mean(f"{name}: edit similarity, mean", similar, unit="share of tokens", note=note),
        told.mean(f"{name}: verbatim run, mean", [c.longest_run for c in found], unit="tokens", note=note),
    ]
