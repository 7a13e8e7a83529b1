"""Dynamics: planted losses that come back in the gaps, and ones that stay."""

import pytest

from memsinks.experiments.dynamics import AFTER, ARMS, _kept
from memsinks.experiments.results import Row

GAP = AFTER[-1] + 1


def tracked(arm, mode, loss):
    """Twelve cycles; ``loss`` gives the loss in a cycle, some steps after its exposure."""
    return [
        Row(arm=arm, measure="tracked", mode=mode, x=float(cycle * GAP + after), value=loss(cycle, after))
        for cycle in range(12)
        for after in AFTER
    ]


def cycles(arm, mode, teach, undo):
    """A level that an exposure and the two steps after it lower by ``teach``, and the rest of the gap raises again."""

    def loss(cycle, after):
        level = 5 - cycle * (teach - undo)
        return level - teach * min(after + 1, 3) / 3 + undo * max(0, after - 2) / (AFTER[-1] - 2)

    return tracked(arm, mode, loss)


def test_what_is_taught_and_what_is_undone_are_told_apart():
    rows = []
    for arm in ARMS:
        for mode in arm.modes[:2] or ("plain",):
            shielded = (arm.name, mode) == ("sinks", "own")
            rows += cycles(arm.name, mode, 0.2, 0.0 if shielded else 0.15)
    found = {(row.arm, row.mode, row.measure): row.value for row in _kept(rows)}
    assert found["standard", "plain", "learned"] == pytest.approx(0.2)
    assert found["standard", "plain", "lost"] == pytest.approx(0.15)
    assert found["standard", "plain", "share_lost"] == pytest.approx(0.75)
    assert found["sinks", "own", "lost"] == pytest.approx(0)
    assert found["sinks", "own", "last"] == pytest.approx(5 - 12 * 0.2)


def test_no_share_of_nothing():
    rows = [
        row for arm in ARMS for mode in arm.modes[:2] or ("plain",) for row in tracked(arm.name, mode, lambda c, a: 1)
    ]
    found = {row.measure for row in _kept(rows)}
    assert found == {"learned", "lost", "last"}
