"""The command line: parse, call, print.

Exit codes: 0 done, 1 failure, 2 wrong usage or bad input.
"""

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; ``arguments`` default to those of the process."""
    # Not before it is called: processes that `memsinks prepare` starts import the script that calls this.
    from memsinks.cli.entry import main as run

    return run(arguments)
