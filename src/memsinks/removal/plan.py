"""The plan of a removal: what goes, what it touches, what it leaves, and what it has to show; a file to be approved."""

import hashlib
import json
import secrets
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow.parquet as pq

from memsinks.corpus.stages.finish import PASSAGES
from memsinks.errors import ConfigError, InputError
from memsinks.ids import format_id
from memsinks.planning.overlap import fraction_lost
from memsinks.removal.alternatives import Alternatives, alternatives
from memsinks.removal.losses import SourceLoss, source_losses
from memsinks.removal.policy import Policy
from memsinks.removal.residue import Residue, find_residue
from memsinks.removal.rows import Cut, cut
from memsinks.removal.scope import Decision, Scope, resolve
from memsinks.removal.subject import Subject
from memsinks.removal.target import Target
from memsinks.removal.thresholds import Thresholds
from memsinks.sinks.allocation import AllocationTable

FORMAT, FORMAT_VERSION = "memsinks-removal-plan", 2
"""Version 1 had no alternatives."""


@dataclass(frozen=True, kw_only=True)
class RemovalPlan:
    """Everything that is decided before anything is changed; :meth:`as_dict` is what gets approved.

    Attributes:
        id: of the removal.
        time: at which it was planned, UTC.
        checkpoint: name of the folder.
        before: SHA-256 of each of its files.
        corpus: SHA-256 of the corpus's manifest.
        stage: number of the training that saw it.
        target: what was asked.
        policy: what was decided.
        everything: all sinks go.
        ids: that go, sorted.
        documents: of the request, that lose their sinks.
        also: other documents that lose theirs.
        never_trained, gone_before: documents of the request to which nothing is done.
        sources: documents of the request, by source.
        decisions: needed, taken or not.
        rows: in each layer with sinks: there, chosen by what goes, and removed.
        cut_sha256: of the tombstones after the removal.
        survivors: IDs that stay.
        measured: survivors whose loss was computed; the rest is like them.
        lost_mean, lost_most: fraction of its rows that a survivor loses.
        lost_expected: what ``memsinks plan`` expects of so many IDs in a hashed pool; None for another allocation, a
            pool that has grown or lost rows before, or rows that are kept.
        losses: by source, those that lose most first.
        passages: documents outside the request that share a passage with it without being near-copies.
        residue: what else holds the text or what was learned of it.
        thresholds: of the verification.
        alternatives: what could be done instead.
    """

    id: str
    time: str
    checkpoint: str
    before: dict[str, str]
    corpus: str
    stage: int
    target: Target
    policy: Policy
    everything: bool
    ids: tuple[str, ...]
    documents: int
    also: int
    never_trained: int
    gone_before: int
    sources: dict[str, int]
    decisions: tuple[Decision, ...]
    rows: tuple[tuple[int, int, int], ...]
    cut_sha256: str
    survivors: int
    measured: int
    lost_mean: float
    lost_most: float
    lost_expected: float | None
    losses: tuple[SourceLoss, ...]
    passages: int
    residue: tuple[Residue, ...]
    thresholds: Thresholds
    alternatives: Alternatives

    @property
    def undecided(self) -> tuple[Decision, ...]:
        """Decisions that still have to be taken."""
        return tuple(decision for decision in self.decisions if decision.choice is None)

    @property
    def incomplete(self) -> tuple[str, ...]:
        """Why something of the request stays, by decision."""
        return tuple(decision.incomplete for decision in self.decisions if decision.incomplete)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}

    def write(self, file: Path) -> None:
        """Write it as JSON."""
        file.write_text(json.dumps(self.as_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read what :meth:`write` wrote.

        Raises:
            InputError: it is no plan, or of another version of the format.
        """
        try:
            content = json.loads(file.read_text("utf-8"))
            if content.pop("format") != FORMAT:
                raise ValueError("another format")
            if (version := content.pop("format_version")) != FORMAT_VERSION:
                raise ValueError(f"format version {version}, and this version of memsinks reads {FORMAT_VERSION}")
            asked = content.pop("target")
            target = Target(everything=asked.pop("everything"), **{key: tuple(names) for key, names in asked.items()})
            return cls(
                target=target,
                policy=Policy(**content.pop("policy")),
                ids=tuple(content.pop("ids")),
                decisions=tuple(Decision(**{**d, "examples": tuple(d["examples"])}) for d in content.pop("decisions")),
                rows=tuple(tuple(row) for row in content.pop("rows")),
                losses=tuple(SourceLoss(**loss) for loss in content.pop("losses")),
                residue=tuple(Residue(**item) for item in content.pop("residue")),
                thresholds=Thresholds(**content.pop("thresholds")),
                alternatives=Alternatives.from_dict(content.pop("alternatives")),
                **content,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file}: cannot be read as a plan of a removal ({error}); plan again") from error


@dataclass(frozen=True, eq=False)
class Planned:
    """A plan with what it was made of, for who carries it out."""

    plan: RemovalPlan
    subject: Subject
    scope: Scope
    cut: Cut


def make_plan(
    subject: Subject, target: Target, policy: Policy | None = None, thresholds: Thresholds | None = None
) -> Planned:
    """Plan a removal; nothing is changed.

    Args:
        subject: the checkpoint and the corpus.
        target: what is asked.
        policy: decisions; those that are needed and missing are listed as undecided.
        thresholds: of the verification.

    Raises:
        InputError: nothing of the request is in the checkpoint.
        ConfigError: a decision is given that has nothing to decide.
    """
    policy = policy or Policy()
    scope = resolve(subject, target, policy)
    rows, scope = cut(subject, scope, policy.shared_rows)
    _check_needed(policy, scope)
    now = datetime.now(UTC)
    ids = tuple(format_id(int(i)) for i in scope.ids)
    files = subject.files
    there = [files.table.rows_in(place) for place in range(len(files.layers()))]
    lost, residue = rows.collateral, tuple(find_residue(subject, scope))
    plan = RemovalPlan(
        id=f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        time=now.isoformat(timespec="seconds"),
        checkpoint=subject.folder.name,
        before=subject.digests,
        corpus=subject.corpus.hash,
        stage=subject.stage,
        target=target,
        policy=policy,
        everything=scope.everything,
        ids=ids,
        documents=int(scope.documents.sum()),
        also=int(scope.also.sum()),
        never_trained=scope.never_trained,
        gone_before=scope.before,
        sources=_sources(subject, scope),
        decisions=scope.decisions,
        rows=tuple(zip(there, rows.chosen, rows.removed, strict=True)),
        cut_sha256=table_digest(rows.table),
        survivors=lost.survivors,
        measured=len(lost.ids),
        lost_mean=lost.mean,
        lost_most=lost.most,
        lost_expected=_expected(subject, scope, rows),
        losses=source_losses(subject, rows),
        passages=len(passages_outside(subject, scope)),
        residue=residue,
        thresholds=thresholds or Thresholds(),
        alternatives=alternatives(subject, scope, rows, policy.shared_rows, residue),
    )
    return Planned(plan, subject, scope, rows)


def _expected(subject: Subject, scope: Scope, rows: Cut) -> float | None:
    config, table = subject.files.config, subject.files.table
    untouched = table.removed is None and len(table.segments) == 1 and rows.removed == rows.chosen
    if scope.everything or config.allocation != "hashed" or not untouched:
        return None
    return fraction_lost(int(config.pool) // config.block, int(config.active) // config.block, len(scope.ids))


def remake(plan: RemovalPlan, subject: Subject) -> Planned:
    """The plan again, on the checkpoint as it is now, to carry it out.

    Raises:
        InputError: the checkpoint, the corpus or what would go is not what was planned.
    """
    if (now := subject.digests) != plan.before:
        changed = sorted(name for name in now.keys() | plan.before.keys() if now.get(name) != plan.before.get(name))
        raise InputError(
            f"{subject.folder} has changed since removal {plan.id} was planned ({', '.join(changed[:3])}); plan again"
        )
    if subject.corpus.hash != plan.corpus:
        raise InputError(f"removal {plan.id} was planned with another corpus; give that one with --corpus")
    again = make_plan(subject, plan.target, plan.policy, plan.thresholds)
    if again.plan.ids != plan.ids or again.plan.cut_sha256 != plan.cut_sha256:
        raise InputError(f"removal {plan.id} would not do any more what was planned; plan again")
    return replace(again, plan=plan)


def _check_needed(policy: Policy, scope: Scope) -> None:
    needed = {decision.name for decision in scope.decisions}
    for name, value in asdict(policy).items():
        option = name.replace("_", "-")
        if value is not None and option not in needed:
            raise ConfigError(f"--{option} {value}: this request touches nothing that it would decide; leave it out")


def _sources(subject: Subject, scope: Scope) -> dict[str, int]:
    counts: dict[str, int] = defaultdict(int)
    for i in np.flatnonzero(scope.documents).tolist():
        counts[subject.corpus.sources[i] or ""] += 1
    return dict(sorted(counts.items()))


def passages_outside(subject: Subject, scope: Scope) -> set[str]:
    """Documents that trained, stay, and share a passage with what goes."""
    corpus = subject.corpus
    file = corpus.path / PASSAGES
    if not file.is_file():
        return set()
    goes = {corpus.documents[i] for i in np.flatnonzero(scope.documents | scope.also).tolist()}
    stays = {
        corpus.documents[i] for i in np.flatnonzero((subject.exposures > 0) & ~scope.documents & ~scope.also).tolist()
    }
    table = pq.read_table(file, columns=["document", "other"])
    pairs = set(zip(table["document"].to_pylist(), table["other"].to_pylist(), strict=True))
    both = pairs | {(b, a) for a, b in pairs}
    return {b for a, b in both if a in goes and b in stays}


def table_digest(table: AllocationTable) -> str:
    """SHA-256 of an allocation table: which rows belong to whom, and which went."""
    state = hashlib.sha256()
    for name, tensor in sorted(table.tensors().items()):
        state.update(name.encode() + b"\0" + tensor.contiguous().numpy().tobytes())
    return state.hexdigest()
