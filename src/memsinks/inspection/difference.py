"""How two checkpoints differ; the files are mapped, and compared a few megabytes at a time."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memsinks.checkpoint.lineage import Lineage
from memsinks.ids import format_id, from_tensor, to_tensor
from memsinks.inspection.checkpoint import has_sinks, plain_parts, read_model_config
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.excision import Part, SinkFiles

_CHUNK = 8 << 20
"""Bytes that are compared at a time, and about as many rows of IDs that are looked up at a time."""
_TYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class TensorDifference:
    """A plain tensor that is not the same in both.

    Attributes:
        name: of the tensor.
        what: only in a, only in b, shape, or values.
        norm: of the difference, where the values differ and are floats.
        relative: to the norm in a.
    """

    name: str
    what: str
    norm: float | None = None
    relative: float | None = None


@dataclass(frozen=True, kw_only=True)
class LayerDifference:
    """Rows of a layer of sinks, by their numbers in the pool.

    Attributes:
        layer: number of the decoder layer.
        same, changed: rows in both, with the same bits and with others.
        removed: rows of a that b does not have.
        added: rows of b that a does not have.
        grown: of these, rows that are beyond a's pool.
    """

    layer: int
    same: int
    changed: int
    removed: int
    added: int
    grown: int

    @property
    def equal(self) -> bool:
        """Whether the layer is the same in both."""
        return not (self.changed or self.removed or self.added)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What differs between two checkpoints, a and b.

    Attributes:
        settings: of the model's and the sinks' configuration that differ: values in a and b.
        tensors: of the plain model that differ.
        equal_tensors: how many do not.
        layers: with sinks.
        moved: sequence IDs of which rows changed, and the share of their rows in both that did.
        table: what the allocation tables and the lineages hold that only a, and only b, has.
    """

    settings: dict[str, tuple[Any, Any]]
    tensors: tuple[TensorDifference, ...]
    equal_tensors: int
    layers: tuple[LayerDifference, ...]
    moved: dict[str, float]
    table: dict[str, tuple[list[str], list[str]]]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.settings or self.tensors or self.table) and all(layer.equal for layer in self.layers)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"format": "memsinks-diff", "format_version": 1, "equal": self.equal, **asdict(self)}


def compare(a: Path, b: Path) -> Difference:
    """Compare two checkpoints, with sinks or without.

    Raises:
        InputError: a folder holds no checkpoint.
        CheckpointError: a file cannot be read.
    """
    configs = read_model_config(a), read_model_config(b)
    sinks = tuple(SinkFiles.open(folder, verify=False) if has_sinks(folder) else None for folder in (a, b))
    lineages = tuple(Lineage.read(folder) or Lineage() for folder in (a, b))
    first, second = sinks
    settings = _unequal(*(config.to_dict() for config in configs))
    settings |= {f"sinks.{k}": v for k, v in _unequal(*({} if s is None else s.config.facts() for s in sinks)).items()}
    # Where it was loaded from is not a setting.
    settings.pop("_name_or_path", None)
    tensors, equal = _plain(a, b)
    layers, moved = [], {}
    if first is not None and second is not None:
        count = configs[1].num_hidden_layers
        changed = {}
        for number in sorted({*first.layers(), *second.layers()}):
            found, marks = _layer(first, second, number)
            layers.append(found)
            changed[number] = marks
        if any(layer.changed for layer in layers):
            moved = _moved(first, second, changed, lineages, count)
    else:
        for files in sinks:
            layers += [] if files is None else _whole(files, added=files is second)
    table = _apart(*({} if s is None else _table_facts(s.table) for s in sinks))
    table |= _apart(*(_lineage_facts(lineage) for lineage in lineages))
    return Difference(
        settings=settings,
        tensors=tuple(tensors),
        equal_tensors=equal,
        layers=tuple(layers),
        moved=moved,
        table=table,
    )


def _unequal(a: dict[str, Any], b: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {k: (a.get(k), b.get(k)) for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)}


