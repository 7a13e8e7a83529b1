"""``memsinks diff``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from memsinks.inspection.difference import Difference

_SHOWN = 20


@dataclass(frozen=True)
class Diff:
    """Say how two checkpoints differ: plain tensors, sinks, table and lineage. It exits with 1 if they do."""

    a: tyro.conf.Positional[Path]
    """A checkpoint, for example before a removal."""
    b: tyro.conf.Positional[Path]
    """Another, for example after it."""
    json: bool = False
    """Print JSON in place of tables, with every ID."""

    def run(self) -> int:
        """Run the command."""
        from memsinks.inspection.difference import compare

        found = compare(self.a, self.b)
        console = Console(highlight=False, soft_wrap=True)
        if self.json:
            console.print_json(json.dumps(found.as_dict()))
        else:
            _show(console, found)
        return 0 if found.equal else 1


def _show(console: Console, found: "Difference") -> None:
    console.print("equal" if found.equal else "different")
    for key, (one, other) in found.settings.items():
        console.print(Text(f"setting {key}: {one!r} in a, {other!r} in b"))
    console.print(f"plain tensors: {found.equal_tensors:,} equal, {len(found.tensors):,} different")
    if found.tensors:
        tensors = Table("tensor", "difference", "norm of it", "relative")
        for tensor in found.tensors[:_SHOWN]:
            tensors.add_row(Text(tensor.name), Text(tensor.what), _number(tensor.norm), _number(tensor.relative))
        console.print(tensors)
        _more(console, len(found.tensors))
    if found.layers:
        layers = Table("layer", "same rows", "changed", "removed", "added", "by growth", title="sinks")
        for layer in found.layers:
            numbers = (layer.layer, layer.same, layer.changed, layer.removed, layer.added, layer.grown)
            layers.add_row(*(f"{number:,}" for number in numbers))
        console.print(layers)
    if found.moved:
        console.print(f"IDs with changed rows: {len(found.moved):,}")
        moved = sorted(found.moved.items(), key=lambda item: (-item[1], item[0]))
        for name, share in moved[:_SHOWN]:
            console.print(f"  {name}: {share:.1%} of its rows")
        _more(console, len(moved))
    for key, (ours, theirs) in found.table.items():
        console.print(Text(f"{key}: {len(ours):,} only in a, {len(theirs):,} only in b"))
        for where, items in (("a", ours), ("b", theirs)):
            for item in items[:_SHOWN]:
                console.print(Text(f"  {where}: {item}"))
            _more(console, len(items))


def _more(console: Console, number: int) -> None:
    if number > _SHOWN:
        console.print(f"  … and {number - _SHOWN:,} more; --json has all")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
