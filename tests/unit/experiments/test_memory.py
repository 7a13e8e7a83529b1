"""Planted effects: a memoriser scores as memorised, a removal that does nothing as no forgetting."""

import numpy as np
import pytest

from memsinks.audit import DocumentLosses
from memsinks.experiments.memory import change_row, deletion_rows, memory_rows


def losses(mean, count=30, seed=0):
    tokens = np.full(count, 100)
    noise = np.random.default_rng(seed).normal(0, 0.02, count)
    return DocumentLosses(tuple(f"d{i}" for i in range(count)), (mean + noise) * tokens, tokens)


MEMORISED = {"repeated": losses(0.05), "validation": losses(3.0, seed=1)}
UNSEEN = losses(3.1)


def measures(off, own=None):
    return {row.measure: row for row in memory_rows("a", off, own, MEMORISED, UNSEEN)}


def test_a_removal_that_does_nothing_forgets_nothing():
    found = measures(MEMORISED, own=MEMORISED["repeated"])
    assert found["forgetting"].value < 0.03
    assert found["gap_closure"].value == pytest.approx(0)
    assert found["removable_memory"].value == pytest.approx(0)


def test_a_perfect_removal_forgets_everything():
    found = measures({"repeated": UNSEEN, "validation": losses(3.1, seed=1)}, own=MEMORISED["repeated"])
    assert found["forgetting"].value == pytest.approx(1)
    assert found["gap_closure"].value == pytest.approx(1, abs=0.01)
    assert found["removable_memory"].value == pytest.approx(1)
    # The documents are the same, so that their noise cancels: 3.1 over 3.0.
    assert found["validation_cost"].value == pytest.approx(3.1 / 3 - 1, abs=1e-4)
    assert found["validation_cost"].high - found["validation_cost"].low < 1e-3
    assert all(row.low <= row.value <= row.high for row in found.values())


def test_without_a_mode_to_switch_there_is_no_removable_memory():
    assert set(measures(MEMORISED)) == {"forgetting", "gap_closure", "validation_cost"}


def test_what_is_not_defined_is_left_out():
    same = {"repeated": losses(3.0), "validation": losses(3.0)}
    assert [row.measure for row in memory_rows("a", same, None, same, UNSEEN)] == ["forgetting", "validation_cost"]


BEFORE = losses(3.0)


def deletions(own, right, placebo):
    rows = deletion_rows("a", losses(right), losses(placebo), losses(own), BEFORE)
    return {(row.measure, row.mode): row for row in rows}


def test_where_shared_weights_hold_the_text_a_deletion_is_a_placebo():
    found = deletions(own=0.1, right=0.1, placebo=0.1)
    assert found["deletion_gain", "own"].value == pytest.approx(0)
    assert found["memory_removed", "right"].value == pytest.approx(0)


def test_where_sinks_hold_the_text_the_right_deletion_takes_it():
    found = deletions(own=0.1, right=2.9, placebo=0.2)
    assert found["deletion_gain", "own"].low > 2
    assert found["deleted_change", "right"].value == pytest.approx(-0.1)
    assert found["memory_removed", "right"].value == pytest.approx(2.8 / 2.9, abs=0.01)
    assert found["memory_removed", "placebo"].value == pytest.approx(0.1 / 2.9, abs=0.01)


def test_where_nothing_was_learned_no_share_is_removed():
    assert set(deletions(own=3.0, right=3.0, placebo=3.0)) == {
        ("deletion_gain", "own"), ("deleted", "right"), ("deleted", "placebo"), ("deleted_change", "right"),
        ("deleted_change", "placebo"),
    }  # fmt: skip


def test_a_change_is_paired():
    row = change_row("a", "validation", losses(3.2), losses(3.0), "off")
    assert (row.measure, row.mode) == ("validation_change", "off")
    assert row.low == pytest.approx(0.2) == row.high
