"""The certificate of a removal, from its plan and its verification."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from memsinks.certificate import (
    LedgerAnchor,
    Predicate,
    Reason,
    Request,
    SigningKey,
    VerificationCheck,
    certify,
    digests,
)
from memsinks.certificate.predicate import ReasonKind
from memsinks.corpus.files import file_digest
from memsinks.ids import parse_id
from memsinks.ledger import Ledger
from memsinks.removal.plan import RemovalPlan
from memsinks.removal.steps import PLAN, VERIFICATION, Outcome
from memsinks.removal.verification import Verification

CERTIFICATE = "certificate.json"


def write_certificate(outcome: Outcome, ledger: Ledger, keys: Sequence[SigningKey]) -> Path:
    """Sign what was done to a checkpoint, beside its plan and verification.

    Args:
        outcome: of the removal.
        ledger: that has it.
        keys: each signs.

    Returns:
        The certificate.

    Raises:
        InputError: it cannot be written, or exists.
    """
    plan, verification = outcome.plan, outcome.verification
    reasons = tuple(_reasons(plan, verification))
    head = ledger.entries(removal=plan.id)[-1]
    target = plan.target
    named = {
        "source": target.sources,
        "group": target.groups,
        "document": target.documents,
        "id": target.ids,
        "condition": target.where,
    }
    predicate = Predicate(
        removal=plan.id,
        time=datetime.now(UTC),
        request=Request(
            kinds={kind: len(names) for kind, names in named.items() if names} or {"everything": 1},
            ids=tuple(parse_id(text) for text in plan.ids),
            target=target.describe(),
        ),
        policies={decision.name: decision.choice for decision in plan.decisions if decision.choice is not None},
        before=plan.before,
        after=digests(outcome.folder),
        rows_removed={number: removed for number, (_, _, removed) in enumerate(plan.rows)},
        verification=tuple(
            VerificationCheck(
                name=check.name,
                verdict=check.verdict,
                figure=check.figure,
                threshold=check.threshold,
                interval=None if check.low is None or check.high is None else (check.low, check.high),
            )
            for check in verification.checks
        ),
        evidence={name: file_digest(outcome.record / name) for name in (PLAN, VERIFICATION)},
        ledger=LedgerAnchor(seq=head.seq, hash=head.hash),
        corpus_sha256=plan.corpus,
        code_version=version("memsinks"),
        complete=not reasons,
        reasons=reasons,
    )
    file = outcome.record / CERTIFICATE
    certify(outcome.folder, predicate, keys, file)
    return file


def _reasons(plan: RemovalPlan, verification: Verification) -> Iterator[Reason]:
    kinds: dict[str, ReasonKind] = {
        "shared-rows": "shared_rows_kept",
        "shared-ids": "shared_groups_kept",
        "near-copies": "shared_groups_kept",
        "without-sinks": "without_sinks_kept",
    }
    for decision in plan.decisions:
        if decision.incomplete:
            yield Reason(kind=kinds[decision.name], count=decision.number, detail=decision.incomplete)
    elsewhere = [item for item in plan.residue if item.action == "list" and item.holds == "weights"]
    if elsewhere:
        paths = ", ".join(Path(item.path).name for item in elsewhere[:5])
        yield Reason(kind="residue_listed", count=len(elsewhere), detail=f"other weights that learned from it: {paths}")
    bad = [check.name for check in verification.checks if check.verdict != "pass"]
    if bad:
        failed = verification.verdict == "fail"
        kind: ReasonKind = "verification_failed" if failed else "verification_inconclusive"
        yield Reason(kind=kind, count=len(bad), detail=f"checks that did not pass: {', '.join(bad)}")
