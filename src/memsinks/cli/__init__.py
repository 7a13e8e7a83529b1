"""The command line: parse, call, print.

Exit codes: 0 done, 1 failure, 2 wrong usage or bad input.
"""

from memsinks.cli.main import main

__all__ = ["main"]
