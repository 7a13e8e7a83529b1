"""Begin a removal, go on with one that was stopped, or drop it."""

import glob
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memsinks.corpus.files import file_digest
from memsinks.corpus.storage import Place
from memsinks.errors import ConfigError, InputError
from memsinks.ledger import Ledger, Role
from memsinks.removal.plan import Planned
from memsinks.removal.staging import check_space
from memsinks.removal.steps import GRAVE, ORIGINAL, PLAN, Outcome, Steps, discard, unfinished
from memsinks.runs.run import alone_in, working_directory_of
from memsinks.sinks.files import METADATA


@dataclass(frozen=True, kw_only=True)
class Request:
    """Who asks, and why; for the ledger.

    Attributes:
        reason: in words, without names of people.
        legal_basis: for example a contract, or an article of a law.
        people: names by role: requester, approver, operator.
        keep_days: days for which the names are kept; None keeps them until told.
        accept_inconclusive: a verification that is not sure is accepted; the certificate says so.
    """

    reason: str = ""
    legal_basis: str = ""
    people: Mapping[Role, str]
    keep_days: int | None = None
    accept_inconclusive: bool = False


def begin(planned: Planned, ledger: Ledger, request: Request, say: Callable[[str], None], **options: Any) -> Outcome:
    """Carry out a plan.

    Args:
        planned: the plan, all decisions taken.
        ledger: gets an entry for each step.
        request: who asks, and why.
        say: told what is being done.
        options: ``progress``, to show bars on standard error.

    Raises:
        ConfigError: a decision is missing.
        InputError: another removal of this checkpoint is unfinished, or something cannot be written.
    """
    plan, folder = planned.plan, planned.subject.folder.absolute()
    if plan.undecided:
        names = ", ".join(f"--{decision.name}" for decision in plan.undecided)
        raise ConfigError(f"the plan needs decisions before it can be carried out: {names}; see the plan")
    check_space(planned)
    with alone_in(working_directory_of(folder)):
        _write(planned, ledger, request)
        return Steps(folder, ledger, say, planned=planned, **options).run()


def _write(planned: Planned, ledger: Ledger, request: Request) -> None:
    """The folder of a new removal, with its plan, and the first entry."""
    plan, folder = planned.plan, planned.subject.folder.absolute()
    if (other := unfinished(folder)) is not None:
        raise InputError(f"{folder}: a removal is unfinished ({other.name}); finish it with --resume, or --abandon it")
    if file_digest(folder / METADATA) != plan.before[METADATA]:
        raise InputError(f"{folder}: was changed while this removal was planned; plan again")
    for grave in folder.parent.glob(f".{glob.escape(folder.name)}{GRAVE}*"):
        shutil.rmtree(grave, ignore_errors=True)
    work = folder.with_name(f".{folder.name}.removal-{plan.id}")
    body = {
        "checkpoint": plan.checkpoint,
        "target": plan.target.describe(),
        "reason": request.reason,
        "legal_basis": request.legal_basis,
        "ids": len(plan.ids),
        "documents": plan.documents + plan.also,
        "accept_inconclusive": request.accept_inconclusive,
    }
    try:
        work.mkdir()
        plan.write(work / f".{PLAN}")
        (work / f".{PLAN}").replace(work / PLAN)
        body |= {"plan_sha256": file_digest(work / PLAN)}
        ledger.append("planned", plan.id, body, people=request.people, keep_days=request.keep_days)
    except BaseException as error:
        shutil.rmtree(work, ignore_errors=True)
        if isinstance(error, OSError):
            raise InputError(f"{work}: cannot be written ({error}); nothing was changed") from error
        raise


def go_on(
    folder: Path,
    ledger: Ledger,
    say: Callable[[str], None],
    *,
    corpus: Place | None = None,
    progress: bool = False,
) -> Outcome:
    """Go on with an unfinished removal from where it is.

    Args:
        folder: of the checkpoint; it need not be there if the removal was stopped while it was replaced.
        ledger: that it was begun with.
        say: told what is being done.
        corpus: of the checkpoint.
        progress: show bars on standard error.

    Raises:
        InputError: there is none, or something cannot be written.
    """
    folder = folder.absolute()
    if unfinished(folder) is None:
        raise InputError(f"{folder}: there is no unfinished removal")
    with alone_in(working_directory_of(folder)):
        return Steps(folder, ledger, say, corpus=corpus, progress=progress).run()


def abandon(folder: Path, ledger: Ledger) -> str:
    """Drop an unfinished removal, if the checkpoint still is what it was; returns its ID.

    Raises:
        InputError: there is none, or the new checkpoint is in place already.
    """
    work = unfinished(folder)
    if work is None:
        raise InputError(f"{folder}: there is no unfinished removal")
    if (work / ORIGINAL).exists():
        raise InputError(f"{folder}: the removal has taken place; finish it with --resume")
    removal = work.name.rsplit(".removal-", 1)[1]
    if ledger.entries(removal=removal):
        ledger.append("abandoned", removal, {"checkpoint": folder.name})
    discard(work)
    return removal
