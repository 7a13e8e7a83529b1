"""Measurements of what a model remembers, and how sure they are."""

from memsinks.audit.documents import TokenizedDocument, in_windows, tokenized
from memsinks.audit.extraction import DocumentExtraction, ExtractionResult, greedy_extraction
from memsinks.audit.losses import DocumentLosses, document_losses
from memsinks.audit.measures import (
    damage,
    forgetting,
    gap_closure,
    memory_removed,
    removable_memory,
    trace_left,
    validation_cost,
)
from memsinks.audit.removal import set_aside
from memsinks.audit.statistics import Interval, bootstrap, bootstrap_difference, wilson

__all__ = [
    "DocumentExtraction",
    "DocumentLosses",
    "ExtractionResult",
    "Interval",
    "TokenizedDocument",
    "bootstrap",
    "bootstrap_difference",
    "damage",
    "document_losses",
    "forgetting",
    "gap_closure",
    "greedy_extraction",
    "in_windows",
    "memory_removed",
    "removable_memory",
    "set_aside",
    "tokenized",
    "trace_left",
    "validation_cost",
    "wilson",
]
