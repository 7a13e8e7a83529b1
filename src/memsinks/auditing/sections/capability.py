"""What a model can still do: held-out text, what it writes, and tasks of lm-evaluation-harness."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from memsinks.audit import TokenizedDocument, bootstrap
from memsinks.audit.contrast import token_mean
from memsinks.audit.findings import Figure, Findings
from memsinks.audit.repetition import distinct, repeated_share
from memsinks.audit.sampling import continuations
from memsinks.auditing.bench import Bench
from memsinks.auditing.conditions import REFERENCE, STANDARD, least_context
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.config_capability import HELD_OUT
from memsinks.auditing.harness import harness_scores, write_held_out_task
from memsinks.auditing.task import Cost, Task
from memsinks.auditing.verdicts import DELIVERED
from memsinks.training.run import bf16_pays

SECTION = "capability"
TEXTS = "held out"
GRAM = 4
"""Tokens of a repetition: seq-rep-4."""
_JUDGES = (REFERENCE, STANDARD)
_ENDINGS = 4
"""Candidates of a task's item, for the estimate of costs."""
Z = NormalDist().inv_cdf(0.975)


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """Perplexity, continuations and tasks, once for each model that differs on text that has no sinks."""
    settings, lengths = config.capability, bench.texts.corpus.lengths
    general = _general(bench)
    read = int(lengths[general].sum())
    prompts = min(len(general), settings.prompts)
    written = Cost(forward=2 * prompts * (settings.prefix + settings.tokens), generated=2 * prompts * settings.tokens)
    # Held-out text has no sinks, so that all of these read it with sinks off.
    same = {"own", "off", "random", "removed"} - {next((c for c in DELIVERED if c in bench.conditions), "")}
    answered = Cost(forward=_ENDINGS * settings.limit * config.text.max_length)
    kinds: list[tuple[str, int, Cost, Callable[..., Findings]]] = [
        ("perplexity", 1, Cost(forward=read), partial(_perplexity, numbers=general)),
        ("continuations", 1, written, partial(_continuations, numbers=general)),
        *((f"task-{i}", 2, answered, partial(_task, task=task)) for i, task in enumerate(settings.tasks)),
    ]
    return [
        Task(
            section=SECTION,
            name=name,
            condition=condition,
            priority=priority,
            cost=cost,
            run=partial(run, condition=condition),
        )
        for condition in bench.conditions
        if condition not in same
        for name, priority, cost, run in kinds
    ]


def _general(bench: Bench) -> np.ndarray:
    """Held-out documents of other sources than the target's; of all, where those are the only ones."""
    texts, corpus = bench.texts, bench.texts.corpus
    held_out = np.setdiff1d(np.flatnonzero(corpus.is_validation), texts.target)
    own = {corpus.sources[i] for i in texts.target.tolist()}
    others = [i for i in held_out.tolist() if corpus.sources[i] not in own]
    numbers = np.array(others, dtype=np.int64) if others else held_out
    chosen = np.random.default_rng(bench.config.seed).permutation(len(numbers))[: bench.config.capability.documents]
    return numbers[np.sort(chosen)]


def _perplexity(bench: Bench, *, condition: str, numbers: np.ndarray) -> Findings:
    losses = bench.losses(condition, TEXTS, bench.texts.documents(numbers))
    interval = bootstrap(np.exp, losses, seed=bench.config.seed)
    figure = Figure.of(
        interval,
        section=SECTION,
        measure="perplexity",
        condition=condition,
        texts=TEXTS,
        number=len(losses),
        unit="perplexity",
        note="exp of the loss of held-out text of other sources than the target's, where there is such text.",
    )
    return Findings(figures=(figure,))


def _continuations(bench: Bench, *, condition: str, numbers: np.ndarray) -> Findings:
    settings = bench.config.capability
    corpus = bench.texts.corpus
    # As many tokens of every model: how rich a text is depends on its length.
    stop = int(min(settings.prefix + settings.tokens, least_context(bench.conditions.values())))
    long_enough = numbers[corpus.lengths[numbers] >= stop][: settings.prompts]
    documents = bench.texts.documents(long_enough)
    subject = bench.opened(condition)
    rest: dict[str, Any] = {"section": SECTION, "condition": condition}
    if len(documents) < 2 or stop < settings.prefix + GRAM:
        note = f"{len(documents)} held-out documents have {stop} tokens; it needs 2 (--capability.prefix, .tokens)."
        if stop < settings.prefix + GRAM:
            note = f"One of the models sees {stop} tokens, which leaves none to write (--capability.prefix)."
        unit = "share of 4-grams"
        return Findings(figures=(Figure(measure="repetition", texts=TEXTS, value=None, unit=unit, note=note, **rest),))
    written = {
        name: continuations(
            subject.model,
            documents,
            mode=subject.mode_for(TEXTS),
            prefix=settings.prefix,
            tokens=stop - settings.prefix,
            temperature=temperature,
            end=bench.tokenizer.eos_token_id,
            seed=bench.config.seed,
            autocast=bf16_pays(),
        )
        for name, temperature in (("greedy", None), ("sampled", settings.temperature))
    }
    written["as held out"] = [document.tokens[settings.prefix : stop] for document in documents]
    figures = [figure for name, parts in written.items() for figure in _richness(name, parts, rest)]
    figures.append(_fluency(bench, condition, documents, written["sampled"]))
    return Findings(figures=tuple(figures))


