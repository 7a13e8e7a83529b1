"""All commands, and with them all that they import."""

import functools
import operator
from collections.abc import Sequence
from typing import Annotated, Any

import tyro

from memsinks.cli.audit import AuditCommand
from memsinks.cli.compare import Compare
from memsinks.cli.diff import Diff
from memsinks.cli.doctor import Doctor
from memsinks.cli.evaluate import Evaluate
from memsinks.cli.export import Export
from memsinks.cli.forget import Forget
from memsinks.cli.inspect import Inspect
from memsinks.cli.keys import Keys
from memsinks.cli.ledger import LedgerCommand
from memsinks.cli.plan import Plan
from memsinks.cli.plot import Plot
from memsinks.cli.prepare import Prepare
from memsinks.cli.push import Push
from memsinks.cli.question import defaults
from memsinks.cli.quickstart import Quickstart
from memsinks.cli.readiness import Readiness
from memsinks.cli.report import Report
from memsinks.cli.reproduce import Reproduce
from memsinks.cli.serve import Serve
from memsinks.cli.train import Train, train_defaults
from memsinks.cli.verify import Verify
from memsinks.cli.why import Explain


def commands(arguments: Sequence[str]) -> Any:
    """The type of which tyro parses one."""
    # A run file gives the options of these commands their defaults, so it is read before they are parsed.
    train = Annotated[Train, tyro.conf.subcommand("train", default=train_defaults(arguments))]
    plan = Annotated[Plan, tyro.conf.subcommand("plan", default=defaults(Plan, "plan", arguments))]
    readiness = Annotated[
        Readiness, tyro.conf.subcommand("readiness", default=defaults(Readiness, "readiness", arguments))
    ]
    audit = Annotated[AuditCommand, tyro.conf.subcommand("audit")]
    # Their options are named as the keys of the file, section first; those of the others have no sections.
    others = {
        "prepare": Prepare,
        "report": Report,
        "compare": Compare,
        "why": Explain,
        "evaluate": Evaluate,
        "export": Export,
        "push": Push,
        "inspect": Inspect,
        "diff": Diff,
        "doctor": Doctor,
        "forget": Forget,
        "serve": Serve,
        "verify": Verify,
        "keys": Keys,
        "ledger": LedgerCommand,
        "plot": Plot,
        "quickstart": Quickstart,
        "reproduce": Reproduce,
    }
    flat = [
        Annotated[command, tyro.conf.OmitArgPrefixes, tyro.conf.subcommand(name)] for name, command in others.items()
    ]
    return functools.reduce(operator.or_, [train, plan, readiness, audit, *flat])
