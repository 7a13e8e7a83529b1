"""That a removal changed the files as it should: what stays has its bits, and what went is not there."""

from pathlib import Path

import torch

from memsinks.checkpoint.card import CARD, is_ours
from memsinks.checkpoint.lineage import LINEAGE, REMOVED, TRAINED
from memsinks.corpus.files import folder_digests
from memsinks.removal.plan import RemovalPlan, table_digest
from memsinks.removal.staging import is_inside
from memsinks.removal.verification import Check
from memsinks.sinks.excision import SinkFiles, row_digests
from memsinks.sinks.files import METADATA, TENSORS
from memsinks.sinks.removal import freed_rows, kept_rows

CHANGING = {TENSORS, METADATA, LINEAGE, TRAINED, REMOVED}
"""With :data:`~memsinks.checkpoint.card.CARD`, if the card is ours."""
_SHORT = 16
"""Bytes of a row from which on its like is not there by chance."""


def compare(plan: RemovalPlan, before: Path, after: Path) -> list[Check]:
    """Compare the files of a checkpoint with those that it had.

    The sinks are compared row by row; that their files have the hashes which they are said to have is seen by whoever
    loads them.
    """
    return [_unchanged(plan, before, after), *_rows(plan, before, after)]


def _unchanged(plan: RemovalPlan, before: Path, after: Path) -> Check:
    purged = {item.path for item in plan.residue if item.action == "purge"}
    changing = CHANGING | ({CARD} if is_ours(before / CARD) else set())
    now = folder_digests(after, besides=changing)
    expected = {
        name: digest
        for name, digest in plan.before.items()
        if name not in changing and not any(is_inside(f"{before.name}/{name}", path) for path in purged)
    }
    wrong = sorted(name for name in expected.keys() | now.keys() if expected.get(name) != now.get(name))
    return Check(
        name="other files",
        verdict="fail" if wrong else "pass",
        figure=float(len(wrong)),
        threshold=0.0,
        says=f"changed or missing: {', '.join(wrong[:5])}"
        if wrong
        else f"all {len(expected)} other files, the shared weights among them, are the same byte for byte",
    )


def _rows(plan: RemovalPlan, before: Path, after: Path) -> list[Check]:
    old, new = SinkFiles.open(before, verify=False), SinkFiles.open(after, verify=False)
    as_planned = table_digest(new.table) == plan.cut_sha256
    moved = remaining = kept_count = gone_count = 0
    for name, part in old.parts.items():
        place = old.place(part)
        kept, gone = kept_rows(old.table, new.table, place), freed_rows(old.table, new.table, place)
        other = new.parts.get(name)
        # Under another table the same rows would belong to others.
        if not as_planned or other is None or other.shape[0] != len(kept):
            moved += len(kept)
            continue
        digests = list(row_digests(new, other, torch.arange(len(kept))))
        moved += sum(a != b for a, b in zip(digests, row_digests(old, part, kept), strict=True))
        kept_count += len(kept)
        if part.row_bytes >= _SHORT:
            zeros = bytes(part.row_bytes)
            left = set(digests)
            remaining += sum(d in left for d in row_digests(old, part, gone, besides=zeros))
            gone_count += len(gone)
    return [
        Check(
            name="surviving rows",
            verdict="fail" if moved or not as_planned else "pass",
            figure=float(moved),
            threshold=0.0,
            says=f"{moved:,} of {kept_count:,} rows that stay differ from what they were",
        ),
        Check(
            name="removed rows",
            verdict="fail" if remaining else "pass",
            figure=float(remaining),
            threshold=0.0,
            says=f"{remaining:,} of {gone_count:,} rows that were taken out are still in the file",
        ),
    ]
