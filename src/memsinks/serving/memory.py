"""The sinks of a served model: some attenuated, and removed ones taken out while it is served."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from memsinks.errors import CheckpointError
from memsinks.ids import from_tensor
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.attach import sinks_of
from memsinks.sinks.attenuation import Attenuation, attenuate
from memsinks.sinks.excision import SinkFiles
from memsinks.sinks.removal import follow_removal

_log = logging.getLogger(__name__)


class SinkMemory:
    """Keeps a model in memory to what its checkpoint still has.

    Args:
        model: with sinks; scaled here, and it loses rows while it is served.
        folder: of its checkpoint.
        attenuations: to apply now.
    """

    def __init__(self, model: Any, folder: Path, attenuations: Sequence[Attenuation] = ()) -> None:
        self.model = model
        self._folder, self._attenuations = folder, tuple(attenuations)
        self._known = self._gone = _removed(model.sink_allocation)
        self._asked = False
        self._problem: str | None = None
        attenuate(model, attenuations)

    @property
    def attenuations(self) -> tuple[Attenuation, ...]:
        """Those of which sinks are left."""
        return tuple(own for own in self._attenuations if not self._known.issuperset(own.ids))

    def state(self) -> dict[str, Any]:
        """For clients: factors by name, how many IDs were removed, and whether sinks of removed ones are in memory."""
        return {
            "attenuated": {own.name: own.factor for own in self.attenuations},
            "removed_ids": len(self._known),
            "removed_in_memory": not self._known <= self._gone,
        }

    def learn(self, removed: frozenset[int], between: Callable[[Callable[[], None]], None]) -> None:
        """Note what was removed by now; what is still in memory is taken out.

        Args:
            removed: all removed IDs.
            between: calls a function while nothing is generated.
        """
        self._known = removed
        if not self._asked and not removed <= self._gone:
            self._asked = True
            between(self._take_out)

    def _take_out(self) -> None:
        wanted = self._known
        try:
            # The rows that stay are here already, so only the table is read.
            table = SinkFiles.open(self._folder, verify=False).table
            if not wanted <= _removed(table):
                raise CheckpointError(f"{self._folder}: its lineage names removed IDs that its sinks do not")
            rows = self._follow(table)
        except Exception as error:
            # Whatever it is, the server goes on, and the next reading tries again.
            if self._problem != str(error):
                _log.warning("removed IDs stay off, but their sinks are still in memory: %s", error)
            self._problem = str(error)
        else:
            self._gone, self._problem = wanted, None
            _log.warning("%s: sinks of removed IDs were taken out of memory, %d rows in all", self._folder, rows)
        finally:
            self._asked = False

    def _follow(self, table: AllocationTable) -> int:
        """Take rows out; returns how many."""
        old = [parameter.data for sinks in sinks_of(self.model) for parameter in sinks.parameters(recurse=False)]
        before = sum(len(sinks.down) for sinks in sinks_of(self.model))
        follow_removal(self.model, table)
        with torch.no_grad():
            for weight in old:
                weight.zero_()
        return before - sum(len(sinks.down) for sinks in sinks_of(self.model))


def _removed(table: AllocationTable) -> frozenset[int]:
    return frozenset() if table.removed is None else frozenset(from_tensor(table.removed.ids).tolist())