def _apart(a: dict[str, list[str]], b: dict[str, list[str]]) -> dict[str, tuple[list[str], list[str]]]:
    """Of each list, what is only in a's and only in b's."""
    found = {}
    for key in {**a, **b}:
        ours, theirs = set(a.get(key, ())), set(b.get(key, ()))
        if ours != theirs:
            found[key] = sorted(ours - theirs), sorted(theirs - ours)
    return found


def _plain(a: Path, b: Path) -> tuple[list[TensorDifference], int]:
    ours, theirs = plain_parts(a), plain_parts(b)
    found = []
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs or name not in ours:
            found.append(TensorDifference(name=name, what=f"only in {'a' if name in ours else 'b'}"))
            continue
        one, other = ours[name][1], theirs[name][1]
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            says = f"{one.dtype} {list(one.shape)} in a, {other.dtype} {list(other.shape)} in b"
            found.append(TensorDifference(name=name, what=says))
        elif (norms := _norms(_bytes(*ours[name]), _bytes(*theirs[name]), one.dtype)) is not None:
            norm, whole = norms
            relative = None if norm is None or not whole else norm / whole
            found.append(TensorDifference(name=name, what="values", norm=norm, relative=relative))
    return found, len(ours.keys() & theirs.keys()) - sum(not d.what.startswith("only") for d in found)


def _norms(a: np.ndarray, b: np.ndarray, dtype: str) -> tuple[float | None, float | None] | None:
    """None if the bytes are equal; else the norms of the difference and of ``a``, if they are floats."""
    equal, difference, whole = True, 0.0, 0.0
    for start in range(0, len(a), _CHUNK):
        one, other = (np.array(data[start : start + _CHUNK]) for data in (a, b))
        equal = equal and np.array_equal(one, other)
        if dtype in _TYPES:
            x, y = (torch.from_numpy(part).view(_TYPES[dtype]).double() for part in (one, other))
            difference += float((x - y).square().sum())
            whole += float(x.square().sum())
    if equal:
        return None
    return (math.sqrt(difference), math.sqrt(whole)) if dtype in _TYPES else (None, None)


def _bytes(file: Path, part: Part) -> np.ndarray:
    """A tensor's bytes, mapped."""
    if not part.bytes:
        return np.empty(0, dtype=np.uint8)
    return np.memmap(file, dtype=np.uint8, mode="r", offset=part.start, shape=(part.bytes,))


def _present(files: SinkFiles, number: int) -> Tensor:
    """The virtual rows that a layer's tensors hold, in order."""
    table = files.table
    if number not in files.layers():
        return torch.empty(0, dtype=torch.int64)
    place = files.layers().index(number)
    return torch.arange(table.pool) if table.removed is None else table.removed.present(place, table.pool)


def _layer(a: SinkFiles, b: SinkFiles, number: int) -> tuple[LayerDifference, Tensor]:
    """A layer's difference, and ``int8 [pool]``: 1 for changed rows, 0 for the same, -1 for those not in both."""
    ours, theirs = _present(a, number), _present(b, number)
    pool = max(a.table.pool, b.table.pool)
    marks = torch.full((pool,), -1, dtype=torch.int8)
    in_a, in_b = torch.isin(ours, theirs), torch.isin(theirs, ours)
    shared, at_a, at_b = ours[in_a], in_a.nonzero().squeeze(1), in_b.nonzero().squeeze(1)
    changed = torch.zeros(len(shared), dtype=torch.bool)
    prefix = f"layers.{number}."
    for name in sorted({n for n in (*a.parts, *b.parts) if n.startswith(prefix)}):
        one, other = a.parts.get(name), b.parts.get(name)
        if one is None or other is None or (one.dtype, one.shape[1:]) != (other.dtype, other.shape[1:]):
            changed[:] = True
        elif len(shared):
            changed |= _rows_differ(_bytes(a.path, one), _bytes(b.path, other), one.row_bytes, at_a, at_b)
    marks[shared] = changed.to(torch.int8)
    new = theirs[~in_b]
    return LayerDifference(
        layer=number,
        same=int((~changed).sum()),
        changed=int(changed.sum()),
        removed=int((~in_a).sum()),
        added=len(new),
        grown=int((new >= a.table.pool).sum()),
    ), marks


