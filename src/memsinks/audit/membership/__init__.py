"""Attacks that tell text a model was trained on from other text; each gives a document a score, higher for members."""

from memsinks.audit.membership.blind import blind
from memsinks.audit.membership.gradients import gradient_norms
from memsinks.audit.membership.likelihood import (
    against_bits,
    against_lowercase,
    against_reference,
    loss,
    min_k,
    min_k_plus_plus,
)
from memsinks.audit.membership.lira import lira
from memsinks.audit.membership.matching import matched
from memsinks.audit.membership.variants import lowercased, neighbours

__all__ = [
    "against_bits",
    "against_lowercase",
    "against_reference",
    "blind",
    "gradient_norms",
    "lira",
    "loss",
    "lowercased",
    "matched",
    "min_k",
    "min_k_plus_plus",
    "neighbours",
]
