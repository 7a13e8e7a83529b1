"""Prompts that are searched for."""

from dataclasses import replace

import numpy as np

from memsinks.audit import TokenizedDocument
from memsinks.audit.compression import compressions
from memsinks.audit.findings import Findings
from memsinks.audit.prompts import begin_markers
from memsinks.auditing.bench import Bench
from memsinks.auditing.config_extraction import CompressionConfig
from memsinks.auditing.sections.extraction.texts import SETS, Told, limit
from memsinks.auditing.task import Cost
from memsinks.errors import InputError
from memsinks.training.run import bf16_pays

RANDOM = "random tokens"


def cost(settings: CompressionConfig) -> Cost:
    """At most: no prompt is found."""
    texts = settings.documents * (len(SETS) + 1)
    tokens = sum(settings.steps * (length + settings.tokens) for length in settings.lengths) * texts
    return Cost(forward=tokens * (settings.candidates + 1), backward=tokens)


def measure(bench: Bench, *, condition: str) -> Findings:
    """Shortest prompts for beginnings of the target, and on the same budget for unseen text and for random tokens."""
    settings, subject = bench.config.extraction.compression, bench.opened(condition)
    tokenizer = bench.tokenizer
    allowed = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    first = bench.texts.documents(bench.texts.target[:1])[0]
    begin = first.tokens[: begin_markers(tokenizer, first)].tolist()
    needed = len(begin) + max(settings.lengths) + settings.tokens
    if needed > limit(bench, condition):
        raise InputError(
            f"a prompt and its text have {needed} tokens, more than the model reads at once; give shorter ones "
            "(--extraction.compression.tokens, --extraction.compression.lengths)"
        )
    figures, values = [], []
    for texts, beginnings in _beginnings(bench, allowed).items():
        # Random tokens are searched for as the target is, with the same sinks on.
        found = compressions(
            subject.model,
            beginnings,
            mode=subject.mode_for("unseen" if texts == "unseen" else "target"),
            lengths=settings.lengths,
            allowed=allowed,
            budget=settings.budget,
            seed=bench.config.seed,
            begin=begin,
            autocast=bf16_pays(),
        )
        told, ratios = Told(condition, texts), [c.ratio for c in found]
        note = (
            f"the first {settings.tokens} tokens; prompts of {', '.join(map(str, settings.lengths))} tokens, "
            f"{settings.steps} steps of {settings.candidates} tries each; a larger budget may find more"
        )
        figures += [
            told.rate("compression ratio above 1", [c.memorised for c in found], note=note),
            told.mean("compression ratio, mean", ratios, unit="tokens per token", note=f"0 if none was found; {note}"),
        ]
        if texts != RANDOM:
            values += told.documents("compression ratio", [c.name for c in found], ratios)
    return Findings(figures=tuple(figures), documents=tuple(values))


def _beginnings(bench: Bench, allowed: np.ndarray) -> dict[str, list[TokenizedDocument]]:
    """The first tokens, after begin markers, of a few documents of each set, and as many of random tokens."""
    settings, found = bench.config.extraction.compression, {}
    for name, numbers in (("target", bench.texts.target), ("unseen", bench.texts.unseen)):
        documents = [
            replace(d, tokens=tokens[: settings.tokens], scored_from=1)
            for d in bench.texts.documents(numbers)
            if len(tokens := d.tokens[begin_markers(bench.tokenizer, d) :]) >= settings.tokens
        ]
        if not documents:
            raise InputError(f"no document of the {name} text has {settings.tokens} tokens to search for")
        found[name] = documents[: settings.documents]
    random = np.random.default_rng(bench.config.seed)
    drawn = [replace(d, tokens=random.choice(allowed, settings.tokens)) for d in found["target"]]
    return {**found, RANDOM: drawn}
