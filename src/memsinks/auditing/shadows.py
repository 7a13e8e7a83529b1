"""Shadow models: runs on the same corpus, each without some of the audited text, for the likelihood-ratio attack."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memsinks.audit import TokenizedDocument, document_losses
from memsinks.corpus import Corpus
from memsinks.errors import ConfigError, InputError
from memsinks.sinks.files import METADATA
from memsinks.stream import ExposurePlan
from memsinks.training.run import PLAN, bf16_pays


def shadow_plans(
    plan: ExposurePlan, documents: Sequence[int] | np.ndarray, shadows: int, *, seed: int = 0
) -> list[ExposurePlan]:
    """Exposure plans of shadow runs: each leaves out half of the documents, and each document is left out by half.

    Exact copies of a document that is left out are left out with it; near-copies stay.

    Args:
        plan: of the run that is audited.
        documents: numbers of those that are audited.
        shadows: how many plans: an even number, at least 4.
        seed: of the halves.

    Raises:
        InputError: fewer than two different documents, or a number of plans that does not do.
    """
    if shadows < 4 or shadows % 2:
        raise InputError(f"{shadows} shadow runs do not leave out each document equally often; ask for 4, 6, 8 …")
    everything = plan.corpus.content_ids
    contents = np.unique(everything[np.asarray(documents)])
    if len(contents) < 2:
        raise InputError(f"{len(contents)} different document(s) cannot be halved; give at least two")
    random, found = np.random.default_rng(seed), []
    for _ in range(shadows // 2):
        mixed = random.permutation(contents)
        for half in np.split(mixed, [len(mixed) // 2]):
            found.append(plan.without(np.flatnonzero(np.isin(everything, half)).tolist()))
    return found


@dataclass(eq=False)
class Shadows:
    """Shadow runs, read one after another when first asked for.

    Attributes:
        folders: of the runs.
        trained_on: ``bool [shadows, documents]``, of the corpus: the run saw the document or a copy of it.
    """

    folders: tuple[Path, ...]
    trained_on: np.ndarray
    _losses: np.ndarray | None = field(default=None, repr=False)

    @classmethod
    def open(cls, folders: Sequence[str], corpus: Corpus) -> "Shadows":
        """Find runs and what each was trained on.

        Raises:
            ConfigError: there are fewer than 4, one is none, or has sinks.
            InputError: a run was trained on another corpus.
        """
        if len(folders) < 4:
            raise ConfigError(f"membership.shadows: {len(folders)} runs are too few; give at least 4")
        found = [Path(folder) for folder in folders]
        for folder in found:
            if not (folder / "config.json").is_file() or not (folder / PLAN).is_file():
                raise ConfigError(f"membership.shadows: {folder} is no run; give folders with config.json and {PLAN}")
            if (folder / METADATA).is_file():
                raise ConfigError(f"membership.shadows: {folder} has sinks; train shadow runs with --sinks.no-attach")
        seen = [ExposurePlan.load(folder / PLAN, corpus).counts > 0 for folder in found]
        contents = corpus.content_ids
        return cls(tuple(found), np.stack([np.isin(contents, contents[own]) for own in seen]))

    def losses(self, documents: list[TokenizedDocument], max_length: int) -> np.ndarray:
        """Nats per token, ``float64 [shadows, documents]``; asked for again, of the same documents, it is known."""
        if self._losses is None:
            self._losses = np.stack([self._of(folder, documents, max_length) for folder in self.folders])
        return self._losses

    def _of(self, folder: Path, documents: list[TokenizedDocument], max_length: int) -> np.ndarray:
        from transformers import AutoModelForCausalLM

        model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
        if torch.cuda.is_available():
            model.to("cuda")
        return document_losses(model, documents, mode=None, max_length=max_length, autocast=bf16_pays()).per_document
