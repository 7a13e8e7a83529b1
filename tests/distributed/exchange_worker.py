"""Training steps in a bare loop, by one process or by two ranks, for test_exchange."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from families import sink_model, tokens

from memsinks import SinkAdamW
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.sharding import gather_rows, shard_sinks
from memsinks.training.state import whole_weights

RANKS, MICRO, STEPS = 2, 2, 4
POOL, ACTIVE = 24, 4
MAX_NORM = 0.5
FAMILIES = ("llama", "gpt2")
KINDS = ("rows", "dense", "sharded")


def batch(step: int, micro: int, rank: int) -> dict[str, torch.Tensor]:
    """Step 1 touches no sink on the second rank, step 2 on neither; frozen tokens are on one rank only."""
    x = tokens(2, 5 + micro, seed=100 * step + 10 * micro + rank)
    ids = torch.tensor([[3 + rank], [-1 - step]]).expand_as(x).contiguous()
    mask = torch.full_like(x, step != 2 and not (step == 1 and rank == 1), dtype=torch.bool)
    frozen = torch.zeros_like(mask)
    if rank == 1 and step in (0, 3):
        frozen[1, 2:] = True
        ids[1, 2:] = 77
    return {"input_ids": x, "labels": x, "sequence_ids": ids, "sink_mask": mask, "sink_frozen": frozen}


def run(kind: str, family: str, rank: int, world: int) -> dict[str, Any]:
    """Norms, and after each step every tensor of this rank's sinks and their moments."""
    model = sink_model(family, dtype=torch.float64, pool=POOL, active=ACTIVE).train()
    layers = list(sinks_of(model))
    if kind == "sharded":
        shard_sinks(layers)
    optimizer = SinkAdamW(
        model,
        1e-2,
        eps=1e-6,
        weight_decay=0.1,
        sink_weight_decay=0.2,
        sink_lr_multiplier=3.0,
        max_grad_norm=MAX_NORM,
        gradients="dense" if kind == "dense" else None,
    )
    own = {p for layer in layers for p in layer.parameters()}
    norms, history = [], [_rows(layers, optimizer)]
    for step in range(STEPS):
        for micro in range(MICRO):
            for which in range(RANKS) if world == 1 else (rank,):
                loss = model(**batch(step, micro, which), use_cache=False).loss
                (loss / (MICRO * (RANKS if world == 1 else 1))).backward()
        if world > 1:
            for parameter in model.parameters():
                if parameter not in own:  # as DDP does
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= world
        norms.append(float(optimizer.grad_norm()))
        optimizer.step()
        optimizer.zero_grad()
        history.append(_rows(layers, optimizer))
    shared = {n: p.detach().clone() for n, p in model.named_parameters() if p not in own}
    moments = {
        f"{n}.{key}": value.clone()
        for n, p in model.named_parameters()
        if p not in own
        for key, value in optimizer.state[p].items()
    }
    gathered = {}
    if kind == "sharded":
        for i, layer in enumerate(layers):
            for name, parameter in layer.named_parameters():
                gathered[i, name] = gather_rows(parameter.detach(), layer.shard)
    return {
        "norms": norms,
        "history": history,
        "shared": shared | moments,
        "gathered": gathered,
        "whole": whole_weights(model),
    }


def _rows(layers: list, optimizer: SinkAdamW) -> dict[tuple[int, str], torch.Tensor]:
    found = {}
    for i, layer in enumerate(layers):
        for name, parameter in layer.named_parameters():
            found[i, name] = parameter.detach().clone()
            state = optimizer.state.get(parameter) or {
                "step": torch.zeros(len(parameter), dtype=torch.int64),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
            found |= {(i, f"{name}.{key}"): value.detach().clone() for key, value in state.items()}
    return found


def work(folder: str) -> int:
    """Every kind for every family; results go to a file for each rank."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        dist.init_process_group("gloo")
    kinds = KINDS if world > 1 else ("single",)
    found = {(kind, family): run(kind, family, rank, world) for kind in kinds for family in FAMILIES}
    torch.save(found, Path(folder) / f"{world}-{rank}.pt")
    if world > 1:
        dist.destroy_process_group()
    return 0
