"""The checkpoint that text is to be removed from, with the corpus of that text."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from transformers import AutoConfig

from memsinks.checkpoint.lineage import Lineage, Stage
from memsinks.config import read_config
from memsinks.corpus import Corpus
from memsinks.corpus.files import folder_digests
from memsinks.corpus.storage import Place
from memsinks.errors import CheckpointError, InputError
from memsinks.ids import from_tensor
from memsinks.runs.config import RunConfig
from memsinks.runs.lineage import lineage_of
from memsinks.runs.run import CONFIG
from memsinks.sinks.excision import SinkFiles
from memsinks.sinks.files import TENSORS
from memsinks.stream import ExposurePlan, GovernedPolicy, governed
from memsinks.training.run import PLAN, TrainText


@dataclass(frozen=True, eq=False)
class Subject:
    """A checkpoint and one of the corpora it was trained on.

    Attributes:
        folder: of the checkpoint.
        files: its sinks.
        layers: decoder layers of the model.
        lineage: of the checkpoint.
        stage: number of the last training that saw the corpus.
        corpus: opened with the sequence IDs of that training.
        exposures: ``int64 [documents]``, planned in the last training; each earlier one adds 1 for what had sinks.
        with_sinks: ``bool [documents]``, trained with their sinks, in any training on this corpus.
    """

    folder: Path
    files: SinkFiles
    layers: int
    lineage: Lineage
    stage: int
    corpus: Corpus
    exposures: np.ndarray
    with_sinks: np.ndarray

    @classmethod
    def open(cls, folder: Path, corpus: Place | None = None) -> "Subject":
        """Open both, and check that they belong together.

        Args:
            folder: what ``memsinks train`` wrote.
            corpus: a corpus of one of its trainings; default the one that its run file names.

        Raises:
            CheckpointError: the checkpoint is not whole, or was altered.
            InputError: it was not trained on the corpus.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give the one that `memsinks train` wrote")
        files = SinkFiles.open(folder)
        lineage = lineage_of(folder)
        config = _run_config(folder)
        place = corpus if corpus is not None else config.corpus.path
        opened, number = _corpus(folder, place, lineage)
        model_config = AutoConfig.from_pretrained(folder)
        layers = int(model_config.num_hidden_layers)
        exposures, chosen = np.zeros(len(opened), np.int64), np.zeros(len(opened), bool)
        last = len(lineage.stages) - 1
        for stage in range(len(lineage.stages)):
            if (lineage.stages[stage].corpus, lineage.stages[stage].ids) != (opened.hash, opened.ids):
                continue
            seen, own = (
                _last_training(folder, opened, config, lineage.stages[stage])
                if stage == last
                else _earlier_training(opened, lineage, stage)
            )
            exposures, chosen = exposures + seen, chosen | own
        return cls(folder, files, layers, lineage, number, opened, exposures, chosen)

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of every file of the checkpoint, by name; the sinks were hashed when they were opened."""
        return folder_digests(self.folder, known={TENSORS: self.files.sha256})

    @property
    def removed(self) -> np.ndarray:
        """Sequence IDs that were removed before: ``uint64``, sorted."""
        own = self.files.table.removed
        known = self.lineage.removed["sequence_id"].to_numpy()
        return np.unique(known if own is None else np.concatenate([known, from_tensor(own.ids)]))

    @property
    def trained(self) -> np.ndarray:
        """Sequence IDs of all trainings that have sinks: ``uint64``, sorted."""
        return np.setdiff1d(self.lineage.trained["sequence_id"].to_numpy(), self.removed)


def _run_config(folder: Path) -> RunConfig:
    file = folder / CONFIG
    if not file.is_file():
        raise CheckpointError(f"{file} is missing, so it is not known which text trained with sinks; restore it")
    return read_config(RunConfig, file)


def _corpus(folder: Path, place: Place, lineage: Lineage) -> tuple[Corpus, int]:
    corpus = Corpus.open(place)
    for number in reversed(range(len(lineage.stages))):
        stage = lineage.stages[number]
        if stage.corpus == corpus.hash:
            return (corpus if stage.ids is None else Corpus.open(place, verify=False, ids=stage.ids)), number
    known = ", ".join(stage.corpus[:12] for stage in lineage.stages)
    raise InputError(
        f"{folder} was not trained on {place}, whose manifest has hash {corpus.hash[:12]}; it was trained on {known}: "
        "give that corpus with --corpus, unchanged"
    )


def _earlier_training(corpus: Corpus, lineage: Lineage, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """Its plan is gone; its IDs with sinks are known."""
    ids = lineage.trained["sequence_id"].to_numpy()[lineage.trained["stage"].to_numpy() == stage]
    chosen = np.isin(corpus.sequence_ids, ids) & ~corpus.is_validation
    return chosen.astype(np.int64), chosen


def _last_training(folder: Path, corpus: Corpus, config: RunConfig, stage: Stage) -> tuple[np.ndarray, np.ndarray]:
    plan = ExposurePlan.load(folder / PLAN, corpus)
    chosen = config.exposures
    policy = GovernedPolicy(chosen.govern, chosen.govern_values, chosen.govern_column)
    text = TrainText(corpus=corpus, plan=plan, governed=governed(corpus, plan, policy))
    facts = text.facts()
    for what, expected in (("plan", stage.plan), ("governed", stage.governed)):
        if facts[what] != expected:
            raise CheckpointError(
                f"{folder}: {PLAN} and {CONFIG} do not give the text that it was trained on ({what} differs from the "
                "record); restore them from a copy"
            )
    return plan.counts, text.governed & (plan.counts > 0)
