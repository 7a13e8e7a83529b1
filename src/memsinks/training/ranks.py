"""What processes that train together need to agree on; with one process each of these is the obvious thing."""

from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from torch import Tensor


def ranks(group: Any = None) -> int:
    """How many processes train together; 1 without torch.distributed."""
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the first one."""
    return ranks() == 1 or dist.get_rank() == 0


def reduced(value: Tensor, operation: Any = dist.ReduceOp.SUM) -> Tensor:
    """A tensor reduced over all ranks, a new one; all of them take part."""
    value = value.clone()
    if ranks() > 1:
        dist.all_reduce(value, operation)
    return value


def from_first(value: Any) -> Any:
    """The first rank's value; all ranks take part."""
    box = [value]
    if ranks() > 1:
        dist.broadcast_object_list(box)
    return box[0]


def on_first_rank(action: Callable[[], None]) -> None:
    """Run on the first rank once all have come here, while the others wait.

    Raises:
        OSError: on every rank, if it failed on the first.
    """
    if ranks() > 1:
        dist.barrier()
    failure: OSError | None = None
    if is_first():
        try:
            action()
        except OSError as error:
            failure = error
    failure = from_first(failure)
    if failure is not None:
        raise failure
