"""Carry a plan out, step by step, so that it can be stopped anywhere and gone on with.

Everything is made in ``.NAME.removal-ID`` beside the checkpoint. A step that is done has left a file or folder there,
or an entry in the ledger, and is not done again::

    plan.json            the plan that is carried out
    result               the new checkpoint, whole
    verification.json    what it shows
    original             the old checkpoint, once the new one has its name

At the end this folder is gone, and ``NAME-removals/ID`` has the plan and the verification.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memsinks.checkpoint.run import NOT_VERIFIED
from memsinks.corpus.files import file_digest
from memsinks.corpus.storage import Place
from memsinks.errors import ConfigError, InputError
from memsinks.ledger import Ledger, Role
from memsinks.removal.identity import compare
from memsinks.removal.plan import Planned, RemovalPlan, remake
from memsinks.removal.residue import purge
from memsinks.removal.staging import build, check_space
from memsinks.removal.subject import Subject
from memsinks.removal.verification import Verification, measure, read_verification
from memsinks.runs.run import alone_in, working_directory_of
from memsinks.sinks.files import METADATA, TENSORS

PLAN, RESULT, VERIFICATION, ORIGINAL = "plan.json", "result", "verification.json", "original"
_GRAVE = ".finished-removal-"


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


@dataclass(frozen=True)
class Outcome:
    """How a removal ended.

    Attributes:
        plan: carried out.
        verification: of the result.
        folder: of the new checkpoint; of one that was not verified, where it was left.
        record: folder with plan and verification.
        accepted: it took the place of the old one.
    """

    plan: RemovalPlan
    verification: Verification
    folder: Path
    record: Path
    accepted: bool


def unfinished(folder: Path) -> Path | None:
    """The folder of a removal from this checkpoint that was not finished."""
    home = folder.absolute().parent
    found = sorted(home.glob(f".{folder.name}.removal-*")) if home.is_dir() else []
    return found[0] if found else None


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
        return _Steps(folder, ledger, say, planned=planned, **options).run()


def _write(planned: Planned, ledger: Ledger, request: Request) -> None:
    """The folder of a new removal, with its plan, and the first entry."""
    plan, folder = planned.plan, planned.subject.folder.absolute()
    if (other := unfinished(folder)) is not None:
        raise InputError(f"{folder}: a removal is unfinished ({other.name}); finish it with --resume, or --abandon it")
    if file_digest(folder / METADATA) != plan.before[METADATA]:
        raise InputError(f"{folder}: was changed while this removal was planned; plan again")
    for grave in folder.parent.glob(f".{folder.name}{_GRAVE}*"):
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
        return _Steps(folder, ledger, say, corpus=corpus, progress=progress).run()


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
    _discard(work)
    return removal


class _Steps:
    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        say: Callable[[str], None],
        *,
        corpus: Place | None = None,
        planned: Planned | None = None,
        progress: bool = False,
    ) -> None:
        work = unfinished(folder)
        assert work is not None
        self.folder, self.work, self.ledger, self.say, self.progress = folder, work, ledger, say, progress
        self.plan = RemovalPlan.read(work / PLAN)
        self.corpus, self._planned = corpus, planned
        self.home = folder.parent
        self.kept = self.home / f"{folder.name}-removals" / self.plan.id
        entries = ledger.entries(removal=self.plan.id)
        if not entries:
            raise InputError(
                f"{ledger.place}: knows nothing of removal {self.plan.id}; give the ledger that it was begun with, or "
                "--abandon it: nothing was changed yet"
            )
        self.recorded: dict[str, Any] = {entry.kind: entry for entry in entries}

    @property
    def planned(self) -> Planned:
        if self._planned is None:
            self._planned = remake(self.plan, Subject.open(self.folder, self.corpus))
        return self._planned

    def run(self) -> Outcome:
        self.record("applying", {"checkpoint": self.plan.checkpoint})
        self.apply()
        verification = self.verify()
        accepts = self.recorded["planned"].body["accept_inconclusive"]
        accepted = verification.verdict == "pass" or (verification.verdict == "inconclusive" and accepts)
        body = {"verdict": verification.verdict, "verification_sha256": file_digest(self.work / VERIFICATION)}
        if not accepted:
            return self.refuse(verification, body)
        self.record("verified", body)
        self.replace()
        self.purge()
        self.keep(self.kept)
        self.record("completed", {"checkpoint": self.plan.checkpoint, "sinks_after": self.after(self.folder)})
        _discard(self.work)
        return Outcome(self.plan, verification, self.folder, self.kept, True)

    def record(self, kind: Any, body: dict[str, Any]) -> None:
        """An entry, unless it is there already."""
        if kind not in self.recorded:
            self.recorded[kind] = self.ledger.append(kind, self.plan.id, body)

    def apply(self) -> None:
        result = self.work / RESULT
        # After the verification it may have gone to where it belongs.
        if not result.is_dir() and not (self.work / VERIFICATION).exists():
            self.say("taking the rows out")
            applying = self.recorded["applying"]
            build(self.planned, result, (applying.seq, applying.hash), self.work / PLAN)
        if "applied" not in self.recorded:
            before = self.plan.before[TENSORS]
            self.record("applied", {"sinks_before": before, "sinks_after": self.after(result)})

    def after(self, folder: Path) -> str:
        return file_digest(folder / TENSORS)

    def verify(self) -> Verification:
        file = self.work / VERIFICATION
        if not file.is_file():
            self.say("verifying")
            result = self.work / RESULT
            checks = compare(self.plan, self.folder, result)
            checks += measure(self.planned, self.folder, result, progress=self.progress)
            found = Verification(checks=tuple(checks))
            with _written(file) as temporary:
                temporary.write_text(json.dumps(found.as_dict(), indent=1) + "\n", "utf-8")
        return read_verification(file)

    def refuse(self, verification: Verification, body: dict[str, Any]) -> Outcome:
        """Leave the result beside the checkpoint, marked."""
        left = self.home / f"{self.folder.name}-not-verified-{self.plan.id}"
        if (result := self.work / RESULT).is_dir():
            shutil.copyfile(self.work / VERIFICATION, result / NOT_VERIFIED)
            result.rename(left)
        self.record("failed", {**body, "left": left.name})
        self.keep(self.kept)
        _discard(self.work)
        return Outcome(self.plan, verification, left, self.kept, False)

    def replace(self) -> None:
        original, result = self.work / ORIGINAL, self.work / RESULT
        if result.is_dir():
            self.say("replacing the checkpoint")
            if not original.exists():
                self.folder.rename(original)
            result.rename(self.folder)

    def purge(self) -> None:
        purged = [item for item in self.plan.residue if item.action == "purge"]
        if purged:
            self.say(f"purging {len(purged)} files and folders")
        inside = f"{self.folder.name}/"
        for item in purged:
            if not f"{item.path}/".startswith(inside):
                purge(item, self.home)
        shutil.rmtree(self.work / ORIGINAL, ignore_errors=True)
        listed = [item.path for item in self.plan.residue if item.action == "list"]
        self.record("purged", {"purged": [item.path for item in purged], "listed": listed})

    def keep(self, folder: Path) -> None:
        """Plan and verification, for good."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in (PLAN, VERIFICATION):
            with _written(folder / name) as temporary:
                shutil.copyfile(self.work / name, temporary)


def _discard(work: Path) -> None:
    """Remove the folder of a removal; it loses its name first, so that a half-removed one is not taken for one."""
    grave = work.with_name(work.name.replace(".removal-", _GRAVE))
    work.rename(grave)
    shutil.rmtree(grave, ignore_errors=True)


@contextmanager
def _written(file: Path) -> Iterator[Path]:
    """A name to write to, which becomes ``file``."""
    temporary = file.with_name(f".{file.name}.partial")
    try:
        yield temporary
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{file}: cannot be written ({error}); make room, then go on with --resume") from error
