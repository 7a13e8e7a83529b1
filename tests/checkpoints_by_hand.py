"""Saved models with sinks and lineages that no training made."""

from pathlib import Path

import numpy as np

import memsinks
from memsinks.checkpoint.lineage import Lineage, Removal, Stage

IDS = (1, 2, 3, 4, 5)


def array(values) -> np.ndarray:
    return np.array(sorted(values), dtype=np.uint64)


def stage(corpus: str = "c" * 64) -> Stage:
    return Stage(corpus=corpus, ids=None, plan="p", governed="g", config="s", steps=10, tokens=1000)


def removal(ids, **changes) -> Removal:
    made = {"id": "r-1", "time": "2026-01-31T12:00:00+00:00", "everything": False, "documents": len(ids)}
    return Removal(**{**made, "ids": len(ids), "before": "a", "after": "b", "plan": "p", **changes})


def lineage() -> Lineage:
    return Lineage().with_stage(stage(), array(IDS), np.ones(len(IDS), dtype=np.int64))


def saved(model, folder: Path, history: Lineage | None = None) -> Path:
    memsinks.save(model, folder)
    (lineage() if history is None else history).write(folder)
    return folder


def after_removal(model, folder: Path, ids) -> Path:
    memsinks.remove(model, ids)
    return saved(model, folder, lineage().with_removal(removal(ids), array(ids), array(ids)))
