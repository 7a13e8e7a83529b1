"""``memsinks inspect``."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from memsinks.inspection.checkpoint import Description


@dataclass(frozen=True)
class Inspect:
    """Say what a checkpoint is: model, sinks, trainings and removals. It reads no weights."""

    folder: tyro.conf.Positional[Path]
    """A run, a checkpoint with sinks, a plain checkpoint or an export."""
    json: bool = False
    """Print JSON in place of tables."""
    verify: bool = False
    """Compare the sinks with their hash, which reads all of them."""

    def run(self) -> None:
        """Run the command."""
        from memsinks.inspection.checkpoint import describe

        found = describe(self.folder, verify=self.verify)
        console = Console(highlight=False, soft_wrap=True)
        if self.json:
            console.print_json(json.dumps(found.as_dict()))
            return
        for line in _lines(found):
            console.print(Text(line))
        if found.pool is not None:
            rows = Table("layer", "rows", "removed", title="sinks")
            for layer, there in found.pool.rows.items():
                rows.add_row(str(layer), f"{there:,}", f"{found.pool.removed_rows[layer]:,}")
            console.print(rows)
        if found.trainings:
            trainings = Table("training", "corpus", "IDs by", "steps", "tokens")
            for number, stage in enumerate(found.trainings, 1):
                trainings.add_row(
                    str(number), stage.corpus[:12], stage.ids or "the corpus", f"{stage.steps:,}", f"{stage.tokens:,}"
                )
            console.print(trainings)
        if found.removals:
            removals = Table("removal", "time", "what", "documents")
            for removal in found.removals:
                what = "all sinks" if removal.everything else f"{removal.ids:,} IDs"
                removals.add_row(Text(removal.id), Text(removal.time), what, f"{removal.documents:,}")
            console.print(removals)
        files = Table("file", "bytes")
        for name, size in found.files.items():
            files.add_row(Text(name), f"{size:,}")
        console.print(files)


def _lines(found: "Description") -> Iterator[str]:
    model, pool = found.model, found.pool
    yield f"{found.folder}: {found.kind}"
    if found.not_verified:
        yield "NOT VERIFIED: a removal made it, and did not show what it had to; do not use it"
    width = "unknown" if model.shared is None else f"{model.shared:,}"
    yield (
        f"model: {model.architecture} ({model.family}), {model.parameters:,} parameters, {model.layers} layers, hidden "
        f"{model.hidden:,}, {'MLP' if pool is None else 'shared'} width {width}, {model.vocabulary:,} tokens"
    )
    if found.exported is not None:
        mode, ids = found.exported
        yield (
            f"export: sinks {mode}"
            + (f" of {ids:,} IDs" if mode == "chosen" else "")
            + (" (none are in it)" if mode == "off" else " folded in as ordinary weights, which no removal reaches")
        )
    if pool is None:
        yield "sinks: none; any loader reads all that is here"
    else:
        yield (
            f"sinks: pool {pool.pool:,}, {pool.active:,} active, {pool.allocation}, mask {pool.mask}, "
            f"{pool.parameters:,} parameters, {pool.owners:,} owners"
        )
        yield f"removed IDs: {pool.removed_ids:,}"
    if found.trained is not None:
        yield f"lineage: {found.trained:,} IDs trained with sinks and stay, {found.removed or 0:,} were removed"
    elif pool is not None:
        yield "lineage: none, so it is not known which IDs trained"
    if found.verified:
        yield "hashes: the sinks are as they were saved"
