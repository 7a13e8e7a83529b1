"""Carry a plan out, step by step, so that it can be stopped anywhere and gone on with.

Everything is made in ``.NAME.removal-ID`` beside the checkpoint. A step that is done has left a file or folder there,
or an entry in the ledger, and is not done again::

    plan.json            the plan that is carried out
    draft                the new checkpoint while its sinks are written and hashed; dropped if that was stopped
    result               the new checkpoint, whole
    verification.json    what it shows
    original             the old checkpoint, once the new one has its name

At the end this folder is gone, and ``NAME-removals/ID`` has the plan and the verification.
"""

import glob
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memsinks.checkpoint.run import NOT_VERIFIED
from memsinks.corpus.files import file_digest
from memsinks.corpus.storage import Place
from memsinks.errors import CheckpointError, InputError
from memsinks.ledger import Ledger
from memsinks.removal.identity import compare
from memsinks.removal.plan import Planned, RemovalPlan, remake
from memsinks.removal.residue import purge
from memsinks.removal.staging import seal, write
from memsinks.removal.subject import Subject
from memsinks.removal.verification import Baseline, Verification, measure, measure_before, read_verification
from memsinks.sinks.files import TENSORS, read_metadata

PLAN, DRAFT, RESULT, VERIFICATION, ORIGINAL = "plan.json", "draft", "result", "verification.json", "original"
GRAVE = ".finished-removal-"


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
    found = sorted(home.glob(f".{glob.escape(folder.name)}.removal-*")) if home.is_dir() else []
    return found[0] if found else None


class Steps:
    """A removal that has begun, and what is left of it to do."""

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
        self.baseline: Baseline | None = None
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
        """The plan with what it was made of; made again if the removal was stopped."""
        if self._planned is None:
            self._planned = remake(self.plan, Subject.open(self.folder, self.corpus))
        return self._planned

    def run(self) -> Outcome:
        """Do what is left.

        Raises:
            InputError: something cannot be written, or the checkpoint is not the one that was planned for.
            CheckpointError: a file was altered on the way.
        """
        self._record("applying", {"checkpoint": self.plan.checkpoint})
        self._apply()
        verification = self._verify()
        accepts = self.recorded["planned"].body["accept_inconclusive"]
        accepted = verification.verdict == "pass" or (verification.verdict == "inconclusive" and accepts)
        body = {"verdict": verification.verdict, "verification_sha256": file_digest(self.work / VERIFICATION)}
        if not accepted:
            return self._refuse(verification, body)
        self._record("verified", body)
        self._replace()
        self._confirm()
        self._purge()
        self._keep(self.kept)
        after = self.recorded["applied"].body["sinks_after"]
        self._record("completed", {"checkpoint": self.plan.checkpoint, "sinks_after": after})
        discard(self.work)
        return Outcome(self.plan, verification, self.folder, self.kept, True)

    def _record(self, kind: Any, body: dict[str, Any]) -> None:
        """An entry, unless it is there already."""
        if kind not in self.recorded:
            self.recorded[kind] = self.ledger.append(kind, self.plan.id, body)

    def _apply(self) -> None:
        result = self.work / RESULT
        # After the verification it may have gone to where it belongs.
        if not result.is_dir() and not (self.work / VERIFICATION).exists():
            self.say("taking the rows out")
            draft, applying = self.work / DRAFT, self.recorded["applying"]
            for stopped in (draft, *self.work.glob(f".{DRAFT}.*")):
                shutil.rmtree(stopped, ignore_errors=True)
            write(self.planned, draft)
            # Hashing takes about as long as writing did, and what the old checkpoint remembers does not wait for it.
            with ThreadPoolExecutor(1) as beside:
                hashing = beside.submit(file_digest, draft / TENSORS)
                self.baseline = self._remembered()
            seal(self.planned, draft, hashing.result(), (applying.seq, applying.hash), self.work / PLAN)
            draft.rename(result)
        if "applied" not in self.recorded:
            metadata, _ = read_metadata(result)
            before = self.plan.before[TENSORS]
            self._record("applied", {"sinks_before": before, "sinks_after": metadata["tensors"]["sha256"]})

    def _remembered(self) -> Baseline:
        self.say("measuring what the checkpoint remembers")
        return measure_before(self.planned, self.folder, progress=self.progress)

    def _verify(self) -> Verification:
        file = self.work / VERIFICATION
        if not file.is_file():
            result = self.work / RESULT
            baseline = self.baseline or self._remembered()
            self.say("verifying")
            checks = compare(self.plan, self.folder, result)
            checks += measure(self.planned, baseline, result, progress=self.progress)
            found = Verification(checks=tuple(checks))
            with _written(file) as temporary:
                temporary.write_text(json.dumps(found.as_dict(), indent=1) + "\n", "utf-8")
        return read_verification(file)

    def _refuse(self, verification: Verification, body: dict[str, Any]) -> Outcome:
        """Leave the result beside the checkpoint, marked."""
        left = self.home / f"{self.folder.name}-not-verified-{self.plan.id}"
        if (result := self.work / RESULT).is_dir():
            shutil.copyfile(self.work / VERIFICATION, result / NOT_VERIFIED)
            result.rename(left)
        self._record("failed", {**body, "left": left.name})
        self._keep(self.kept)
        discard(self.work)
        return Outcome(self.plan, verification, left, self.kept, False)

    def _replace(self) -> None:
        original, result = self.work / ORIGINAL, self.work / RESULT
        if result.is_dir():
            self.say("replacing the checkpoint")
            if not original.exists():
                self.folder.rename(original)
            result.rename(self.folder)

    def _confirm(self) -> None:
        """The sinks in their place are those of the ledger's entry; seen while the old checkpoint is still there."""
        file, original = self.folder / TENSORS, self.work / ORIGINAL
        if file_digest(file) != self.recorded["applied"].body["sinks_after"]:
            old = f"; the checkpoint as it was is {original}" if original.is_dir() else ""
            raise CheckpointError(
                f"{file} was altered after the removal wrote it (its hash is not the one of the ledger's entry "
                f"'applied'); restore it from a copy, then go on with --resume{old}"
            )

    def _purge(self) -> None:
        purged = [item for item in self.plan.residue if item.action == "purge"]
        if purged:
            self.say(f"purging {len(purged)} files and folders")
        inside = f"{self.folder.name}/"
        for item in purged:
            if not f"{item.path}/".startswith(inside):
                purge(item, self.home)
        shutil.rmtree(self.work / ORIGINAL, ignore_errors=True)
        listed = [item.path for item in self.plan.residue if item.action == "list"]
        self._record("purged", {"purged": [item.path for item in purged], "listed": listed})

    def _keep(self, folder: Path) -> None:
        """Plan and verification, for good."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in (PLAN, VERIFICATION):
            with _written(folder / name) as temporary:
                shutil.copyfile(self.work / name, temporary)


def discard(work: Path) -> None:
    """Remove the folder of a removal; it loses its name first, so that a half-removed one is not taken for one."""
    grave = work.with_name(work.name.replace(".removal-", GRAVE))
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
