"""The lineage of a run: that of the model it began with, and its own training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from memsinks.checkpoint.lineage import Lineage, Stage
from memsinks.errors import CheckpointError
from memsinks.runs.build import Blueprint, brings_sinks
from memsinks.training.exposures import ExposureCounter
from memsinks.training.run import TrainText

RECORD = "run.json"


def lineage_of(folder: Path) -> Lineage:
    """The lineage of a saved run.

    A run from before lineages were written has one stage, of all text that it saw: which of it had sinks is not known.

    Raises:
        CheckpointError: neither a lineage nor a record can be read.
    """
    found = Lineage.read(folder)
    if found is not None:
        return found
    try:
        record = json.loads((folder / RECORD).read_text())
        stage = _stage(record["text"], record["config_sha256"], record["steps"], record["tokens"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: has no record of its training ({error}); give the folder that `memsinks train` wrote"
        ) from error
    counter = ExposureCounter()
    counter.load(folder)
    ids = np.array(list(counter.counts), dtype=np.uint64)
    return Lineage().with_stage(stage, ids, np.array(list(counter.counts.values()), dtype=np.int64))


def extended(blueprint: Blueprint, record: dict[str, Any]) -> Lineage:
    """The lineage of a run that has just trained.

    Args:
        blueprint: of the run.
        record: of its training.
    """
    pretrained, text = blueprint.config.model.pretrained, blueprint.text
    before = lineage_of(Path(pretrained)) if pretrained is not None and brings_sinks(blueprint.config) else Lineage()
    ids, exposures = with_sinks(text)
    stage = _stage(record["text"], record["config_sha256"], record["steps"], record["tokens"])
    return before.with_stage(stage, ids, exposures)


def with_sinks(text: TrainText) -> tuple[np.ndarray, np.ndarray]:
    """Sequence IDs and planned exposures of the documents that train with their sinks."""
    chosen = text.governed & (text.plan.counts > 0)
    return text.corpus.sequence_ids[chosen], text.plan.counts[chosen]


def _stage(facts: dict[str, Any], config: str, steps: int, tokens: int) -> Stage:
    return Stage(
        corpus=facts["corpus"],
        ids=facts.get("ids"),
        plan=facts["plan"],
        governed=facts["governed"],
        config=config,
        steps=steps,
        tokens=tokens,
    )
