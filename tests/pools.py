"""Models whose sinks have owners, for tests."""

import torch
from families import LAYERS, randomise, sink_model, tokens

import memsinks
from memsinks.ids import to_tensor
from memsinks.sinks.attach import sinks_of

A, B, C, NOBODY = 7, 2**64 - 1, 2**63, 99


def disjoint(*owners: int, **options):
    model = sink_model("llama", allocation="disjoint", **options)
    memsinks.register(model, owners)
    return model


def hybrid(*owners: int, **options):
    model = sink_model("llama", **{"pool": 24, "allocation": "hybrid", "owned": 8, **options})
    memsinks.register(model, owners)
    return model


def logits(model, ids=(), mode="own", **options):
    with memsinks.use_sinks(model, mode), torch.no_grad():
        given = {"sequence_ids": to_tensor(ids)} if len(ids) else {}
        return model(input_ids=tokens(rows=3), **given, **options).logits


def table_rows(model, *ids: int) -> list[list[list[int]]]:
    return model.sink_allocation.rows(to_tensor(ids), model.sink_config, LAYERS).tolist()


def fill_with(model, seed: int) -> None:
    for index, sinks in enumerate(sinks_of(model)):
        randomise(sinks, seed + index)
