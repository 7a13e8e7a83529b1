"""The entry point, and one place where errors become exit codes."""

import sys
from collections.abc import Sequence
from typing import Any

import tyro
from rich.console import Console

from memsinks.errors import MemsinksError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; ``arguments`` default to those of the process."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        return _parsed(arguments).run() or 0
    except MemsinksError as error:
        console.print(f"memsinks: error: {error}", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("memsinks: interrupted", markup=False)
        return 1


def _parsed(arguments: Sequence[str]) -> Any:
    if arguments[:1] == ["ledger"]:
        # By itself: it has no use for torch and transformers, which the others import.
        from memsinks.cli.ledger import LedgerCommand

        return tyro.cli(
            LedgerCommand,
            prog="memsinks ledger",
            args=arguments[1:],
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        )
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
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
