"""What an attack's scores of members and of other texts come to."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from memsinks.audit.findings import Curve, DocumentValue, Figure, Findings
from memsinks.audit.metrics import auc_interval, roc_curve, tpr_at_fpr

RATES = (0.001, 0.01)
"""False-positive rates at which the true-positive rate is told."""
_POINTS = 200
_BELOW = "Below 1/2 the texts stand out too, as harder than text that was never trained."


def attack_findings(
    section: str,
    attack: str,
    condition: str,
    members: np.ndarray,
    others: np.ndarray,
    names: Sequence[str],
    note: str,
) -> Findings:
    """AUC, true-positive rates at low false-positive rates, the ROC curve, and the members' scores.

    Args:
        section: of the figures.
        attack: name of the measure.
        condition: of the model.
        members: a score for each, higher for members.
        others: the same of the texts that members are compared with.
        names: of the members.
        note: what a reader has to know of the comparison.
    """
    rest: dict[str, Any] = {"section": section, "condition": condition, "texts": "target"}
    interval = auc_interval(members, others)
    if interval.high < 0.5:
        note = f"{note} {_BELOW}".strip()
    area = Figure.of(
        interval,
        measure=attack,
        number=len(members),
        unit="AUC",
        chance=0.5,
        question="member",
        note=f"{len(members)} texts against {len(others)} that were never trained. {note}".strip(),
        **rest,
    )
    rates = [_rate(members, others, fpr, attack, rest) for fpr in RATES]
    roc = roc_curve(members, others)
    kept = np.unique(np.linspace(0, len(roc.fpr) - 1, min(_POINTS, len(roc.fpr))).astype(int))
    curve = Curve(
        measure=f"ROC, {attack}",
        x_label="false-positive rate",
        y_label="true-positive rate",
        x=tuple(roc.fpr[kept].tolist()),
        y=tuple(roc.tpr[kept].tolist()),
        **rest,
    )
    values = tuple(
        DocumentValue(measure=attack, document=name, value=float(score), **rest)
        for name, score in zip(names, members, strict=True)
    )
    return Findings(figures=(area, *rates), curves=(curve,), documents=values)


def _rate(members: np.ndarray, others: np.ndarray, fpr: float, attack: str, rest: dict[str, Any]) -> Figure:
    content: dict[str, Any] = {
        "measure": f"{attack}, found at {100 * fpr:g} % false alarms",
        "unit": "rate",
        "chance": fpr,
        **rest,
    }
    interval = tpr_at_fpr(members, others, fpr)
    if interval is None:
        note = f"{len(others)} texts that were never trained cannot show a rate below {100 / len(others):.2g} %."
        return Figure(value=None, number=len(members), note=note, **content)
    note = f"At most {int(fpr * len(others) + 1e-9)} of {len(others)} texts that were never trained are called members."
    return Figure.of(interval, number=len(members), note=note, **content)
