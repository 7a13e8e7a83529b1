"""The parameters of one layer's sinks, as the kernels see them."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class SinkWeights(NamedTuple):
    """One layer's pool; row i of every tensor belongs to sink i.

    Attributes:
        up, down, gate: ``[pool, hidden]``; ``gate`` is None for plain MLPs.
        up_bias, gate_bias: ``[pool, 1]`` where the base MLP has biases, else None; a gated MLP has both or neither.
        act: the MLP's activation function.
    """

    up: Tensor
    down: Tensor
    gate: Tensor | None
    up_bias: Tensor | None
    gate_bias: Tensor | None
    act: Callable[[Tensor], Tensor]
