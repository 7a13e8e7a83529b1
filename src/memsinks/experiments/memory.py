"""From measured arms to rows: losses, extraction, and the three axes of removable memory."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from memsinks.audit import (
    DocumentLosses,
    Interval,
    bootstrap,
    forgetting,
    gap_closure,
    memory_removed,
    removable_memory,
    validation_cost,
    wilson,
)
from memsinks.experiments.measured import Measured
from memsinks.experiments.results import Row


def arm_rows(name: str, measured: Measured, x: float | None = None) -> list[Row]:
    """Losses of every set of documents in every mode, and how many documents came out word for word."""
    rows = []
    for documents, by_mode in measured.data["losses"].items():
        for mode in by_mode:
            rows.append(loss_row(name, documents, measured.losses(documents, mode), mode, x))
    for mode, found in measured.data["extraction"].items():
        rows.append(extraction_row(name, found, mode, x))
    return rows + cost_rows(name, measured, x)


def cost_rows(name: str, measured: Measured, x: float | None = None) -> list[Row]:
    """Steps, predicted tokens and seconds of training."""
    return [Row(arm=name, measure=key, value=float(measured.data[key]), x=x) for key in ("steps", "tokens", "seconds")]


def loss_row(arm: str, documents: str, losses: DocumentLosses, mode: str = "plain", x: float | None = None) -> Row:
    """A mean loss, with its bootstrap interval over documents."""
    return interval_row(arm, documents, bootstrap(lambda mean: mean, losses), mode, x)


def extraction_row(arm: str, found: dict[str, Any], mode: str = "plain", x: float | None = None) -> Row:
    """A rate of documents that came out word for word, with its Wilson interval."""
    return interval_row(arm, "extraction", wilson(found["exact"], found["tried"]), mode, x)


def memory_rows(
    arm: str,
    off: dict[str, DocumentLosses],
    own: DocumentLosses | None,
    standard: dict[str, DocumentLosses],
    unseen: DocumentLosses,
    mode: str = "plain",
    x: float | None = None,
    documents: str = "repeated",
) -> list[Row]:
    """Forgetting, gap closure, what it costs in validation loss and, where memory can be held, removable memory.

    Args:
        arm: whose rows these are.
        off: losses after removal (or of a model that is to be judged as it is), by set of documents.
        own: losses of the repeated documents before removal, or None where nothing can be switched on.
        standard: losses of standard training with repetition, by set of documents.
        unseen: losses of the repeated documents under a model that never trained on them.
        mode, x: of the rows.
        documents: the set that is to be forgotten.

    Measures that are not defined, for want of a memory in the standard arm, are left out.
    """
    R_off, V_off, R_std, V_std = off[documents], off["validation"], standard[documents], standard["validation"]
    wanted: list[tuple[Any, Sequence[DocumentLosses], list[str]]] = [
        (forgetting, [R_off, unseen], ["R", "R"]),
        (gap_closure, [V_off, R_off, V_std, R_std], ["V", "R", "V", "R"]),
        (validation_cost, [V_off, V_std], ["V", "V"]),
    ]
    if own is not None:
        wanted.append((removable_memory, [R_off, own, unseen, R_std], ["R"] * 4))
    rows = []
    for measure, samples, groups in wanted:
        try:
            interval = bootstrap(measure, *samples, groups=groups)
        except ValueError:
            continue
        rows.append(interval_row(arm, measure.__name__, interval, mode, x))
    return rows


def change_row(
    arm: str, documents: str, now: DocumentLosses, before: DocumentLosses, mode: str = "plain", x: float | None = None
) -> Row:
    """How much a set's loss has grown, with its bootstrap interval over documents; the measure is ``<set>_change``."""
    return interval_row(arm, f"{documents}_change", bootstrap(_difference, now, before, groups=["", ""]), mode, x)


def deletion_rows(
    arm: str, right: DocumentLosses, placebo: DocumentLosses, own: DocumentLosses, before: DocumentLosses
) -> list[Row]:
    """What deleting a text's own sinks does to it, beside deleting as many of another's.

    Args:
        arm: whose rows these are.
        right, placebo: losses with sinks on after either deletion.
        own: losses with sinks on, nothing deleted.
        before: losses before training.

    Returns:
        ``deleted``, ``deleted_change`` over ``before``, and ``memory_removed`` in the modes right and placebo, and
        ``deletion_gain``, the difference of the losses. Where training changed nothing, ``memory_removed`` is left out.
    """
    rows = [interval_row(arm, "deletion_gain", bootstrap(_difference, right, placebo, groups=["", ""]), "own")]
    for mode, after in (("right", right), ("placebo", placebo)):
        rows += [loss_row(arm, "deleted", after, mode), change_row(arm, "deleted", after, before, mode)]
        with suppress(ValueError):
            share = bootstrap(memory_removed, after, own, before, groups=["", "", ""])
            rows.append(interval_row(arm, "memory_removed", share, mode))
    return rows


def curve_rows(arm: str, measured: Measured) -> list[Row]:
    """The losses followed during training; ``x`` is the step."""
    return [
        Row(arm=arm, measure=f"{documents}_curve", mode=mode, x=float(point["step"]), value=loss)
        for point in measured.data["curve"]
        for documents, by_mode in point.items()
        if documents != "step"
        for mode, loss in by_mode.items()
    ]


def interval_row(arm: str, measure: str, interval: Interval, mode: str = "plain", x: float | None = None) -> Row:
    """A figure and its interval."""
    return Row(
        arm=arm,
        measure=measure,
        mode=mode,
        x=x,
        value=interval.estimate,
        low=interval.low,
        high=interval.high,
    )


def _difference(now: Any, before: Any) -> Any:
    return now - before
