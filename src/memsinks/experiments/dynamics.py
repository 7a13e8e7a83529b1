"""Experiment 9, dynamics: what a model keeps of a story right after it was trained on, and as other text follows.

Each arm begins with a model that was trained on the other stories and never saw the tracked ones: from nothing, other
text teaches the language of all stories faster than it undoes any of them, and no forgetting shows. Training then
alternates one step on the tracked stories and a gap of steps on others. With sinks off their loss shows what shared
weights keep, and what their own sinks add is the difference.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from memsinks.audit import TokenizedDocument, document_losses
from memsinks.baselines.text import padded
from memsinks.experiments.catalogue import Experiment, Outcome, Table, cell, points
from memsinks.experiments.lab import Arm
from memsinks.experiments.results import Row
from memsinks.experiments.sizes import STORIES
from memsinks.experiments.stories import StoryLab
from memsinks.experiments.story_arms import SINKS, SINKS_PAPER, STANDARD, UNSEEN_STEPS
from memsinks.ids import to_tensor
from memsinks.report.plots import Panel, Series
from memsinks.runs.build import build_model, plan_run
from memsinks.sinks.modes import ModeKind
from memsinks.training.optimizer import SinkAdamW, uses_sinks
from memsinks.training.run import bf16_pays

PAPER_UNSEEN = replace(SINKS_PAPER, name="sinks_paper_unseen", label="Never seen, paper's sinks", exposures=0)
# A model that brings its sinks has settled their number.
_BROUGHT = {key: value for key, value in SINKS_PAPER.settings.items() if key not in ("sinks.shared", "sinks.active")}
ARMS = (
    replace(STANDARD, start=UNSEEN_STEPS),
    replace(SINKS_PAPER, start=PAPER_UNSEEN, settings=_BROUGHT),
    replace(SINKS, start=UNSEEN_STEPS),
)
CYCLES, SMOKE_CYCLES = 20, 3
AFTER = (0, 1, 2, 4, 7, 11)
"""Steps of other text after an exposure at which the tracked stories are measured."""


def _run(lab: StoryLab) -> list[Row]:
    rows = []
    for arm in ARMS:
        for cycle, after, mode, loss in _cycles(lab, arm):
            step = cycle * (AFTER[-1] + 1) + after
            rows.append(Row(arm=arm.name, measure="tracked", mode=mode, x=float(step), value=loss))
    return rows + _kept(rows)


def _kept(rows: list[Row]) -> list[Row]:
    """What an exposure teaches and what the gap after it takes back, as means over all gaps but the first.

    Both are told from the lowest loss within the gap: Adam's momentum goes on teaching the story for some steps after
    its exposure.
    """
    found = []
    length = AFTER[-1] + 1
    for arm in ARMS:
        for mode in arm.modes[:2] or ("plain",):
            losses = {int(r.x or 0): r.value for r in rows if (r.arm, r.mode) == (arm.name, mode)}
            starts = range(length, max(losses), length)
            lowest = [min(losses[start + after] for after in AFTER) for start in starts]
            learned = float(np.mean([losses[start - 1] - low for start, low in zip(starts, lowest, strict=True)]))
            lost = float(np.mean([losses[start + AFTER[-1]] - low for start, low in zip(starts, lowest, strict=True)]))
            values = {"learned": learned, "lost": lost, "last": losses[max(losses)]}
            if learned > 0:
                values["share_lost"] = lost / learned
            found += [Row(arm=arm.name, measure=name, mode=mode, value=value) for name, value in values.items()]
    return found


def _cycles(lab: StoryLab, arm: Arm) -> list[tuple[int, int, str, float]]:
    """Cycle, steps after its exposure, mode and loss; read back where an earlier run measured the arm."""
    assert arm.start is not None
    start = lab.measured(arm.start).data["fingerprint"]
    key = {"settings": dict(arm.settings), "start": start, "after": AFTER, "cycles": _count(lab)}
    found = lab.kept(f"dynamics_{arm.name}", key, lambda: _measured_cycles(lab, arm))
    return [tuple(entry) for entry in found]


def _measured_cycles(lab: StoryLab, arm: Arm) -> list[tuple[int, int, str, float]]:
    config = lab.config(arm)
    model = build_model(plan_run(config)).to("cuda" if torch.cuda.is_available() else "cpu").train()
    optimizer = SinkAdamW(
        model,
        lab.setting.learning_rate / 2,
        betas=(0.9, 0.95),
        weight_decay=0.1,
        sink_lr_multiplier=config.optimizer.sink_lr_multiplier,
    )
    tracked = lab.text.documents(lab.text.repeated)[: lab.setting.batch_size]
    every_id = config.exposures.govern == "all"
    other = _other(lab)
    losses: list[tuple[int, int, str, float]] = []
    for cycle in range(_count(lab)):
        _step(model, optimizer, tracked, lab, on=True)
        for after in range(AFTER[-1] + 1):
            if after in AFTER:
                for mode in arm.modes[:2] or (None,):
                    losses.append((cycle, after, mode or "plain", _loss(model, tracked, mode, lab)))
            if after < AFTER[-1]:
                _step(model, optimizer, next(other), lab, on=every_id)
    return losses


def _count(lab: StoryLab) -> int:
    return SMOKE_CYCLES if lab.setting.posthoc_steps < 10 else CYCLES


def _other(lab: StoryLab) -> Iterator[list[TokenizedDocument]]:
    documents = lab.text.documents(lab.text.once)
    random, rows = np.random.default_rng(lab.seed), lab.setting.batch_size
    while True:
        order = random.permutation(len(documents))
        for start in range(0, len(order) - rows + 1, rows):
            yield [documents[i] for i in order[start : start + rows]]


def _step(model: Any, optimizer: SinkAdamW, documents: list[TokenizedDocument], lab: StoryLab, *, on: bool) -> None:
    device = next(model.parameters()).device
    inputs, labels = (t.to(device) for t in padded(documents, lab.setting.max_length))
    extra: dict[str, Any] = {}
    if uses_sinks(model):
        ids = to_tensor([d.sequence_id for d in documents]).to(device)
        extra = {"sequence_ids": ids, "sink_mask": torch.full_like(ids, on, dtype=torch.bool)}
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16_pays()):
        loss = model(input_ids=inputs, labels=labels, use_cache=False, **extra).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _loss(model: Any, documents: list[TokenizedDocument], mode: ModeKind | None, lab: StoryLab) -> float:
    length = lab.setting.max_length
    return document_losses(model, documents, mode=mode, max_length=length, autocast=bf16_pays()).mean


def _tables(outcome: Outcome) -> list[Table]:
    columns = {
        "learned from an exposure": "learned",
        "lost in the gap after it": "lost",
        "share lost": "share_lost",
        "at the end": "last",
    }
    rows = []
    for arm in ARMS:
        for mode in arm.modes[:2] or ("plain",):
            label = arm.label if mode == "plain" else f"{arm.label}: {mode}"
            rows.append([label, *(cell(outcome.get(arm.name, measure, mode)) for measure in columns.values())])
    note = (
        f"Nats per token of the tracked stories; a gap is {AFTER[-1]} steps on other stories. What is learned is told "
        "from the lowest loss in the gap: Adam's momentum goes on teaching for some steps after the exposure."
    )
    return [Table("What stays of a story", ["", *columns], rows, note)]


def _figures(outcome: Outcome) -> dict[str, list[Panel]]:
    panels = []
    for arm in ARMS:
        series = [
            Series(
                label="tracked" if mode == "plain" else f"tracked, sinks {mode}",
                **points(outcome, arm.name, "tracked", mode),
                marked=False,
            )
            for mode in arm.modes[:2] or ("plain",)
        ]
        panels.append(Panel(title=arm.label, x_label="optimiser step", y_label="nats per token", series=series))
    return {"cycles": panels}


DYNAMICS = Experiment(
    name="dynamics",
    title="The loss of tracked stories right after their exposure, and while other text follows",
    claim="Memory in shared weights is partly undone by other text and learned again; sinks that are rarely on are "
    "shielded from it (section 4).",
    supports="How much of a memory other text undoes, for shared weights and with sinks on.",
    not_shown="Random spacing of exposures; what happens after training ends.",
    settings=STORIES,
    text="stories",
    arms=2,
    run=_run,
    tables=_tables,
    figures=_figures,
)
