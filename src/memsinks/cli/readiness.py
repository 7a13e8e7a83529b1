"""``memsinks readiness``."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from memsinks.cli.question import RunQuestion
from memsinks.corpus.files import check_output
from memsinks.errors import ConfigError
from memsinks.readiness.deployment import Serving
from memsinks.readiness.readiness import readiness
from memsinks.readiness.report import JSON, MARKDOWN, render, write_report
from memsinks.readiness.threats import Attacker
from memsinks.readiness.trial import TOKENS, TrialConfig, run_trial


@dataclass(frozen=True, kw_only=True)
class Readiness(RunQuestion):
    """Answer, from facts of a corpus and a run file, whether they are ready to train a model that can forget.

    Takes the run file of `memsinks train`, and options that override those of its keys that matter here.
    """

    attacker: Attacker = "weights"
    """What somebody who wants removed text holds: outputs (of a served model), weights (of the plain checkpoint) or
    sinks (from before a removal)."""
    serving: Serving = "off"
    """How the model is to be served: sinks off, route (those of a request's source on) or fold (those of chosen sources
    on for all)."""
    trial: bool = False
    """Also train four small models on a sample of the text, paired, which takes minutes; they stay in OUTPUT-trial, and
    a stopped trial goes on from there."""
    trial_tokens: int = TOKENS
    """Tokens of each of them, about."""
    trial_exposures: int | None = None
    """How often they repeat governed text; default as planned, up to 64 times, or 16 if the plan repeats none."""
    output: Path | None = None
    """Also write readiness.md, a page, and readiness.json into this new folder."""

    def run(self) -> None:
        """Run the command."""
        if self.trial and self.output is None:
            raise ConfigError("--trial trains models, which need a place; give --output too")
        if self.output is not None:
            check_output(self.output)
        size = TrialConfig(tokens=self.trial_tokens, exposures=self.trial_exposures)
        plan, blueprint = self.planned(self.config())
        found = None
        if self.trial:
            assert self.output is not None
            found = run_trial(plan, blueprint, size, self.output.with_name(f"{self.output.name}-trial"))
        report = readiness(plan, blueprint.text, attacker=self.attacker, serving=self.serving, trial=found)
        console = Console(highlight=False)
        console.print(render(report))
        if self.output is not None:
            write_report(report, self.output)
            console.print(f"{self.output}: {MARKDOWN}, {JSON}", markup=False, soft_wrap=True)
