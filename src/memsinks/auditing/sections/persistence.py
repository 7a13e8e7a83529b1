"""Does what was removed stay away? The same measures after further training on unrelated text."""

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from memsinks.audit import DocumentLosses, Interval, document_losses, wilson
from memsinks.audit.contrast import advantage_difference, token_mean
from memsinks.audit.findings import Figure, Findings
from memsinks.audit.forced import forced
from memsinks.auditing.bench import Bench
from memsinks.auditing.conditions import REFERENCE, least_context
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.task import Cost, Task
from memsinks.auditing.tuning import METHODS, PREFERENCE, SUPERVISED, tuned, unrelated
from memsinks.auditing.verdicts import DELIVERED
from memsinks.training.run import bf16_pays

SECTION = "persistence"
BEFORE = "before"
DRIFT = 0.05
"""Nats per token that texts may drift apart in training without that one of them comes back."""
_SHORT = {BEFORE: "before", SUPERVISED: "supervised", PREFERENCE: "preference"}
_WHEN = {BEFORE: "before further training", **{method: f"after {method}" for method in METHODS}}
_SETS = ("target", "unseen")


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """Before and after each kind of training, of the model that is handed out and of those to compare it with."""
    delivered = next((name for name in DELIVERED if name in bench.conditions), "")
    # A stock copy with the sinks of the whole target on is another model than one with each document's own.
    left_out = {"own", "off", "placebo", "random", "removed"} - {delivered}
    settings = config.persistence
    lengths = bench.texts.corpus.lengths
    measured = int(lengths[bench.texts.target].sum() + lengths[bench.texts.unseen[: settings.documents]].sum())
    # A pair is its prompt with each answer, in the model and in the one from before.
    passages = settings.steps * settings.rows * settings.length
    trained = {
        BEFORE: Cost(forward=2 * measured),
        SUPERVISED: Cost(forward=2 * measured, backward=passages),
        PREFERENCE: Cost(forward=2 * measured + 2 * passages, backward=2 * passages),
    }
    return [
        Task(
            section=SECTION,
            name=_SHORT[stage],
            condition=name,
            priority=2,
            cost=trained[stage],
            run=partial(_persistence, condition=name, stage=stage),
        )
        for name in bench.conditions
        if name not in left_out
        for stage in (BEFORE, *METHODS)
    ]


@dataclass(frozen=True, eq=False)
class _Measured:
    """A model at a stage.

    Attributes:
        losses: by set of texts.
        right: by set of texts, for each document that is long enough, its share of first choices.
    """

    losses: dict[str, DocumentLosses]
    right: dict[str, list[float]]

    def to_json(self) -> dict[str, Any]:
        return {"losses": {name: found.to_json() for name, found in self.losses.items()}, "right": self.right}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "_Measured":
        losses = {name: DocumentLosses.from_json(found) for name, found in content["losses"].items()}
        return cls(losses, content["right"])


def _persistence(bench: Bench, *, condition: str, stage: str) -> Findings:
    found = _measured(bench, condition, stage)
    settings, when = bench.config.persistence, _WHEN[stage]
    figures = []
    for texts in _SETS:
        rest: dict[str, Any] = {"section": SECTION, "condition": condition, "texts": texts}
        losses, right = found.losses[texts], np.array(found.right[texts])
        loss: dict[str, Any] = {"measure": f"loss {when}", "unit": "nats per token", "number": len(losses), **rest}
        figures.append(Figure(value=losses.mean, **loss) if len(losses) < 2 else Figure.of(token_mean(losses), **loss))
        exact = f"exact, {settings.prefix} tokens given and {settings.suffix} to come, {when}"
        if not len(right):
            note = "No document is that long, or a model sees fewer tokens (--persistence.prefix, .suffix)."
            figures.append(Figure(measure=exact, unit="rate", value=None, chance=0.0, note=note, **rest))
        else:
            figures.append(
                Figure.of(
                    wilson(int((right == 1).sum()), len(right)),
                    measure=exact,
                    unit="rate",
                    number=len(right),
                    chance=0.0,
                    question="" if stage == BEFORE else "persists",
                    note="Documents that a greedy continuation reproduces word for word.",
                    **rest,
                )
            )
            figures.append(
                Figure(
                    measure=f"next tokens right, {when}",
                    unit="share of tokens",
                    value=float(right.mean()),
                    number=len(right),
                    **rest,
                )
            )
    if min(map(len, found.losses.values())) < 2:
        return Findings(figures=tuple(figures))
    rest = {"section": SECTION, "condition": condition, "texts": "target", "number": len(bench.texts.target)}
    rest["unit"] = "nats per token"
    if stage != BEFORE:
        figures.append(
            Figure.of(
                _beyond_unseen(found, _measured(bench, condition, BEFORE)),
                measure=f"regained {when}",
                chance=DRIFT,
                question="persists",
                note="How much the loss of the text fell by the training, less that of unseen text; both may have "
                f"risen. Up to {DRIFT:g} is drift and does not count.",
                **rest,
            )
        )
    if REFERENCE in bench.conditions and condition != REFERENCE:
        figures.append(
            Figure.of(
                _beyond_unseen(found, _measured(bench, REFERENCE, stage)),
                chance=0.0,
                measure=f"head start over the reference, {when}",
                note="How much easier the text is than for the reference after the same training, beyond what unseen "
                "text is. What was left before remains in it, so it decides nothing.",
                **rest,
            )
        )
    return Findings(figures=tuple(figures))


def _beyond_unseen(found: _Measured, baseline: _Measured) -> Interval:
    """Advantage over a baseline on the target, beyond that on unseen text."""
    return advantage_difference(
        found.losses["target"], baseline.losses["target"], found.losses["unseen"], baseline.losses["unseen"]
    )


def _measured(bench: Bench, condition: str, stage: str) -> _Measured:
    """Measure once and keep it: the reference's is needed by the other conditions."""
    file = bench.work / SECTION / f"{condition}.{_SHORT[stage]}.json"
    if file.is_file():
        return _Measured.from_json(json.loads(file.read_text("utf-8")))
    settings, texts = bench.config.persistence, bench.texts
    model = bench.opened(condition).plain()
    context = least_context(bench.conditions.values())
    settings = replace(settings, length=int(min(settings.length, context)))
    if stage != BEFORE:
        passages = unrelated(
            bench.tokenizer,
            settings.steps * settings.rows,
            settings.length,
            without=[texts.corpus.tokens(i) for i in texts.target.tolist()],
        )
        folder = bench.work / SECTION / "trainer"
        model = tuned(model, stage, passages, bench.tokenizer, settings, work=folder, seed=bench.config.seed)
    sets = {"target": texts.target, "unseen": texts.unseen[: settings.documents]}
    documents = {name: texts.documents(numbers) for name, numbers in sets.items()}
    end = settings.prefix + settings.suffix
    long_enough = {
        name: [replace(d, tokens=d.tokens[:end]) for d in several if len(d.tokens) >= end <= context]
        for name, several in documents.items()
    }
    options: dict[str, Any] = {"mode": None, "autocast": bf16_pays()}
    found = _Measured(
        {
            name: document_losses(model, several, max_length=bench.config.text.max_length, **options)
            for name, several in documents.items()
        },
        {
            name: [float(d.first_choice[settings.prefix :].mean()) for d in forced(model, several, **options)]
            if several
            else []
            for name, several in long_enough.items()
        },
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(found.to_json()) + "\n", "utf-8")
    part.replace(file)
    return found
