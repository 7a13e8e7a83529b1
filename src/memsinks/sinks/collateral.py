"""What IDs share with others: which fraction of an ID's rows something done to other IDs reaches."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from memsinks.ids import from_tensor, to_tensor
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.config import SinkConfig
from memsinks.sinks.modes import host_of
from memsinks.sinks.removal import chosen_rows, present_rows

BUDGET = 50_000_000
"""Rows of survivors that are looked up at most; beyond that a sample of the survivors stands for all."""
_CHUNK = 1 << 22
"""Rows looked up at a time."""


@dataclass(frozen=True, eq=False)
class Collateral:
    """What surviving IDs lose of their rows, over all layers.

    Attributes:
        survivors: IDs that stay.
        ids: ``uint64``, those that were looked at: all, or a sample.
        lost: ``float64``, fraction of its present rows that each loses.
    """

    survivors: int
    ids: np.ndarray
    lost: np.ndarray

    @property
    def mean(self) -> float:
        """Of all survivors, or of the sample."""
        return float(self.lost.mean()) if len(self.lost) else 0.0

    @property
    def most(self) -> float:
        """Of any survivor looked at."""
        return float(self.lost.max()) if len(self.lost) else 0.0

    @property
    def affected(self) -> int:
        """Survivors that lose a row; in proportion, where a sample was looked at."""
        return round(self.survivors * float((self.lost > 0).mean())) if len(self.lost) else 0

    @classmethod
    def none(cls, survivors: np.ndarray) -> "Collateral":
        """Nobody loses anything."""
        return cls(len(survivors), survivors, np.zeros(len(survivors)))


def collateral(model: nn.Module, ids: Iterable[int] | np.ndarray, survivors: Iterable[int] | np.ndarray) -> Collateral:
    """The fraction of its rows that each of ``survivors`` shares with ``ids``.

    It is what :func:`memsinks.remove` takes from a survivor, and what :func:`memsinks.attenuated` scales for it too.

    Args:
        model: with sinks attached, or a wrapper around it.
        ids: sequence IDs that something is done to.
        survivors: other sequence IDs; those among ``ids`` are left out.

    Raises:
        ConfigError: the model has no sinks.
        SequenceIdError: an ID is not in ``[0, 2**64)``.
    """
    host = host_of(model)
    table, config, layers = host.sink_allocation, host.sink_config, host.config.num_hidden_layers
    table = table.on(torch.device("cpu"))
    removed = to_tensor(()) if table.removed is None else table.removed.ids
    wanted, others = to_tensor(ids), to_tensor(survivors)
    others = torch.unique(others[~torch.isin(others, torch.cat([wanted, removed]))])
    marked = chosen_rows(table, wanted[~torch.isin(wanted, removed)], config, layers)
    return reached(table, marked, from_tensor(others), config, layers)


def reached(
    table: AllocationTable, marked: Sequence[Tensor], survivors: np.ndarray, config: SinkConfig, layers: int
) -> Collateral:
    """The fraction of each survivor's rows that is marked.

    Args:
        table: which rows are whose, on the CPU.
        marked: for each layer with sinks, ``bool [pool]``, virtual rows.
        survivors: ``uint64``; those without sinks lose nothing.
        config: with resolved counts.
        layers: decoder layers of the model.
    """
    places, active = len(marked), int(config.active)
    most = max(1, BUDGET // (places * active))
    ids = survivors
    if len(ids) > most:
        ids = np.sort(np.random.default_rng(config.seed).choice(ids, most, replace=False))
    lost = np.zeros(len(ids))
    step = max(1, _CHUNK // (places * active))
    there = present_rows(table, places)
    goes = [own & out for own, out in zip(there, marked, strict=True)]
    for start in range(0, len(ids), step):
        chosen = to_tensor(ids[start : start + step])
        rows = table.rows(chosen, config, layers)
        held = torch.ones_like(chosen, dtype=torch.bool) if table.segments else torch.isin(chosen, table.owner_ids)
        own, gone = (
            torch.stack([layer[r].sum(-1).double() for layer, r in zip(part, rows, strict=True)]).sum(0)
            for part in (there, goes)
        )
        lost[start : start + step] = (gone / own.clamp(min=1) * held).numpy()
    return Collateral(len(survivors), ids, lost)
