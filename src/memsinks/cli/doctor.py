"""``memsinks doctor``."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.text import Text

_STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


@dataclass(frozen=True)
class Doctor:
    """Look for trouble in the environment and in a checkpoint, and say what to do. It exits with 1 if it finds any."""

    folder: tyro.conf.Positional[Path | None] = None
    """A checkpoint; without it, only the environment is looked at."""
    json: bool = False
    """Print JSON in place of lines."""

    def run(self) -> int:
        """Run the command."""
        from memsinks.inspection.environment import check_environment

        found = list(check_environment())
        if self.folder is not None:
            from memsinks.inspection.doctor import check_folder

            found += check_folder(self.folder)
        console = Console(highlight=False, soft_wrap=True)
        problems = sum(finding.kind == "problem" for finding in found)
        if self.json:
            content = [asdict(finding) for finding in found]
            console.print_json(
                json.dumps(
                    {"format": "memsinks-doctor", "format_version": 1, "problems": problems, "findings": content}
                )
            )
            return 1 if problems else 0
        for finding in found:
            line = Text.assemble((f"{finding.kind:8}", _STYLES[finding.kind]), f"{finding.name}: {finding.says}")
            console.print(line)
            if finding.remedy:
                console.print(Text(f"{'':8}→ {finding.remedy}"))
        console.print("nothing is wrong" if not problems else f"{problems} to be dealt with")
        return 1 if problems else 0
