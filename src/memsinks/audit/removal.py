"""Measure a model as it is without some text's sinks."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from memsinks.errors import ConfigError
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.modes import Mode, host_of
from memsinks.sinks.routing import fixed_rows


@contextmanager
def set_aside(model: nn.Module, ids: Iterable[int]) -> Iterator[nn.Module]:
    """Inside the block, the sinks that ``ids`` select add nothing in any layer, whoever else selects them.

    Their weights are zero meanwhile and come back, bit for bit, at the end. An ID that shares some of them goes on
    without these and selects no others instead. An ID that owns no sinks under ``allocation="disjoint"`` has nothing
    to set aside.

    Args:
        model: a model with sinks attached, or a wrapper around one; nothing may train it inside the block.
        ids: sequence IDs, at least one.

    Raises:
        ConfigError: the model has no sinks, no ID is given, or the pool is spread over ranks.
        SequenceIdError: an ID is not in ``[0, 2**64)``.
    """
    host = host_of(model)
    layers = list(sinks_of(host))
    if any(sinks.shard is not None for sinks in layers):
        raise ConfigError("these sinks are spread over ranks; load the saved model in one process to set rows aside")
    rows, _ = fixed_rows(
        Mode("chosen", tuple(ids)),
        host.sink_config,
        host.config.num_hidden_layers,
        layers[0].up.device,
        host.sink_allocation,
    )
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    with torch.no_grad():
        for sinks, chosen in zip(layers, rows, strict=True):
            for parameter in sinks.parameters(recurse=False):
                kept.append((parameter, chosen, parameter[chosen]))
                parameter[chosen] = 0
    try:
        yield model
    finally:
        with torch.no_grad():
            for weight, chosen, values in kept:
                weight[chosen] = values
