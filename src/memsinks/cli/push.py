"""``memsinks push``."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console


@dataclass(frozen=True)
class Push:
    """Upload a checkpoint to the Hugging Face Hub: the plain model alone, unless told otherwise."""

    run_folder: tyro.conf.Positional[Path]
    """A run, a checkpoint or an export."""
    repo: tyro.conf.Positional[str]
    """The repository, as owner/name; it is made if it is not there."""
    include_sinks: bool = False
    """Upload the sinks and the lineage too. Whoever has them has what they remember."""
    private: bool = False
    """Make the repository private, if it has to be made."""

    def run(self) -> None:
        """Run the command."""
        from memsinks.checkpoint.push import push

        console = Console(highlight=False, soft_wrap=True)
        private = True if self.private else None
        for line in push(self.run_folder, self.repo, include_sinks=self.include_sinks, private=private):
            console.print(line, markup=False)
