"""The measures of memory and its removal: every formula once.

R is mean token loss (nats) on the repeated documents, V on validation documents. ``std``: a model of standard training
with repetition; ``unseen``: a model that never trained on the repeated documents; ``off`` and ``own``: the model with
sinks, its sinks off or each document's own on. ``docs/measures.md`` says how to read each measure.

The functions take floats, or arrays of one shape (a bootstrap's resamples).
"""

from typing import TypeVar

import numpy as np

from memsinks.audit.losses import DocumentLosses
from memsinks.errors import InputError

Number = TypeVar("Number", float, np.ndarray)


def gap_closure(V_off: Number, R_off: Number, V_std: Number, R_std: Number) -> Number:
    """1 - (V_off - R_off) / (V_std - R_std): the share of standard training's gap that is gone with sinks off.

    1 means repeated and validation text are equally hard with sinks off; 0 means the gap is what it was. The measure
    says something only where standard training memorised (V_std well above R_std).

    Raises:
        ValueError: V_std equals R_std: there is no gap to close.
    """
    return 1 - _ratio(V_off - R_off, V_std - R_std, "gap closure", "V_std - R_std")


def forgetting(R_off: Number, R_unseen: Number) -> Number:
    """R_off / R_unseen: 1 means the repeated text is as hard with sinks off as for a model that never trained on it.

    Raises:
        ValueError: R_unseen is zero.
    """
    return _ratio(R_off, R_unseen, "forgetting", "R_unseen")


def removable_memory(R_off: Number, R_own: Number, R_unseen: Number, R_std: Number) -> Number:
    """(R_off - R_own) / (R_unseen - R_std): the memory that leaves with the sinks, in units of all that can be held.

    1 means switching the sinks off loses as much as standard training had gained over never seeing the text.

    Raises:
        ValueError: R_unseen equals R_std: standard training memorised nothing.
    """
    return _ratio(R_off - R_own, R_unseen - R_std, "removable memory", "R_unseen - R_std")


def memory_removed(R_after: Number, R_own: Number, R_before: Number) -> Number:
    """(R_after - R_own) / (R_before - R_own): the share of what training taught of a text that a deletion takes away.

    R_own is the loss of the text after training with its sinks on, R_after the same after the deletion, R_before that
    before training. 1 means that the text is as hard as it was, 0 that nothing left; above 1 it is harder than before.

    Raises:
        ValueError: R_before equals R_own: training taught nothing.
    """
    return _ratio(R_after - R_own, R_before - R_own, "memory removed", "R_before - R_own")


def trace_left(gap: Number, gap_retrained: Number, gap_std: Number) -> Number:
    """(gap - gap_retrained) / (gap_std - gap_retrained): the share of memory that stays after the removal of a source.

    A gap is the loss of the source's held-out text less that of its text that was trained on: after the removal, for a
    model retrained without the source, and under standard training. 0 is as after retraining, 1 as if nothing had been
    removed. What is lost or kept of the language that both texts share is in neither.

    Raises:
        ValueError: gap_std equals gap_retrained: standard training memorised nothing.
    """
    return _ratio(gap - gap_retrained, gap_std - gap_retrained, "trace left", "gap_std - gap_retrained")


def validation_cost(V: Number, V_std: Number) -> Number:
    """V / V_std - 1: by what share held-out text is harder than for standard training; negative where it is easier.

    Raises:
        ValueError: V_std is zero.
    """
    return _ratio(V, V_std, "validation cost", "V_std") - 1


def damage(with_sinks: DocumentLosses, without: DocumentLosses) -> float:
    """Nats per token that switching sinks on adds to the loss of text that is not theirs; negative if it helps.

    Raises:
        InputError: the two results are not of the same documents, read the same way.
    """
    if with_sinks.names != without.names or not np.array_equal(with_sinks.tokens, without.tokens):
        raise InputError("damage compares two measurements of the same documents; these have other names or lengths")
    return with_sinks.mean - without.mean


def _ratio(above: Number, below: Number, measure: str, denominator: str) -> Number:
    if np.any(below == 0):
        raise ValueError(f"{measure} is not defined: {denominator} is zero")
    return above / below
