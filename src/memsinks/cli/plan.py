"""``memsinks plan``."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from memsinks.cli.question import RunQuestion
from memsinks.corpus.files import check_output
from memsinks.planning.files import write_plan
from memsinks.planning.tables import render


@dataclass(frozen=True, kw_only=True)
class Plan(RunQuestion):
    """Say before training what can be removed, what that takes from others, and what it costs.

    Takes the run file of `memsinks train`, and options that override those of its keys that matter here.
    """

    output: Path | None = None
    """Also write plan.json, plan.md and plan.png into this new folder."""

    def run(self) -> None:
        """Run the command."""
        if self.output is not None:
            check_output(self.output)
        plan, _ = self.planned(self.config())
        Console(highlight=False).print(render(plan))
        if self.output is not None:
            write_plan(plan, self.output)
            Console(highlight=False, soft_wrap=True).print(f"{self.output}: plan.json, plan.md, plan.png", markup=False)
