"""The checkpoint without the removed sinks, made beside the one that it will replace."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from memsinks.checkpoint.card import CARD, CardFacts, is_ours, names_sources, run_facts, trained_sources, write_card
from memsinks.checkpoint.lineage import LINEAGE, REMOVED, TRAINED, UNKNOWN, Lineage, Removal
from memsinks.corpus.files import appearing, explain, file_digest
from memsinks.errors import InputError
from memsinks.removal.plan import Planned
from memsinks.sinks.excision import describe, excise
from memsinks.sinks.files import METADATA, TENSORS

_REWRITTEN = {TENSORS, METADATA, LINEAGE, TRAINED, REMOVED}
_SPARE = 16 << 20


def check_space(planned: Planned) -> None:
    """Refuse before anything is written what would fail in the middle.

    Raises:
        InputError: the disk has too little room for the new sinks.
    """
    home, needed = planned.subject.folder.resolve().parent, planned.subject.files.path.stat().st_size + _SPARE
    free = shutil.disk_usage(home).free
    if free < needed:
        raise InputError(
            f"{home}: the new sinks need up to {needed / 1e6:,.0f} MB while the old ones are there, and "
            f"{free / 1e6:,.0f} MB are free; make room"
        )


def write(planned: Planned, draft: Path) -> None:
    """Write the new checkpoint but for the files that name the hash of its sinks; the folder appears at once.

    Files that do not change are second names of the old ones where the file system has such, and copies elsewhere.

    Args:
        planned: the removal.
        draft: the folder to make.

    Raises:
        InputError: it cannot be written; a full disk is named as such.
    """
    subject, plan = planned.subject, planned.plan
    purged = {item.path for item in plan.residue if item.action == "purge"}
    rewritten = _REWRITTEN | ({CARD} if is_ours(subject.folder / CARD) else set())
    with appearing(draft, subject.folder) as folder:
        for name in plan.before:
            if name in rewritten or any(is_inside(f"{plan.checkpoint}/{name}", path) for path in purged):
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(subject.folder / name, target)
        excise(subject.files, planned.cut.table, folder)


def seal(planned: Planned, draft: Path, sha256: str, anchor: tuple[int, str] | None, plan_file: Path) -> None:
    """Complete what :func:`write` wrote with the files that name the hash of its sinks.

    Args:
        planned: the removal.
        draft: the folder.
        sha256: of the new ``sinks.safetensors``.
        anchor: number and hash of the ledger's last entry.
        plan_file: of the plan, to be named by its hash.

    Raises:
        InputError: a file cannot be written; a full disk is named as such.
    """
    subject, plan = planned.subject, planned.plan
    removal = Removal(
        id=plan.id,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        everything=plan.everything,
        ids=len(plan.ids),
        documents=plan.documents + plan.also,
        before=subject.files.sha256,
        after=sha256,
        plan=file_digest(plan_file),
        ledger=anchor,
    )
    lineage = subject.lineage.with_removal(removal, *_removed(planned))
    try:
        describe(subject.files, planned.cut.table, draft, sha256)
        lineage.write(draft)
        if is_ours(subject.folder / CARD):
            write_card(draft, _card_facts(planned, draft, lineage))
    except OSError as error:
        raise InputError(explain(subject.folder, error)) from error


def _card_facts(planned: Planned, folder: Path, lineage: Lineage) -> CardFacts:
    """Of the new checkpoint. It names sources if the old card did, and the corpus is the one that it took them from."""
    subject = planned.subject
    last = subject.stage == len(lineage.stages) - 1
    named = last and names_sources(subject.folder / CARD)
    return CardFacts(
        config=subject.files.config,
        table=planned.cut.table,
        sources=trained_sources(subject.corpus, lineage) if named else None,
        **run_facts(folder),
    )


def is_inside(name: str, folder: str) -> bool:
    """Whether a POSIX path is another, or inside it."""
    return name == folder or name.startswith(f"{folder}/")


def _removed(planned: Planned) -> tuple[np.ndarray, np.ndarray]:
    """The sequence ID and the content ID of each document that goes; of other trainings' text the latter is unknown."""
    corpus, scope = planned.subject.corpus, planned.scope
    gone = scope.documents | scope.also
    elsewhere = np.setdiff1d(scope.ids, corpus.sequence_ids[gone])
    ids = np.concatenate([corpus.sequence_ids[gone], elsewhere])
    return ids, np.concatenate([corpus.content_ids[gone], np.full_like(elsewhere, UNKNOWN)])


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
