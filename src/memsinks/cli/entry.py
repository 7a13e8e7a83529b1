"""The entry point, and one place where errors become exit codes."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import tyro
from rich.console import Console

from memsinks.errors import MemsinksError

_LIGHT = {
    "keys": "Keys",
    "verify": "Verify",
    "ledger": "LedgerCommand",
    "inspect": "Inspect",
    "diff": "Diff",
    "report": "Report",
    "compare": "Compare",
    "doctor": "Doctor",
    "push": "Push",
}
"""Commands that import a library of models only when they run, if at all, and their classes; their modules are named as
they are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; ``arguments`` default to those of the process."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        return _parsed(arguments).run() or 0
    except MemsinksError as error:
        console.print(f"memsinks: error: {error}", markup=False)
        return 2
    except KeyboardInterrupt as stop:
        console.print(f"memsinks: {str(stop) or 'interrupted'}", markup=False)
        return 1


def _parsed(arguments: Sequence[str]) -> Any:
    if arguments and arguments[0] in _LIGHT:
        name = arguments[0]
        command = getattr(importlib.import_module(f"memsinks.cli.{name}"), _LIGHT[name])
        flat = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
        return tyro.cli(command, prog=f"memsinks {name}", args=arguments[1:], config=flat)
    from transformers.utils import logging

    logging.disable_progress_bar()
    if arguments[:1] == ["prepare"]:
        # By itself: the others import torch, seconds and half a gigabyte that it has no use for.
        from memsinks.cli.prepare import Prepare

        return tyro.cli(Prepare, prog="memsinks prepare", args=arguments[1:], config=(tyro.conf.OmitArgPrefixes,))
    from memsinks.cli.commands import commands

    return tyro.cli(
        commands(arguments),
        prog="memsinks",
        description="Train language models whose memories can be removed.",
        args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )


if __name__ == "__main__":
    sys.exit(main())