def _rows_differ(a: np.ndarray, b: np.ndarray, size: int, at_a: Tensor, at_b: Tensor) -> Tensor:
    one, other = a.reshape(-1, size), b.reshape(-1, size)
    step = max(1, _CHUNK // size)
    parts = [
        (one[at_a[i : i + step].numpy()] != other[at_b[i : i + step].numpy()]).any(1) for i in range(0, len(at_a), step)
    ]
    return torch.from_numpy(np.concatenate(parts))


def _whole(files: SinkFiles, *, added: bool) -> Iterator[LayerDifference]:
    """All rows, where only one of the two has sinks."""
    for number in files.layers():
        rows = len(_present(files, number))
        yield LayerDifference(
            layer=number,
            same=0,
            changed=0,
            removed=0 if added else rows,
            added=rows if added else 0,
            grown=rows if added else 0,
        )


def _moved(
    a: SinkFiles, b: SinkFiles, changed: dict[int, Tensor], lineages: tuple[Lineage, ...], layers: int
) -> dict[str, float]:
    """IDs that a lineage knows or that own rows, of which rows changed, by where b has them."""
    places = {number: place for place, number in enumerate(b.config.layer_numbers(layers)) if number in changed}
    known = [lineage.trained["sequence_id"].to_numpy() for lineage in lineages]
    ids = torch.unique(torch.cat([*(to_tensor(np.unique(own)) for own in known), b.table.owner_ids]))
    found = {}
    step = max(1, (_CHUNK >> 3) // (len(places) * int(b.config.active)))
    for start in range(0, len(ids), step):
        part = ids[start : start + step]
        part = part[b.table.locate(part, b.config, layers).held]
        rows = b.table.rows(part, b.config, layers)
        marks = torch.stack([changed[number][rows[place]] for number, place in places.items()])
        both, moved = (marks >= 0).sum((0, 2)), (marks > 0).sum((0, 2))
        for number, of, all_rows in zip(from_tensor(part).tolist(), moved.tolist(), both.tolist(), strict=True):
            if of:
                found[format_id(number)] = of / all_rows
    return found


def _table_facts(table: AllocationTable) -> dict[str, list[str]]:
    gone = table.removed
    slots = zip(_named(table.owner_ids), table.owner_rows.tolist(), strict=True)
    return {
        "regions to choose from": [f"{region.rows} rows from {region.first}" for region in table.segments],
        "regions to own": [f"{region.rows} rows from {region.first}" for region in table.owned],
        "owners": [f"{name} from row {row}" for name, row in slots],
        "choose from an older region": [f"{i} {n}" for n, ids in enumerate(table.registered) for i in _named(ids)],
        "removed IDs": [] if gone is None else _named(gone.ids),
        "removed IDs whose shared rows stay": [] if gone is None else _named(gone.ids[gone.kept]),
    }


def _lineage_facts(lineage: Lineage) -> dict[str, list[str]]:
    removed = (lineage.removed[name].to_pylist() for name in ("sequence_id", "content_id"))
    return {
        "trainings": [
            f"{number}: {', '.join(f'{key} {value}' for key, value in asdict(stage).items())}"
            for number, stage in enumerate(lineage.stages)
        ],
        "removals": [f"{removal.id} at {removal.time}" for removal in lineage.removals],
        "trained IDs": [format_id(i) for i in lineage.trained_ids().tolist()],
        "removed documents": [f"ID {format_id(i)}, content {format_id(c)}" for i, c in zip(*removed, strict=True)],
    }


def _named(ids: Tensor) -> list[str]:
    return [format_id(i) for i in from_tensor(ids).tolist()]
