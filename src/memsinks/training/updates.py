"""Which weights a row trains: gradient masking by rows.

A row marked ``shared_frozen`` trains its sinks and not the shared weights, all of them or those of the MLPs. The batch
is split by the mark, and while one part runs forward and backward the weights that it must not change ask for no
gradient. This needs no change to any layer, is exact, and saves the masked gradients' cost.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from memsinks.errors import ConfigError
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.families import sites

HeldBack = Literal["all", "mlp"]


def by_what_learns(
    model: Any, batch: dict[str, Any], held_back: HeldBack
) -> list[tuple[dict[str, Any], Sequence[nn.Parameter]]]:
    """Split a batch by ``shared_frozen``, which is taken out of it.

    Args:
        model: with sinks, unwrapped, if a row is marked.
        batch: tensors whose first dimension is rows; ``shared_frozen`` ``bool [B, T]``, or none.
        held_back: what does not learn from marked rows: all shared weights, or those of the MLPs.

    Returns:
        Parts of the batch, each with the weights that must not learn from it.

    Raises:
        ConfigError: a row is marked in part.
    """
    marked: Tensor | None = batch.pop("shared_frozen", None)
    if marked is None or not marked.any():
        return [(batch, ())]
    rows = marked.any(dim=1)
    # Padding is never marked, and has no sinks.
    if (marked != rows[:, None] & batch["sink_mask"]).any():
        raise ConfigError("a row is marked shared_frozen in part; put one document in each row (stream.packed = false)")
    fixed = shared_weights(model, held_back)
    parts = ((~rows, ()), (rows, fixed))
    return [({k: v[chosen] for k, v in batch.items()}, weights) for chosen, weights in parts if chosen.any()]


def shared_weights(model: Any, which: HeldBack) -> list[nn.Parameter]:
    """The trainable weights of a model with sinks that are not sinks: all, or those of the MLPs' projections."""
    if which == "mlp":
        projections = [m for site in sites(model) for m in (site.gate, site.up, site.down) if m is not None]
        return list({id(p): p for m in projections for p in m.parameters(recurse=False) if p.requires_grad}.values())
    own = {id(p) for layer in sinks_of(model) for p in layer.parameters()}
    return [p for p in model.parameters() if p.requires_grad and id(p) not in own]


@contextmanager
def held(weights: Sequence[nn.Parameter]) -> Iterator[None]:
    """Inside the block, ``weights`` ask for no gradient."""
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
