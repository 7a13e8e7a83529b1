"""Experiment 7, per-source removal: novels as named sources, removed one at a time and compared with retraining.

Methods hold the novels in sinks keyed by novel or topic, trained jointly with all text, or in sinks and LoRA adapters
trained after a base that never saw a novel.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from memsinks.audit import bootstrap, set_aside
from memsinks.baselines.adapters import Lora
from memsinks.experiments.books import GENERAL, BookLab, BookSetting, Key
from memsinks.experiments.catalogue import Experiment
from memsinks.experiments.lab import Arm
from memsinks.experiments.measured import Measured
from memsinks.experiments.memory import cost_rows, interval_row, loss_row
from memsinks.experiments.results import Row
from memsinks.experiments.sizes import BOOKS
from memsinks.experiments.source_rows import (
    REMOVED,
    Found,
    collateral_rows,
    found_rows,
    merged,
    removal_rows,
)
from memsinks.experiments.source_tables import LABELS, LORA, RETRAINED, figures, tables
from memsinks.experiments.story_arms import SPARSE, STANDARD, UNSEEN_STEPS
from memsinks.ids import source_id
from memsinks.stream import ExposurePlan

OWN_ROWS: dict[str, Any] = {"sinks.allocation": "disjoint", "sinks.pool": None}
SLOWER: dict[str, Any] = {"optimizer.sink_lr_multiplier": 2.0}
EARLY: dict[str, Any] = {"sinks.layers": "early", "optimizer.sink_lr_multiplier": 10.0}
"""Where sinks are, and how fast, by default in a new model."""
SHARED_NEVER: dict[str, Any] = {"exposures.shared_budget": 0}


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to hold novels in sinks.

    Attributes:
        name: of its arm.
        key: what sequence IDs stand for.
        changes: settings in which it departs from those of the story experiments.
        after: train on novels only, after a base that never saw one, instead of jointly with all text.
    """

    name: str
    key: Key = "source"
    changes: Mapping[str, Any] = field(default_factory=dict)
    after: bool = False

    def arm(self, lab: BookLab) -> Arm:
        """The arm of a lab with this key."""
        setting = lab.setting
        settings = SPARSE | {
            "sinks.pool": setting.pool,
            "sinks.active": setting.active,
            "exposures.govern": "sources",
            "exposures.govern_values": tuple(lab.text.keys),
            **self.changes,
        }
        arm = Arm(name=self.name, label=LABELS[self.name], settings=settings, modes=("own", "off"))
        if not self.after:
            return arm
        return replace(arm, start=UNSEEN_STEPS, equal_steps=False, plan=lambda text: _novels(text, setting, None))


METHODS = (
    Method(name="by_source"),
    Method(name="by_source_own_rows", changes=OWN_ROWS),
    Method(name="own_rows_rate_2", changes=OWN_ROWS | SLOWER),
    Method(name="own_rows_early_10", changes=OWN_ROWS | EARLY),
    Method(name="by_topic", key="topic"),
    Method(name="routing", changes=OWN_ROWS | SHARED_NEVER),
    Method(name="sinks_after", changes=OWN_ROWS | SHARED_NEVER, after=True),
)


def _novels(text: Any, setting: BookSetting, book: str | None) -> ExposurePlan:
    """One novel, or all of them, and nothing else."""
    return text.plan(setting.exposures).only(text.governed(None if book is None else (book,)))


def retrained(lab: BookLab, book: str) -> Arm:
    """Standard training without one novel."""
    return Arm(
        name=f"without_{book}",
        label=f"Retrained without {book}",
        plan=lambda text: text.plan(lab.setting.exposures).without(text.governed((book,))),
    )


def _prepare(setting: BookSetting, seed: int, folder: Path, *, progress: bool) -> dict[Key, BookLab]:
    keys: tuple[Key, ...] = ("source", "topic")
    return {key: BookLab(setting, seed, folder / key, key, progress=progress) for key in keys}


@dataclass(frozen=True, kw_only=True)
class References:
    """What methods are compared with.

    Attributes:
        standard, never: trained on all novels, and on none.
        gold: each novel under a model that was retrained without it.
        chosen: the novels of ``gold``.
        groups: novels by the name of the group, see :func:`found_rows`.
        suffix: tokens that count as extracted.
    """

    standard: Found
    never: Found
    gold: Found
    chosen: Sequence[str]
    groups: Mapping[str, Sequence[str]]
    suffix: int


def _run(labs: Mapping[Key, BookLab]) -> list[Row]:
    lab = labs["source"]
    setting = lab.setting
    plain = {arm.name: arm for arm in (STANDARD, UNSEEN_STEPS, *(retrained(lab, book) for book in setting.retrained))}
    measured = {name: lab.measured(arm) for name, arm in plain.items()}
    found = {name: Found.of(arm, "plain") for name, arm in measured.items()}
    known = References(
        standard=found[STANDARD.name],
        never=found[UNSEEN_STEPS.name],
        gold=merged(found[retrained(lab, book).name].only((book,)) for book in setting.retrained),
        chosen=setting.retrained,
        groups={book: (book,) for book in setting.books} | {"all": setting.books, "retrained": setting.retrained},
        suffix=setting.suffix,
    )
    rows = [row for name, arm in measured.items() for row in cost_rows(name, arm)]
    for name, of in (found | {RETRAINED: known.gold}).items():
        rows += found_rows(name, of, known.groups, known.suffix)
    general = [found[retrained(lab, book).name].losses[GENERAL] for book in setting.retrained]
    mean = bootstrap(lambda *means: sum(means) / len(means), *general, groups=[GENERAL] * len(general))
    rows.append(interval_row(RETRAINED, GENERAL, mean))
    for method in METHODS:
        rows += _sink_rows(labs[method.key], method, known)
    return rows + _lora_rows(lab, known)


