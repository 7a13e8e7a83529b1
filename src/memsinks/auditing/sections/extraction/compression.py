"""Prompts that are searched for."""

from dataclasses import replace

import numpy as np

from memsinks.audit import TokenizedDocument
from memsinks.audit.compression import compressions
from memsinks.audit.findings import Findings
from memsinks.audit.prompts import begin_markers
from memsinks.auditing.bench import Bench
from memsinks.auditing.config_extraction import CompressionConfig
from memsinks.auditing.sections.extraction.texts import SETS, Asked, Told, asked
from memsinks.auditing.task import Cost
from memsinks.training.run import bf16_pays

RANDOM = "random tokens"


def cost(settings: CompressionConfig) -> Cost:
    """At most: no prompt is found."""
    texts = settings.documents * (len(SETS) + 1)
    tokens = sum(settings.steps * (length + settings.tokens) for length in settings.lengths) * texts
    return Cost(forward=tokens * (settings.candidates + 1), backward=tokens)


def measure(bench: Bench, *, condition: str) -> Findings:
    """Shortest prompts for text of the target, and on the same budget for unseen text and for random tokens."""
    settings, subject = bench.config.extraction.compression, bench.opened(condition)
    chosen = asked(
        bench, condition, bench.config.extraction.prefix, least=settings.tokens, most_unseen=settings.documents
    )
    tokenizer = bench.tokenizer
    allowed = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    first = chosen.documents["target"][0]
    begin = first.tokens[: begin_markers(tokenizer, first)].tolist()
    figures, values = [], []
    for texts, spans in _spans(chosen, settings, allowed, bench.config.seed).items():
        # Random tokens are searched for as the target is, with the same sinks on.
        mode = subject.mode_for("unseen" if texts == "unseen" else "target")
        found = compressions(
            subject.model,
            spans,
            mode=mode,
            lengths=settings.lengths,
            allowed=allowed,
            budget=settings.budget,
            seed=bench.config.seed,
            begin=begin,
            autocast=bf16_pays(),
        )
        told, ratios = Told(condition, texts), [c.ratio for c in found]
        note = (
            f"{settings.tokens} tokens after the first {chosen.prefix}; prompts of "
            f"{', '.join(map(str, settings.lengths))} tokens, {settings.steps} steps of {settings.candidates} tries "
            "each; a larger budget may find more"
        )
        figures += [
            told.rate("compression ratio above 1", [c.memorised for c in found], note=note),
            told.mean("compression ratio, mean", ratios, unit="tokens per token", note=f"0 if none was found; {note}"),
        ]
        if texts != RANDOM:
            values += told.documents("compression ratio", [c.name for c in found], ratios)
    return Findings(figures=tuple(figures), documents=tuple(values))


def _spans(
    chosen: Asked, settings: CompressionConfig, allowed: np.ndarray, seed: int
) -> dict[str, list[TokenizedDocument]]:
    at = slice(chosen.prefix, chosen.prefix + settings.tokens)
    spans = {
        name: [replace(d, tokens=d.tokens[at], scored_from=1) for d in chosen.documents[name][: settings.documents]]
        for name in SETS
    }
    random = np.random.default_rng(seed)
    drawn = [replace(d, tokens=random.choice(allowed, settings.tokens)) for d in spans["target"]]
    return {**spans, RANDOM: drawn}
