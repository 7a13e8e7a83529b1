"""Other sinks than the text's own: whose sinks bring it out, and does the list of its IDs, once they are removed?"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from memsinks.audit import DocumentLosses, TokenizedDocument
from memsinks.audit.findings import Findings
from memsinks.audit.reading import ForcedReading, forced_reading
from memsinks.auditing.bench import Bench
from memsinks.auditing.conditions import Opened
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.sections.recovery.common import (
    SECTION,
    attacked,
    mean_figure,
    rate_figure,
    target_of,
    tokens_of,
    unseen_of,
)
from memsinks.auditing.task import Cost, Task
from memsinks.sinks.modes import ALL, OWN, PLACEBO, Mode
from memsinks.training.run import bf16_pays

STOLEN, EVERY = "stolen IDs", "every sink"
_SAYS = {
    STOLEN: (
        "The sinks of the target's own IDs, each document's and all together; unseen text is read with them in turn."
    ),
    EVERY: "All sinks on, scaled by the activation ratio.",
    "unrelated ID": "The sinks of one ID that no text has.",
    "a survivor's ID": "The sinks of another trained text.",
    "all survivors' IDs": "The sinks of all other trained texts, all together.",
    "random IDs": "The sinks of an ID drawn at random.",
}


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """One task for each condition that has sinks and reads texts with their own."""
    read = tokens_of(bench, bench.texts.target) + tokens_of(bench, bench.texts.unseen[: config.recovery.unseen])
    count = sum(map(len, attacks(bench).values()))
    return [
        Task(
            section=SECTION,
            name="activation",
            condition=name,
            priority=1,
            cost=Cost(forward=count * read),
            run=partial(_activation, condition=name),
        )
        for name in attacked(bench)
        if bench.conditions[name].mode == "own"
    ]


def attacks(bench: Bench) -> dict[str, list[Mode]]:
    """Modes by the name of the attack; of several, an attacker takes the best for each document."""
    random, tries = np.random.default_rng(bench.config.seed), bench.config.recovery.tries
    texts = bench.texts
    others = [texts.corpus.sequence_ids[numbers] for numbers in texts.survivors.values()]
    # Without its type, a list of IDs on both sides of 2 ** 63 becomes float64, which merges neighbours.
    own = np.array(texts.target_ids, np.uint64)
    survivors = np.setdiff1d(np.concatenate(others), own) if others else own[:0]
    found = {
        STOLEN: [OWN, Mode("chosen", texts.target_ids)],
        EVERY: [ALL],
        "unrelated ID": [PLACEBO],
        "random IDs": [_chosen(i) for i in random.integers(2**64, size=tries, dtype=np.uint64)],
    }
    if len(survivors):
        drawn = random.choice(survivors, size=min(tries, len(survivors)), replace=False)
        found["a survivor's ID"] = [_chosen(i) for i in drawn]
        found["all survivors' IDs"] = [Mode("chosen", tuple(map(int, survivors)))]
    return found


def _chosen(sequence_id: np.uint64) -> Mode:
    return Mode("chosen", (int(sequence_id),))


def _activation(bench: Bench, *, condition: str) -> Findings:
    subject, config = bench.opened(condition), bench.config.recovery
    stolen = bench.texts.target_ids
    # Unseen text has no IDs that could be stolen; only the mode "own" looks at them.
    unseen = [
        TokenizedDocument(document.name, document.tokens, stolen[number % len(stolen)])
        for number, document in enumerate(unseen_of(bench, config.unseen))
    ]
    sets = {"target": target_of(bench), "unseen": unseen}
    figures = []
    for attack, modes in attacks(bench).items():
        measure = attack if len(modes) == 1 else f"{attack}, best of {len(modes)}"
        for texts, documents in sets.items():
            best = best_of([_read(subject, documents, mode, bench) for mode in modes])
            rest = {"condition": condition, "texts": texts, "note": _SAYS[attack]}
            figures.append(mean_figure(best.losses.per_document, measure=f"loss, {measure}", **rest))
            # Others are shown and decide nothing: each more that does makes all weaker.
            question = "extractable" if attack in (STOLEN, EVERY) else ""
            figures.append(
                rate_figure(best, measure=f"{config.suffix} tokens word for word, {measure}", question=question, **rest)
            )
    return Findings(figures=tuple(figures))


def best_of(readings: Sequence[ForcedReading]) -> ForcedReading:
    """Of each document the reading with the least loss, and whether any reproduced it."""
    sums = np.stack([reading.losses.loss_sum for reading in readings])
    first = readings[0]
    losses = DocumentLosses(first.losses.names, sums.min(0), first.losses.tokens)
    return ForcedReading(losses, np.any([reading.exact for reading in readings], axis=0), first.tried)


def _read(subject: Opened, documents: Sequence[TokenizedDocument], mode: Mode, bench: Bench) -> ForcedReading:
    return forced_reading(
        subject.model,
        documents,
        mode=mode,
        max_length=bench.config.text.max_length,
        prefix=bench.config.recovery.prefix,
        suffix=bench.config.recovery.suffix,
        autocast=bf16_pays(),
    )