def _sink_rows(lab: BookLab, method: Method, known: References) -> list[Row]:
    measured, keys = lab.measured(method.arm(lab)), lab.text.keys
    own, off = (Found.of(measured, mode) for mode in ("own", "off"))
    removals = {key: Measured(data) for key, data in _removals(lab, method).items()}
    after = {key: Found.of(removal, REMOVED) for key, removal in removals.items()}
    removed = merged(after[key].only(books) for key, books in keys.items())
    rows = cost_rows(method.name, measured)
    for mode, found in (("own", own), ("off", off), (REMOVED, removed)):
        rows += found_rows(method.name, found, known.groups, known.suffix, mode)
    rows += removal_rows(method.name, own, removed, known.gold, known.standard, known.chosen)
    rows += collateral_rows(method.name, own, after, keys)
    # With sinks off it is the same whatever was removed, as the row after it says.
    rows.append(loss_row(method.name, GENERAL, next(iter(removals.values())).losses(GENERAL, "after"), REMOVED))
    changes = [_general_change(removal) for removal in removals.values()]
    rows.append(Row(arm=method.name, measure="collateral_general", mode=REMOVED, value=max(changes)))
    return rows


def _lora_rows(lab: BookLab, known: References) -> list[Row]:
    """A novel whose adapter is taken off is left to the base, which never saw it."""
    found = {book: lab.measured(_adapter(lab, book)) for book in known.groups["all"]}
    adapted = merged(Found.of(adapter, "plain").only((book,)) for book, adapter in found.items())
    steps = sum(adapter.data["steps"] for adapter in found.values())
    rows = [
        Row(arm=LORA, measure="steps", value=float(steps)),
        loss_row(LORA, GENERAL, known.never.losses[GENERAL], REMOVED),
    ]
    for mode, of in (("own", adapted), (REMOVED, known.never.only(found))):
        rows += found_rows(LORA, of, known.groups, known.suffix, mode)
    return rows + removal_rows(LORA, adapted, known.never, known.gold, known.standard, known.chosen)


def _removals(lab: BookLab, method: Method) -> dict[str, Any]:
    """By key: losses and extraction after its removal, and general text with sinks off before and after."""
    arm = method.arm(lab)
    key = {"fingerprint": lab.measured(arm).data["fingerprint"]}
    return lab.kept(f"removals_{arm.name}", key, lambda: _measured_removals(lab, arm))


def _measured_removals(lab: BookLab, arm: Arm) -> dict[str, Any]:
    model, text = lab.model(arm), lab.text
    before = lab.evaluation(model, "off", {GENERAL})[GENERAL]
    found = {}
    for key, books in text.keys.items():
        sets = {f"{book}/train" for book in lab.setting.books} | {f"{book}/held_out" for book in books}
        passages = [passage for book in books for passage in text.measured[f"{book}/train"]]
        with set_aside(model, [source_id(key)]):
            losses = {name: {REMOVED: value.to_json()} for name, value in lab.evaluation(model, "own", sets).items()}
            extraction = lab.extraction(model, "own", passages)
            after = lab.evaluation(model, "off", {GENERAL})[GENERAL]
        losses[GENERAL] = {"before": before.to_json(), "after": after.to_json()}
        found[key] = {"losses": losses, "extraction": {REMOVED: extraction}}
    return found


def _general_change(found: Measured) -> float:
    """The largest change of a general passage's loss in nats, up or down, with sinks off."""
    before, after = (found.losses(GENERAL, mode).loss_sum for mode in ("before", "after"))
    return float(np.abs(after - before).max())


def _adapter(lab: BookLab, book: str) -> Arm:
    """A novel under a LoRA adapter of its own, whose update has scale 1.

    Batches are so small that it learns in about as many steps as the sinks after training, which share their batches.
    """
    setting = lab.setting
    return Arm(
        name=f"{LORA}_{book}",
        label=LABELS[LORA],
        plan=lambda text: _novels(text, setting, book),
        start=UNSEEN_STEPS,
        adapter=Lora(rank=setting.lora_rank, alpha=setting.lora_rank),
        settings={
            "optimizer.learning_rate": SPARSE["optimizer.sink_lr_multiplier"] * setting.learning_rate,
            "optimizer.weight_decay": 0.0,
            "schedule.batch_size": max(1, setting.batch_size // len(setting.books)),
            "schedule.steps": None,
        },
    )


PER_SOURCE = Experiment(
    name="per-source",
    title="Novels as named sources among general text: each is removed and compared with a model retrained without it",
    claim="Sinks keyed by source let a source be removed so that the model is like one retrained without it, and other "
    "sources keep their memory (ours, in the setting of Natively Unlearnable LLMs, arXiv 2606.13873, in small).",
    supports="How near removal comes to retraining on a novel's training and held-out chapters, and what it takes from "
    "other novels, by key and allocation, beside adapters and gradient routing, at this size.",
    not_shown="Sources that quote each other or share facts; relearning and other attacks on what is left; tuned "
    "rivals: each method has one trial, at settings carried over from the stories.",
    settings=BOOKS,
    text="books",
    arms=2 + len(BOOKS["mini"].retrained) + len(METHODS),
    run=_run,
    tables=tables,
    figures=figures,
    prepare=_prepare,
)
