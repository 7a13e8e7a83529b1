"""The entry point, and one place where errors become exit codes."""

import functools
import operator
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import tyro
from rich.console import Console
from transformers.utils import logging as transformers_logging

from memsinks.cli.evaluate import Evaluate
from memsinks.cli.export import Export
from memsinks.cli.plan import Plan, plan_defaults
from memsinks.cli.plot import Plot
from memsinks.cli.prepare import Prepare
from memsinks.cli.quickstart import Quickstart
from memsinks.cli.reproduce import Reproduce
from memsinks.cli.train import Train, train_defaults
from memsinks.cli.why import Explain
from memsinks.errors import MemsinksError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; ``arguments`` default to those of the process."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    transformers_logging.disable_progress_bar()
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        command: Any = tyro.cli(
            _commands(arguments),
            prog="memsinks",
            description="Train language models whose memories can be removed.",
            args=arguments,
            config=(tyro.conf.OmitSubcommandPrefixes,),
        )
        return command.run() or 0
    except MemsinksError as error:
        console.print(f"memsinks: error: {error}", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print("memsinks: interrupted", markup=False)
        return 1


def _commands(arguments: Sequence[str]) -> Any:
    # A run file gives the options of `train` and `plan` their defaults, so it is read before they are parsed.
    train = Annotated[Train, tyro.conf.subcommand("train", default=train_defaults(arguments))]
    plan = Annotated[Plan, tyro.conf.subcommand("plan", default=plan_defaults(arguments))]
    # Their options are named as the keys of the file, section first; those of the others have no sections.
    others = {
        "prepare": Prepare,
        "why": Explain,
        "evaluate": Evaluate,
        "export": Export,
        "plot": Plot,
        "quickstart": Quickstart,
        "reproduce": Reproduce,
    }
    flat = [
        Annotated[command, tyro.conf.OmitArgPrefixes, tyro.conf.subcommand(name)] for name, command in others.items()
    ]
    return functools.reduce(operator.or_, [train, plan, *flat])


if __name__ == "__main__":
    sys.exit(main())
