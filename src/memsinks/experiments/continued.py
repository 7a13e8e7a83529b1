"""Experiment 10, continued pretraining: sinks added to a pretrained model, and governed text learned into them.

The reference for forgetting is the pretrained model itself, which never trained on the text here. It may have seen the
novels before; what it knew then no sink can hold, and its own loss is shown beside all others.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from memsinks.audit import DocumentLosses
from memsinks.experiments.catalogue import Experiment, Outcome, Scale, Table, arms_table, cell
from memsinks.experiments.continued_arms import BASE, FULL, LORA, PORT, SINKS, TRAINED, WITH_SINKS
from memsinks.experiments.deletion import deletion_losses
from memsinks.experiments.lab import PLAIN, Arm, Lab
from memsinks.experiments.measured import Measured
from memsinks.experiments.memory import arm_rows, change_row, deletion_rows, memory_rows
from memsinks.experiments.passages import PassageSetting, PassageText, passage_text
from memsinks.experiments.pretrained import SHIPPED, TINY, random_model, shipped_model
from memsinks.experiments.results import Row
from memsinks.report.plots import Panel, Series
from memsinks.training.model import small_llama
from memsinks.training.run import bf16_pays

OTHERS = ("held_out", "validation")


class ContinuedLab(Lab[PassageSetting, PassageText]):
    """Passages, a pretrained model, and the arms that go on from it; arms take :class:`Lab`'s arguments."""

    # Sixteen times half a gigabyte and more.
    keeps_models = False

    def __init__(self, setting: PassageSetting, seed: int, directory: Path, *, progress: bool = True) -> None:
        self._base, self._model = directory / BASE.name, [setting.pretrained]
        if setting.pretrained == SHIPPED:
            # One for all scales and seeds.
            self._base = shipped_model(directory.parents[1] / "pretrained" / SHIPPED)
        elif setting.pretrained != TINY:
            self._base = Path(setting.pretrained)
        if setting.pretrained != TINY:
            setting = replace(setting, tokenizer=str(self._base))
        text = passage_text(setting, seed, directory / "corpus", progress=progress)
        if setting.pretrained == TINY:
            tokenizer, names = text.corpus.tokenizer, ("hidden", "layers", "heads", "width", "max_length")
            shape = {name: getattr(setting, name) for name in names}
            random_model(self._base, small_llama(tokenizer, **shape), tokenizer, seed)
            self._model += [str(seed), str(shape)]
        super().__init__(setting, text, seed, directory, progress=progress)

    def place(self, arm: Arm) -> Path:
        """Where an arm's model is; that of the pretrained one may be elsewhere."""
        return self._base if arm is BASE else super().place(arm)

    def measured(self, arm: Arm) -> Measured:
        """As of any lab; the pretrained model is measured as it is."""
        if arm is not BASE:
            return super().measured(arm)
        key = {
            "model": self._model,
            "corpus": self.text.corpus.hash,
            "rows": self.setting.max_length,
            "extraction": [self.setting.prefix, self.setting.suffix],
            "bf16": bf16_pays(),
        }
        fingerprint = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        return Measured({"fingerprint": fingerprint, **self.kept(BASE.name, key, self._measure_base)})

    def further(self, model: Any, arm: Arm) -> dict[str, Any]:
        """What deletions do, of an arm with sinks."""
        if not arm.modes:
            return {}
        governed = self.text.documents(self.text.governed)
        found = deletion_losses(model, governed, max_length=self.setting.max_length, autocast=bf16_pays())
        return {"deletion": {name: losses.to_json() for name, losses in found.items()}}

    def _measure_base(self) -> dict[str, Any]:
        model = self.load(self._base)
        return {
            "losses": {name: {PLAIN: losses.to_json()} for name, losses in self.evaluation(model).items()},
            "extraction": {PLAIN: self.extraction(model)},
            **dict.fromkeys(("steps", "tokens", "seconds"), 0),
        }


def _run(lab: ContinuedLab) -> list[Row]:
    base = lab.measured(BASE)
    measured = {arm.name: lab.measured(arm) for arm in TRAINED}
    before, full = (
        {name: found.losses(name, PLAIN) for name in lab.text.sets()} for found in (base, measured[FULL.name])
    )
    rows = arm_rows(BASE.name, base)
    for arm in TRAINED:
        rows += _arm_rows(arm, measured[arm.name], before, full)
    return rows


def _arm_rows(
    arm: Arm, found: Measured, before: dict[str, DocumentLosses], full: dict[str, DocumentLosses]
) -> list[Row]:
    rows, governed = arm_rows(arm.name, found), before["governed"]
    for mode in arm.modes or (PLAIN,):
        rows += [change_row(arm.name, name, found.losses(name, mode), before[name], mode) for name in OTHERS]
    mode, own = ("off", found.losses("governed", "own")) if arm.modes else (PLAIN, None)
    off = {name: found.losses(name, mode) for name in before}
    # Gap closure compares governed text with other text, and these differ for the pretrained model already.
    rows += [
        row
        for row in memory_rows(arm.name, off, own, full, governed, mode, documents="governed")
        if row.measure != "gap_closure"
    ]
    if own is not None:
        right, placebo = (DocumentLosses.from_json(found.data["deletion"][name]) for name in ("right", "placebo"))
        rows += deletion_rows(arm.name, right, placebo, own, governed)
    return rows


