"""``memsinks forget``."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console
from rich.markdown import Markdown

from memsinks.cli.ledger import DEFAULT, VARIABLE
from memsinks.corpus.storage import Place
from memsinks.errors import ConfigError, InputError
from memsinks.removal.policy import Policy
from memsinks.removal.thresholds import Thresholds

if TYPE_CHECKING:
    from memsinks.certificate import SigningKey
    from memsinks.ledger import Ledger
    from memsinks.removal.plan import Planned
    from memsinks.removal.steps import Outcome


@dataclass(frozen=True, kw_only=True)
class Forget:
    """Remove text from a checkpoint: everything, sources, groups, documents or what a query finds.

    Without --yes nothing is changed: the plan is printed, with what it touches, the decisions that it needs, and what
    could be done instead.
    """

    run_folder: tyro.conf.Positional[Path]
    """A folder that `memsinks train` wrote."""
    corpus: Place | None = None
    """The corpus that the text is in, a folder or a URL; default the one of the run."""
    everything: bool = False
    """Remove all sinks."""
    sources: tuple[str, ...] = ()
    """Sources, for example publishers."""
    groups: tuple[str, ...] = ()
    """Documents whose groups of near-copies to remove."""
    documents: tuple[str, ...] = ()
    """Names of documents."""
    ids: tuple[str, ...] = ()
    """Sequence IDs, 16 hexadecimal digits each."""
    where: tuple[str, ...] = ()
    """Conditions on columns, all of which have to hold: 'contract=C-7' 'date<2025-01-01'."""
    policy: tyro.conf.OmitArgPrefixes[Policy] = field(default_factory=Policy)
    """What to do about what the request touches beyond what it names."""
    thresholds: tyro.conf.OmitArgPrefixes[Thresholds] = field(default_factory=Thresholds)
    """What the result has to show; fixed in the plan."""
    plan: Path | None = None
    """Carry out this plan, which --save-plan wrote, instead of making one."""
    save_plan: Path | None = None
    """Write the plan, to be approved and carried out later with --plan."""
    yes: bool = False
    """Carry it out. What is removed cannot be brought back."""
    accept_inconclusive: bool = False
    """Let the result take the checkpoint's place even if the verification is not sure; the certificate says so."""
    resume: bool = False
    """Finish a removal that was stopped."""
    abandon: bool = False
    """Drop a removal that was stopped before the checkpoint was replaced."""
    ledger: str | None = None
    """An SQLite file or an SQLAlchemy URL; default the environment variable MEMSINKS_LEDGER, else ledger.sqlite."""
    reason: str = ""
    """Why, for the ledger; without names of people."""
    legal_basis: str = ""
    """For example a contract, or an article of a law."""
    requester: str | None = None
    """Who asked; kept beside the ledger's entries, and can be erased."""
    approver: str | None = None
    """Who approved."""
    operator: str | None = None
    """Who carries it out."""
    keep_names_days: int | None = None
    """Days for which these names are kept; default until they are erased."""
    sign: tuple[Path, ...] = ()
    """Private keys, each of which signs a certificate; several while an old key makes way for a new one."""
    sign_variable: str | None = None
    """Environment variable with a private key that signs."""
    passphrase_variable: str | None = None
    """Environment variable with the passphrase of the keys."""

    def run(self) -> int:
        """Run the command."""
        from memsinks.removal import carry_out

        console = Console(highlight=False, soft_wrap=True)
        if self.abandon:
            removal = carry_out.abandon(self.run_folder, self._ledger())
            console.print(
                f"{self.run_folder}: removal {removal} was dropped; the checkpoint is as it was", markup=False
            )
            return 0
        keys = self._keys()

        def say(message: str) -> None:
            Console(stderr=True, highlight=False).print(f"{message} ...", markup=False)

        if self.resume:
            ledger = self._ledger()
            outcome = carry_out.go_on(self.run_folder, ledger, say, corpus=self.corpus, progress=True)
            return self._report(console, outcome, ledger, keys)
        planned = self._planned()
        self._show_plan(console, planned)
        if not self.yes:
            return 0
        ledger = self._ledger()
        people: dict[Any, str] = {
            role: name
            for role, name in (("requester", self.requester), ("approver", self.approver), ("operator", self.operator))
            if name
        }
        request = carry_out.Request(
            reason=self.reason,
            legal_basis=self.legal_basis,
            people=people,
            keep_days=self.keep_names_days,
            accept_inconclusive=self.accept_inconclusive,
        )
        outcome = carry_out.begin(planned, ledger, request, say, progress=True)
        return self._report(console, outcome, ledger, keys)

    def _planned(self) -> "Planned":
        from memsinks.removal.plan import RemovalPlan, make_plan, remake
        from memsinks.removal.subject import Subject
        from memsinks.removal.target import Target

        named = self.everything or any((self.sources, self.groups, self.documents, self.ids, self.where))
        if self.plan is not None:
            chosen = self.policy != Policy() or self.thresholds != Thresholds()
            if named or chosen or self.save_plan is not None:
                raise ConfigError("--plan says what is removed and how; leave the other options of the plan out")
            return remake(RemovalPlan.read(self.plan), Subject.open(self.run_folder, self.corpus))
        target = Target(
            everything=self.everything,
            sources=self.sources,
            groups=self.groups,
            documents=self.documents,
            ids=self.ids,
            where=self.where,
        )
        return make_plan(Subject.open(self.run_folder, self.corpus), target, self.policy, self.thresholds)

    def _show_plan(self, console: Console, planned: "Planned") -> None:
        from memsinks.removal.text import plan_text

        plan = planned.plan
        Console().print(Markdown(plan_text(plan)))
        if self.save_plan is not None:
            if self.save_plan.exists():
                raise InputError(f"{self.save_plan}: exists; choose another name for the plan")
            plan.write(self.save_plan)
            console.print(f"{self.save_plan}: the plan; carry it out with --plan {self.save_plan} --yes", markup=False)
        if self.yes:
            return
        missing = " ".join(f"--{decision.name}" for decision in plan.undecided)
        console.print("Nothing was changed.", f"Decide {missing}, and give" if missing else "Give", end=" ")
        console.print("--yes to carry this out. What is removed cannot be brought back.", markup=False)

    def _report(self, console: Console, outcome: "Outcome", ledger: "Ledger", keys: "list[SigningKey]") -> int:
        from memsinks.removal.certifying import write_certificate
        from memsinks.removal.text import verification_text

        Console().print(Markdown(verification_text(outcome.verification)))
        if keys:
            console.print(f"{write_certificate(outcome, ledger, keys)}: the certificate", markup=False)
        console.print(f"{outcome.record}: plan and verification; {ledger.place}: the ledger", markup=False)
        if outcome.accepted:
            console.print(f"{outcome.folder}: the checkpoint, without what was removed", markup=False)
            return 0
        console.print(
            f"{outcome.folder}: the result, marked as not verified; {self.run_folder} is as it was. Memory that is "
            "left needs other decisions, or retraining; survivors that lose too much need rows of their own "
            "(sinks.allocation), or a larger --survivors that somebody approves.",
            markup=False,
        )
        return 1

    def _ledger(self) -> "Ledger":
        from memsinks.ledger import Ledger

        return Ledger.open(self.ledger or os.environ.get(VARIABLE) or DEFAULT)

    def _keys(self) -> "list[SigningKey]":
        if not self.sign and self.sign_variable is None:
            return []
        from memsinks.certificate import read_signing_key, signing_key_from_environment

        keys = [read_signing_key(file, passphrase_variable=self.passphrase_variable) for file in self.sign]
        if self.sign_variable is not None:
            keys.append(signing_key_from_environment(self.sign_variable, passphrase_variable=self.passphrase_variable))
        return keys
