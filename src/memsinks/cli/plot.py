"""``memsinks plot``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from memsinks.errors import InputError
from memsinks.report.figures import write_figures
from memsinks.runs.metrics import METRICS, read_metrics


@dataclass(frozen=True)
class Plot:
    """Draw what runs logged: losses, speed, learning rate, exposures."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or their metrics.jsonl; several are compared."""
    output: Path | None = None
    """Folder for the figures; default figures beside the metrics.jsonl of a single run."""
    file_format: Annotated[Literal["png", "svg"], tyro.conf.arg(name="format")] = "png"
    """Of the figures."""

    def run(self) -> None:
        """Run the command."""
        if not self.runs:
            raise InputError("no run to plot; give the folder of a run, or its metrics.jsonl")
        files = [metrics_file(path) for path in self.runs]
        if self.output is None and len(files) > 1:
            raise InputError("several runs are compared in figures of their own; say where they go with --output")
        output = files[0].parent / "figures" if self.output is None else self.output
        runs = {name: read_metrics(file) for name, file in zip(run_names(files), files, strict=True)}
        written = write_figures(runs, output, self.file_format)
        Console(soft_wrap=True, highlight=False).print(f"{output}: {', '.join(file.name for file in written)}")


def metrics_file(path: Path) -> Path:
    """The metrics.jsonl that ``path`` is, has in the folder ``<path>-run`` beside it, or holds.

    Raises:
        InputError: there is none.
    """
    whole = path.absolute()
    # A model's folder holds a copy, and is for delivery: figures go to the folder beside it while there is one.
    tried = [whole, whole.with_name(f"{whole.name}-run") / METRICS, whole / METRICS]
    found = next((file for file in tried if file.is_file()), None)
    if found is None:
        raise InputError(f"{path} is no run: neither it nor {path}-run has a {METRICS}; give the folder of a run")
    return found


def run_names(files: list[Path]) -> list[str]:
    """What to call the runs: the names of their folders, with as many of the folders above as tell them apart."""
    if len(set(files)) < len(files):
        raise InputError("the same run is given twice; give each once")
    whole = [file.parent if file.name == METRICS else file.with_suffix("") for file in files]
    for depth in range(1, 1 + max(len(path.parts) for path in whole)):
        names = ["/".join(path.parts[-depth:]).removesuffix("-run") for path in whole]
        if len(set(names)) == len(names):
            return names
    return [str(file) for file in files]