def _tables(outcome: Outcome) -> list[Table]:
    rows = [(arm.label, arm.name, PLAIN) for arm in (BASE, FULL, LORA)]
    rows += [(f"{arm.label}: {mode}", arm.name, mode) for arm in WITH_SINKS for mode in arm.modes]
    columns = {
        "governed": "governed",
        "other chapters": "held_out",
        "general": "validation",
        "general, over the base": "validation_change",
        "extracted": "extraction",
        "forgetting": "forgetting",
        "memory held": "removable_memory",
    }
    note = (
        "Losses in nats per token. Forgetting: loss over that of the pretrained model, which is the reference because "
        "it never trained on the passages here; it may know the novels. Memory held: what switching the sinks off "
        "loses, over what full fine-tuning gained."
    )
    return [arms_table(outcome, "Continued pretraining", rows, columns, note), _deletion_table(outcome)]


def _deletion_table(outcome: Outcome) -> Table:
    body = []
    for arm in WITH_SINKS:
        figures = (
            ("governed", "own"),
            ("deleted", "right"),
            ("deleted", "placebo"),
            ("deletion_gain", "own"),
            ("memory_removed", "right"),
            ("memory_removed", "placebo"),
            ("deleted_change", "right"),
            ("held_out_change", "off"),
        )
        body.append([arm.label, *(cell(outcome.get(arm.name, measure, mode)) for measure, mode in figures)])
    header = [
        "", "sinks on", "own sinks deleted", "another's deleted", "difference", "memory removed", "by another's",
        "own deleted, over the base", "other chapters, over the base",
    ]  # fmt: skip
    note = (
        "Loss of governed passages with sinks on, before and after a deletion: of a passage's own sinks, and of as "
        "many of another passage. Memory removed: the share of what training taught that the deletion takes away; at 1 "
        "a passage is as hard as for the pretrained model. The port is cured where it is near 1 for a passage's own "
        "sinks and near 0 for another's. Training on general text helps too: what it did for other chapters is no "
        "memory of the passages, and may stay."
    )
    return Table("Deleting the right sinks, and as many others", header, body, note)


def _figures(outcome: Outcome) -> dict[str, list[Panel]]:
    sinks = {"full": FULL, "LoRA": LORA} | SINKS
    return {
        "losses": [
            _panel(outcome, "Sinks in a pretrained model", sinks),
            _panel(outcome, "Sinks beside LoRA, and cures", {"LoRA": LORA} | PORT),
        ]
    }


def _panel(outcome: Outcome, title: str, arms: Mapping[str, Arm]) -> Panel:
    series = []
    for label, documents, switched in (
        ("governed, sinks on", "governed", "own"),
        ("governed, sinks off", "governed", "off"),
        ("general, sinks off", "validation", "off"),
    ):
        # A model without sinks stands where the others are served: with sinks off.
        modes = [switched if arm.modes or switched == "own" else PLAIN for arm in arms.values()]
        found = [
            (place, figure)
            for place, (arm, mode) in enumerate(zip(arms.values(), modes, strict=True))
            if (figure := outcome.get(arm.name, documents, mode)) is not None
        ]
        series.append(
            Series(
                label=label,
                x=[float(place) for place, _ in found],
                y=[figure.mean for _, figure in found],
                low=[figure.low for _, figure in found],
                high=[figure.high for _, figure in found],
                joined=False,
            )
        )
    references = {"governed": "base, governed", "validation": "base, general"}
    lines = {
        label: figure.mean
        for documents, label in references.items()
        if (figure := outcome.get(BASE.name, documents)) is not None
    }
    return Panel(title=title, x_label="", y_label="nats per token", series=series, lines=lines, ticks=list(arms))


_MINI = PassageSetting(
    pretrained=SHIPPED, passages=5, words=120, validation=12, exposures=22, batch_size=4, learning_rate=5e-4,
    warmup_steps=8, prefix=32, suffix=32, curve_points=0,
)  # fmt: skip
_CPU = replace(_MINI, passages=20, validation=32, exposures=30, batch_size=8, warmup_steps=15)
SETTINGS: dict[Scale, PassageSetting] = {
    "smoke": PassageSetting(
        pretrained=TINY, passages=3, words=40, validation=3, exposures=4, vocabulary=320, hidden=32, layers=2, heads=2,
        width=64, batch_size=4, learning_rate=5e-4, warmup_steps=1, prefix=20, suffix=10, curve_points=0,
    ),
    "mini": _MINI,
    "cpu": _CPU,
    "gpu": replace(_CPU, passages=100, words=300, validation=200, max_length=512, batch_size=32),
}  # fmt: skip
"""Nothing of this size was published for pretraining that goes on, so there is no scale ``paper``."""

CONTINUED = Experiment(
    name="continued",
    title="Sinks added to a pretrained model, and governed text learned into them",
    claim="Governed text that a pretrained model learns into sinks leaves with them where shared weights learn slower "
    "or not at all; a published port beside LoRA, where deletion did no more than a placebo, failed for want of that "
    "(ours).",
    supports="Where the text is held under each way to train, and which cures work, at this size.",
    not_shown="Removal of what the model knew before; other adapters, sizes and benchmarks (the published port masked "
    "neurons of LoRA's own update, on TOFU's authors, in a model of a billion parameters); attacks beyond greedy "
    "extraction.",
    settings=SETTINGS,
    text="continued",
    arms=len(TRAINED),
    run=_run,
    tables=_tables,
    figures=_figures,
    prepare=ContinuedLab,
)
