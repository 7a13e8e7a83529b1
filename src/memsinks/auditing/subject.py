"""What is audited: a checkpoint, the corpus it was trained on, and the text that is asked about."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memsinks.auditing.conditions import Condition, conditions_of
from memsinks.auditing.config import TextConfig
from memsinks.auditing.texts import Texts, choose
from memsinks.checkpoint.lineage import Lineage
from memsinks.config import read_config
from memsinks.corpus import Corpus, load_tokenizer
from memsinks.corpus.storage import Place
from memsinks.errors import InputError
from memsinks.removal.subject import Subject
from memsinks.removal.target import Target, find
from memsinks.runs.config import RunConfig
from memsinks.runs.run import CONFIG, corpus_of_run
from memsinks.sinks.files import METADATA
from memsinks.stream import ExposurePlan
from memsinks.training.run import PLAN


@dataclass(frozen=True, eq=False)
class Audited:
    """What is audited.

    Attributes:
        folder: of the checkpoint.
        asked: the text, for people.
        gone: it was removed from the checkpoint before.
        texts: of the audit.
        conditions: by name.
        lineage: of a checkpoint with sinks.
        exposures: of the target's documents, ``int64``.
    """

    folder: Path
    asked: str
    gone: bool
    texts: Texts
    conditions: dict[str, Condition]
    lineage: Lineage | None
    exposures: np.ndarray


def audited(
    folder: Path, config: TextConfig, *, target: Target | None, corpus: Place | None, against: Mapping[str, Path]
) -> Audited:
    """Open what an audit needs.

    Args:
        folder: of a run, with sinks or without.
        config: how much text.
        target: what is asked about; default what was removed from the checkpoint, or else what it saw more than once.
        corpus: default the one that the run file names.
        against: other models by name; see :func:`~memsinks.auditing.conditions.conditions_of`.

    Raises:
        CheckpointError: the checkpoint is not whole.
        InputError: it was not trained on the corpus, or on the target; some of the target was removed and some not; a
            model that is given beside it reads other tokens.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the one that `memsinks train` wrote")
    if (folder / METADATA).is_file():
        subject = Subject.open(folder, corpus)
        opened, exposures, with_sinks = subject.corpus, subject.exposures, subject.with_sinks
        lineage, removed = subject.lineage, np.isin(opened.sequence_ids, subject.removed)
    else:
        opened, exposures = _plain_run(folder, corpus)
        lineage, removed, with_sinks = None, np.zeros(len(opened), bool), np.zeros(len(opened), bool)
    chosen, asked = _chosen(opened, target, exposures, with_sinks, removed)
    there = chosen & (exposures > 0) & ~opened.is_validation
    gone = bool((there & removed).any())
    if gone and (there & with_sinks & ~removed).any():
        raise InputError(
            f"{asked}: some of it was removed from {folder} and some was not; audit the two apart (--sources, "
            "--documents)"
        )
    for name, other in against.items():
        _check_tokens(name, other, opened)
    texts = choose(opened, chosen, exposures, with_sinks & ~removed, most=config.documents, most_unseen=config.unseen)
    return Audited(
        folder=folder,
        asked=asked,
        gone=gone,
        texts=texts,
        conditions=conditions_of(folder, texts.target_ids, gone, against),
        lineage=lineage,
        exposures=exposures[texts.target],
    )


def _check_tokens(name: str, folder: Path, corpus: Corpus) -> None:
    """The tokens of the corpus mean nothing to a model with another tokenizer, and it would seem to know no text."""
    if not (folder / "tokenizer.json").is_file():
        return
    if load_tokenizer(folder).get_vocab() != corpus.tokenizer.get_vocab():
        raise InputError(
            f"--against {name}={folder}: its tokenizer is not that of {corpus.place}; give a model that was trained on "
            "the same tokens"
        )


def _plain_run(folder: Path, place: Place | None) -> tuple[Corpus, np.ndarray]:
    if not (folder / CONFIG).is_file() or not (folder / PLAN).is_file():
        raise InputError(
            f"{folder}: has no {CONFIG} and {PLAN}, so it is not known what it was trained on; audit the run that "
            f"it was made from, and give it with --against"
        )
    corpus = corpus_of_run(folder, place if place is not None else read_config(RunConfig, folder / CONFIG).corpus.path)
    return corpus, ExposurePlan.load(folder / PLAN, corpus).counts


def _chosen(
    corpus: Corpus, target: Target | None, exposures: np.ndarray, with_sinks: np.ndarray, removed: np.ndarray
) -> tuple[np.ndarray, str]:
    if target is not None:
        return find(target, corpus), target.describe()
    trained = (exposures > 0) & ~corpus.is_validation
    for candidates, says in (
        (trained & removed, "all text that was removed"),
        (trained & (exposures > 1), "all text that was trained more than once"),
        (trained & with_sinks, "all text that was trained with sinks"),
    ):
        if candidates.any():
            return candidates, says
    return trained, "all text that was trained"