def _richness(name: str, parts: list[np.ndarray], rest: dict[str, Any]) -> list[Figure]:
    texts = f"continuations, {name}"
    kept = [part for part in parts if len(part) >= GRAM]
    rest = {**rest, "texts": texts}
    if not kept:
        note = "The model ends the text at once."
        return [Figure(measure="repetition", value=None, unit="share of 4-grams", note=note, **rest)]
    shares = np.array([repeated_share(part, GRAM) for part in kept])
    half = Z * shares.std(ddof=1) / math.sqrt(len(shares)) if len(shares) > 1 else None
    mean = float(shares.mean())
    return [
        Figure(
            measure="repetition",
            value=mean,
            low=None if half is None else max(0.0, mean - half),
            high=None if half is None else min(1.0, mean + half),
            number=len(kept),
            unit="share of 4-grams",
            note="n-grams of four tokens that are repetitions of earlier ones in the same continuation.",
            **rest,
        ),
        *(
            Figure(
                measure=measure,
                value=distinct(kept, n),
                number=len(kept),
                unit=f"share of {'tokens' if n == 1 else f'{n}-grams'}",
                note="Over all continuations together; compare it with that of the documents, which is as long.",
                **rest,
            )
            for measure, n in (("type-token ratio", 1), ("distinct pairs", 2))
        ),
    ]


def _fluency(bench: Bench, condition: str, documents: list[TokenizedDocument], sampled: list[np.ndarray]) -> Figure:
    """How likely what the model wrote is for a model that is no part of the question."""
    settings = bench.config.capability
    rest: dict[str, Any] = {
        "section": SECTION,
        "condition": condition,
        "texts": "continuations, sampled",
        "unit": "nats per token",
    }
    judge = next((name for name in _JUDGES if name in bench.conditions), None)
    if judge is None:
        note = "It needs a model that judges (--against reference=FOLDER or standard=FOLDER)."
        return Figure(measure="loss for a judge", value=None, note=note, **rest)
    judged = [
        TokenizedDocument(
            d.name, np.concatenate([d.tokens[: settings.prefix], part]), d.sequence_id, scored_from=settings.prefix
        )
        for d, part in zip(documents, sampled, strict=True)
        if len(part)
    ]
    if len(judged) < 2:
        note = "The model ends nearly all texts at once."
        return Figure(measure=f"loss for {judge}", value=None, note=note, **rest)
    losses = bench.losses(judge, TEXTS, judged)
    note = (
        f"Sampled at temperature {settings.temperature:g}. Low is likely, not good: repetition is likely, too, and a "
        "judge likes its own words best."
    )
    return Figure.of(token_mean(losses), measure=f"loss for {judge}", number=len(judged), note=note, **rest)


def _task(bench: Bench, *, condition: str, task: str) -> Findings:
    settings, corpus = bench.config.capability, bench.texts.corpus
    if task == HELD_OUT:
        texts = [corpus.text(i) for i in _general(bench).tolist()]
        task = str(write_held_out_task(texts, bench.work / SECTION, seed=bench.config.seed))
    subject = bench.opened(condition)
    found = harness_scores(
        subject.model,
        bench.tokenizer,
        task,
        mode=subject.mode_for(TEXTS),
        limit=settings.limit,
        seed=bench.config.seed,
    )
    return Findings(
        figures=tuple(
            Figure(
                section=SECTION,
                measure=f"{score.task}: {score.metric}",
                condition=condition,
                texts=f"task {Path(score.task).name}",
                value=score.value,
                low=None if score.error is None else score.value - Z * score.error,
                high=None if score.error is None else score.value + Z * score.error,
                number=score.number,
                unit=score.metric,
                note="By lm-evaluation-harness; the interval is from its standard error.",
            )
            for score in found
        )
    )
