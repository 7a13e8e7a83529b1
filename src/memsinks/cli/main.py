"""The entry point, and one place where errors become exit codes."""

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from rich.console import Console
from transformers.utils import logging as transformers_logging

from memsinks.cli.evaluate import Evaluate
from memsinks.cli.export import Export
from memsinks.cli.prepare import Prepare
from memsinks.cli.quickstart import Quickstart
from memsinks.cli.train import Train
from memsinks.errors import MemsinksError

Command = (
    Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Quickstart, tyro.conf.subcommand("quickstart")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; ``arguments`` default to those of the process."""
    command = tyro.cli(
        Command,
        prog="memsinks",
        description="Train language models whose memories can be removed.",
        args=arguments,
        config=(tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes),
    )
    transformers_logging.disable_progress_bar()
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        command.run()
    except MemsinksError as error:
        console.print(f"memsinks: error: {error}", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("memsinks: interrupted", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
