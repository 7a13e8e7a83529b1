"""Rows of the experiment on routing, from losses that are made up."""

import numpy as np
import pytest

from memsinks.audit import DocumentLosses
from memsinks.experiments.routing import loss_rows, picked, rate_rows, share_kept

BOOKS = ("a", "b")
SETS = ("a/train", "a/held_out", "b/train", "b/held_out", "general")
COUNT = 30


def losses(mean):
    """Rows of 100 tokens whose losses are about the mean."""
    tokens = np.full(COUNT, 100)
    noise = np.random.default_rng(0).normal(0, 0.01, COUNT)
    return DocumentLosses(tuple(map(str, range(COUNT))), (mean + noise - noise.mean()) * tokens, tokens)


def planted():
    """Off 5, all 4.5, the right novel's sinks 3, another's 6."""
    return {
        name: {"off": losses(5.0), "all": losses(4.5)}
        | {book: losses(3.0 if name.startswith(f"{book}/") else 6.0) for book in BOOKS}
        for name in SETS
    }


def rows_of(routed, removed="off"):
    """``routed`` chooses for each document of a set."""
    choices = {
        "routed": {name: routed(name) for name in SETS},
        "removed": {name: [removed] * COUNT for name in SETS if name != "general"},
    }
    return {(row.measure, row.mode): row.value for row in loss_rows(BOOKS, planted(), choices)}


def right(name):
    return [name[0] if "/" in name else "off"] * COUNT


def half(name):
    return [*right(name)[: COUNT // 2], *["off"] * (COUNT - COUNT // 2)]


def test_the_right_choice_keeps_all_and_costs_nothing():
    values = rows_of(right)
    for part in ("train", "held_out"):
        assert values[f"all/{part}/kept", "routed"] == values[f"a/{part}/kept", "routed"] == pytest.approx(1)
        assert values[f"all/{part}", "routed"] == values[f"all/{part}", "oracle"] == pytest.approx(3)
    assert values["general_change", "routed"] == values["general_change", "oracle"] == 0


def test_the_modes_are_what_they_say():
    values = rows_of(right, removed="b")
    assert values["a/train", "off"] == pytest.approx(5)
    assert values["a/train", "placebo"] == values["b/train", "placebo"] == pytest.approx(6)
    assert values["a/train", "all"] == pytest.approx(4.5)
    assert values["general", "oracle"] == values["general", "off"]
    assert values["general_change", "placebo"] == pytest.approx(1)
    assert values["general_change", "all"] == pytest.approx(-0.5)
    assert values["a/held_out", "removed"] == pytest.approx(6)
    assert ("general", "removed") not in values


def test_half_right_keeps_half_and_a_wrong_choice_less_than_nothing():
    assert rows_of(half)["all/train/kept", "routed"] == pytest.approx(0.5, abs=0.01)
    other = {"a": "b", "b": "a"}
    wrong = rows_of(lambda name: [other[name[0]] if "/" in name else "a"] * COUNT)
    assert wrong["all/held_out/kept", "routed"] == pytest.approx(-0.5)
    assert wrong["general_change", "routed"] == pytest.approx(1)


def test_no_share_is_told_where_the_right_sinks_gain_nothing():
    for oracle in (5.0, 5.1):
        with pytest.raises(ValueError, match="gain nothing"):
            share_kept(5.0, 4.0, oracle)
    with pytest.raises(ValueError, match="gain nothing"):
        share_kept(np.array([5.0, 5.0]), np.array([4.0, 4.0]), np.array([4.0, 5.0]))


def test_each_document_has_the_loss_of_what_was_chosen_for_it():
    made = {"off": losses(5.0), "a": losses(3.0)}
    found = picked(made, ["a", *["off"] * (COUNT - 1)])
    assert found.names == made["off"].names
    assert found.loss_sum[0] == made["a"].loss_sum[0]
    assert (found.loss_sum[1:] == made["off"].loss_sum[1:]).all()


@pytest.mark.parametrize(("threshold", "end", "x"), [(None, "", 32.0), (0.04, "_above", 0.04)])
def test_rates_count_what_is_right_and_what_is_off(threshold, end, x):
    choices = [("a", "a")] * 6 + [("b", "a")] * 1 + [("off", "a")] * 3
    rows = {row.measure: row for row in rate_rows("a/train", choices, "routed", 32, threshold)}
    assert set(rows) == {f"a/train/right{end}", f"a/train/abstained{end}"}
    assert {row.x for row in rows.values()} == {x}
    assert rows[f"a/train/right{end}"].value == pytest.approx(0.6)
    # Wilson's interval of 3 of 10, from a table.
    abstained = rows[f"a/train/abstained{end}"]
    assert (abstained.value, abstained.low, abstained.high) == pytest.approx((0.3, 0.108, 0.603), abs=5e-4)
