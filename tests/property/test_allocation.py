"""Registering, growing, removing, saving and loading in any order: IDs use the rows of the reference and keep them."""

import tempfile
from pathlib import Path

import pytest
import torch
from allocation_reference import ReferenceAllocation
from families import LAYERS, sink_model, tokens
from hypothesis import given, settings
from hypothesis import strategies as st

import memsinks
from memsinks.errors import ConfigError
from memsinks.ids import to_tensor
from memsinks.sinks.attach import sinks_of

IDS = [0, 1, 2, 3, 2**63 - 1, 2**63, 2**63 + 5, 2**64 - 1, 0x0123456789ABCDEF]
ids = st.lists(st.sampled_from(IDS), max_size=5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("register"), ids),
        st.tuples(st.just("grow"), st.sampled_from([4, 8, 16])),
        st.tuples(st.just("train"), ids),
        st.tuples(st.just("remove"), st.tuples(ids, st.booleans())),
        st.tuples(st.just("save"), st.none()),
    ),
    max_size=8,
)
POOLS = {
    "hashed": {"pool": 8},
    "disjoint": {"pool": 8, "allocation": "disjoint"},
    "hybrid": {"pool": 16, "allocation": "hybrid", "owned": 8},
}


def rows(model) -> dict[int, list[list[int]]]:
    """The virtual rows that each ID has in each layer."""
    table, wanted = model.sink_allocation, to_tensor(IDS)
    chosen = table.rows(wanted, model.sink_config, LAYERS)
    _, present, held = table.locate(wanted, model.sink_config, LAYERS)
    there = torch.ones_like(chosen, dtype=torch.bool) if present is None else present
    layers = list(zip(chosen, there, strict=True))
    return {i: [own[n][left[n]].tolist() if held[n] else [] for own, left in layers] for n, i in enumerate(IDS)}


def logits(model, sequence_id: int) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=tokens(rows=1, length=4), sequence_ids=to_tensor([sequence_id])).logits


def check_sizes(model, reference) -> None:
    for sinks, gone in zip(sinks_of(model), reference.gone, strict=True):
        assert {len(p) for p in sinks.parameters()} == {reference.pool - len(gone)}


@pytest.mark.parametrize("kind", POOLS)
@settings(max_examples=20, deadline=None)
@given(todo=steps, block=st.sampled_from([1, 2]))
def test_old_ids_keep_their_rows_and_their_output(kind, todo, block):
    options = POOLS[kind]
    model = sink_model("llama", active=4, seed=5, block=block, **options)
    owned = {"hashed": 0, "disjoint": 8, "hybrid": 8}[kind]
    reference = ReferenceAllocation(options["pool"], 4, layers=LAYERS, owned=owned, seed=5, block=block)
    trained: dict[int, tuple] = {}
    for what, value in todo:
        match what:
            case "register":
                # An ID is registered before it is trained.
                wanted = [i for i in value if (i not in trained or i in reference.owners)]
                if kind != "hashed" and reference.register(wanted):
                    memsinks.register(model, wanted)
                else:
                    before = model.sink_allocation
                    with pytest.raises(ConfigError):
                        memsinks.register(model, wanted)
                    assert model.sink_allocation is before
            case "grow":
                old = [p.clone() for s in sinks_of(model) for p in s.parameters()]
                reference.grow(value, list(trained))
                memsinks.grow(model, value, trained=list(trained))
                new = [p for s in sinks_of(model) for p in s.parameters()]
                assert all(torch.equal(a, b[: len(a)]) for a, b in zip(old, new, strict=True))
                assert model.sink_config.pool == reference.pool
                check_sizes(model, reference)
            case "train":
                trained |= {i: (rows(model)[i], logits(model, i)) for i in value if i not in trained}
                if kind == "disjoint":
                    trained = {i: v for i, v in trained.items() if i in reference.owners}
            case "remove":
                gone, keep = list(dict.fromkeys(value[0])), value[1]
                survivors = [i for i in trained if i not in reference.removed and i not in gone]
                reference.remove(gone, survivors if keep else None)
                memsinks.remove(model, gone, survivors=survivors if keep else None)
                check_sizes(model, reference)
                # Those that share no row with what went keep their output; the others keep the rest of their rows.
                left = {i: [reference.left(i)[n] for n in range(LAYERS)] for i in trained}
                trained = {i: (left[i], v[1] if left[i] == v[0] else logits(model, i)) for i, v in trained.items()}
            case "save":
                with tempfile.TemporaryDirectory() as folder:
                    memsinks.save(model, Path(folder) / "run")
                    model = memsinks.load(Path(folder) / "run")
        assert rows(model) == {i: reference.left(i) for i in IDS}
    for i, (its_rows, its_logits) in trained.items():
        assert rows(model)[i] == its_rows
        assert torch.equal(logits(model, i), its_logits)
