"""Weights and optimiser state as whole tensors by name, whatever they are spread over; and back.

What is saved does not depend on the number of ranks or the strategy, so a run can be resumed at another world size.
Tensors go to safetensors, numbers to JSON: nothing here is pickled.

Shape legend: a "whole" tensor has the shape that it has in a run of one process.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from memsinks.errors import CheckpointError
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.sharding import RowShard, gather_rows
from memsinks.training.optimizer import SinkAdamW

TENSORS, NUMBERS = "optimizer.safetensors", "optimizer.json"


def whole_weights(model: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """``model.state_dict()`` with whole tensors on the CPU; all ranks take part, those with ``keep`` get them."""
    shards = _shards(model)
    named = {name: shards.get(p) for name, p in model.named_parameters()}
    weights = {}
    for name, value in model.state_dict().items():
        whole = _whole(value, named.get(name))
        if keep:
            weights[name] = whole.detach().cpu()
    return weights


def plain_weights(directory: Path) -> dict[str, Tensor]:
    """The tensors of ``model.safetensors``, or of the parts that its index names.

    Raises:
        CheckpointError: a file is missing or unreadable.
    """
    index = directory / "model.safetensors.index.json"
    try:
        names = {"model.safetensors"}
        if index.is_file():
            names = set(json.loads(index.read_text())["weight_map"].values())
        return {k: v for name in sorted(names) for k, v in safetensors.torch.load_file(directory / name).items()}
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"the plain checkpoint in {directory} cannot be loaded: {error}") from error


def save_optimizer(model: nn.Module, optimizer: SinkAdamW, scheduler: Any, folder: Path, *, write: bool) -> None:
    """Write optimiser and schedule; all ranks take part, those with ``write`` false write nothing."""
    shards = _shards(model)
    tensors = {}
    for name, parameter in _named(model, optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            # AdamW's step is one number for all rows, except of sinks.
            shard = shards.get(parameter) if value.ndim else None
            whole = _whole(value, shard)
            if write:
                tensors[f"{name}.{key}"] = whole.detach().cpu().contiguous()
    if not write:
        return
    safetensors.torch.save_file(tensors, folder / TENSORS)
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    numbers = {
        "format": "memsinks-optimizer",
        "format_version": 1,
        "groups": groups,
        "schedule": scheduler.state_dict(),
    }
    (folder / NUMBERS).write_text(json.dumps(numbers, indent=1))


def load_optimizer(model: nn.Module, optimizer: SinkAdamW, scheduler: Any, folder: Path) -> None:
    """Read what :func:`save_optimizer` wrote, at any world size; each rank keeps its part.

    Raises:
        CheckpointError: a file is missing or unreadable, or belongs to another model.
    """
    shards = _shards(model)
    sinks = {p for group in optimizer.param_groups if "rows" in group for p in group["params"]}
    try:
        numbers = json.loads((folder / NUMBERS).read_text())
        with safe_open(folder / TENSORS, "pt") as saved:
            left = set(saved.keys())
            for name, parameter in _named(model, optimizer):
                for key in ("step", "exp_avg", "exp_avg_sq"):
                    if f"{name}.{key}" in left:
                        left.remove(f"{name}.{key}")
                        value = saved.get_tensor(f"{name}.{key}")
                        part = _part(value, parameter, shards.get(parameter))
                        if not _fits(part, parameter, parameter in sinks):
                            raise CheckpointError(
                                f"{folder / TENSORS} belongs to another model: {name}.{key} is {list(value.shape)} "
                                "there"
                            )
                        optimizer.state[parameter][key] = part
        groups = numbers["groups"]
        if left or len(groups) != len(optimizer.param_groups):
            raise CheckpointError(f"{folder / TENSORS} belongs to another model: {sorted(left)[:1] or 'groups differ'}")
        for group, values in zip(optimizer.param_groups, groups, strict=True):
            group.update(values, betas=tuple(values["betas"]))
        scheduler.load_state_dict(numbers["schedule"])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: the optimiser cannot be restored ({error!r})") from error


def _fits(state: Tensor, parameter: Tensor, is_sinks: bool) -> bool:
    if state.ndim == 0 or not is_sinks:
        return state.ndim == 0 or state.shape == parameter.shape
    # Of a pool that grew after its last step, the new rows have no state yet.
    return len(state) <= len(parameter) and state.shape[1:] == parameter.shape[1 : state.ndim]


def load_weights(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Fill parameters and buffers from whole tensors by name; each rank keeps its part.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another shape.
    """
    shards = _shards(model)
    targets: dict[str, Tensor] = dict(model.named_parameters())
    persistent = model.state_dict().keys()
    targets |= {name: b for name, b in model.named_buffers() if name in persistent}
    aliases = {name for name, _ in model.named_parameters(remove_duplicate=False)} - targets.keys()
    wrong = sorted((targets.keys() - tensors.keys()) | (tensors.keys() - targets.keys() - aliases))
    if wrong:
        raise CheckpointError(f"the checkpoint does not fit this model: {wrong[0]} is on one side only")
    with torch.no_grad():
        for name, target in targets.items():
            part = _part(tensors[name], target, shards.get(target))
            if part.shape != target.shape:
                raise CheckpointError(
                    f"the checkpoint does not fit this model: {name} is {list(part.shape)} there and "
                    f"{list(target.shape)} here"
                )
            target.copy_(part)


def _named(model: nn.Module, optimizer: SinkAdamW) -> Iterator[tuple[str, Tensor]]:
    held = {p for group in optimizer.param_groups for p in group["params"]}
    return ((name, p) for name, p in model.named_parameters() if p in held)


def _shards(model: nn.Module) -> dict[Tensor, RowShard]:
    return {p: s.shard for s in sinks_of(model) if s.shard is not None for p in s.parameters(recurse=False)}


def _whole(value: Tensor, shard: RowShard | None) -> Tensor:
    if isinstance(value, DTensor):
        return value.full_tensor()
    return value if shard is None else gather_rows(value, shard)


def _part(value: Tensor, like: Tensor, shard: RowShard | None) -> Tensor:
    """This rank's part of a whole tensor that is spread as ``like`` is."""
    value = value.to(like.device)
    if value.ndim == 0:
        return value
    if isinstance(like, DTensor):
        return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return value if shard is None else value[shard.rank :: shard.world].clone()
