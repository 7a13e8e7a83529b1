"""``memsinks quickstart``."""

from dataclasses import dataclass, field
from pathlib import Path

from memsinks.experiments.quickstart import QuickstartConfig, quickstart


@dataclass(frozen=True)
class Quickstart:
    """Train four small models on shipped stories, and see what the sinks take with them."""

    output: Path = Path("runs/quickstart")
    """Where everything goes."""
    fast: bool = False
    """A run of about a minute that only shows that everything works; its numbers mean nothing."""
    config: QuickstartConfig = field(default_factory=QuickstartConfig)

    def run(self) -> None:
        """Run the command."""
        quickstart(self.config.fast() if self.fast else self.config, self.output)
