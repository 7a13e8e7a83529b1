"""From a corpus to training batches: exposures, order, packing, rows, collation."""

from memsinks.stream.collate import Collator
from memsinks.stream.packing import chunk, order, pack
from memsinks.stream.plan import ExposurePlan, GovernedPolicy, governed
from memsinks.stream.rows import build_stream
from memsinks.stream.treatment import Treatment

__all__ = [
    "Collator",
    "ExposurePlan",
    "GovernedPolicy",
    "Treatment",
    "build_stream",
    "chunk",
    "governed",
    "order",
    "pack",
]
