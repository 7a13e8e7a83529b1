"""Planted effects: a removal that does nothing, one that is as good as retraining, and harm to others."""

import numpy as np
import pytest

from memsinks.audit import DocumentLosses
from memsinks.experiments.source_rows import Found, collateral_rows, found_rows, merged, removal_rows

BOOKS = ("a", "b")
KEYS = {"a": ("a",), "b": ("b",)}


def losses(name, mean, count=30):
    tokens = np.full(count, 100)
    noise = np.random.default_rng(len(name)).normal(0, 0.02, count)
    noise -= noise.mean()
    return DocumentLosses(tuple(f"{name}#{i}" for i in range(count)), (mean + noise) * tokens, tokens)


def found(train, held_out=None, matching=None):
    """Means by novel."""
    parts = {"train": train, "held_out": held_out or train}
    return Found(
        {
            f"{book}/{part}": losses(f"{book}/{part}", mean)
            for part, means in parts.items()
            for book, mean in means.items()
        },
        matching or {},
    )


STANDARD, GOLD = found({"a": 1.0, "b": 1.4}), found({"a": 3.0, "b": 3.4})


def by_measure(rows):
    return {(row.measure, row.mode): row for row in rows}


def removal(own, removed):
    return {row.measure: row for row in removal_rows("x", own, removed, GOLD, STANDARD, BOOKS)}


def test_a_removal_that_does_nothing_forgets_nothing():
    rows = removal(STANDARD, STANDARD)
    assert rows["removable_memory"].value == pytest.approx(0)
    assert rows["over_gold"].value == pytest.approx(-2)
    assert rows["forgetting"].value == pytest.approx(1.2 / 3.2)


def test_a_removal_that_is_like_retraining():
    rows = removal(STANDARD, GOLD)
    assert rows["removable_memory"].value == pytest.approx(1)
    assert rows["forgetting"].value == pytest.approx(1)
    assert rows["over_gold"].value == rows["over_gold"].low == rows["over_gold"].high == 0
    assert {row.mode for row in rows.values()} == {"removed"}


def test_a_removal_that_takes_too_much_lies_above_the_retrained_model():
    rows = removal(STANDARD, found({"a": 3.5, "b": 3.9}, {"a": 3.1, "b": 3.5}))
    assert rows["over_gold"].value == pytest.approx(0.5)
    assert rows["held_out_over_gold"].value == pytest.approx(0.1)


def test_the_trace_that_is_left_is_memory_and_not_skill():
    standard, gold = (found(train, {"a": 2.5, "b": 2.7}) for train in ({"a": 1.0, "b": 1.4}, {"a": 2.4, "b": 2.8}))

    def trace(removed):
        return {r.measure: r for r in removal_rows("x", standard, removed, gold, standard, BOOKS)}["trace_left"]

    assert trace(standard).value == pytest.approx(1)
    assert trace(gold).value == trace(gold).low == trace(gold).high == pytest.approx(0)
    half = found({"a": 1.7, "b": 2.1}, {"a": 2.5, "b": 2.7})
    assert trace(half).value == pytest.approx(0.5, abs=0.01)
    without_the_language = found({"a": 2.9, "b": 3.3}, {"a": 3.0, "b": 3.2})
    assert trace(without_the_language).value == pytest.approx(0, abs=1e-9)


def test_where_standard_training_learned_nothing_there_is_no_removable_memory():
    rows = removal_rows("x", STANDARD, GOLD, GOLD, GOLD, BOOKS)
    assert {row.measure for row in rows} == {"forgetting", "over_gold", "held_out_over_gold"}


def test_means_weigh_novels_alike_and_intervals_hold_them():
    several = Found(
        {
            f"{b}/{p}": losses(b, mean, n)
            for b, mean, n in (("a", 1.0, 200), ("b", 3.0, 10))
            for p in ("train", "held_out")
        },
        {},
    )
    rows = by_measure(found_rows("x", several, {"all": BOOKS}, suffix=5, mode="own"))
    row = rows["all/train", "own"]
    assert row.value == pytest.approx(2)
    assert row.low < row.value < row.high
    assert rows["a/train", "own"].value == pytest.approx(1)


def test_a_group_with_a_novel_that_was_not_measured_is_left_out():
    part = STANDARD.only(["a"])
    assert set(part.losses) == {"a/train", "a/held_out"}
    measures = {row.measure for row in found_rows("x", part, {"all": BOOKS, "one": ("a",)}, suffix=5)}
    assert measures == {"a/train", "a/held_out", "one/train", "one/held_out"}
    assert merged([part, STANDARD.only(["b"])]).losses.keys() == STANDARD.losses.keys()


def test_only_whole_passages_count_as_extracted():
    one = found({"a": 1.0}, matching={"a/1#0": 5, "a/1#256": 4, "a/2#0": 0, "b/1#0": 5})
    rows = by_measure(found_rows("x", one, {"a": ("a",)}, suffix=5))
    assert rows["a/extraction", "plain"].value == pytest.approx(1 / 3)
    assert rows["a/matching", "plain"].value == 3


def collateral(after, own=STANDARD, keys=KEYS):
    return {row.measure: row for row in collateral_rows("x", own, after, keys)}


def test_harm_to_other_novels_is_found_and_told_apart():
    after = {"a": found({"a": 9.0, "b": 1.9}), "b": found({"a": 1.1, "b": 9.0})}
    rows = collateral(after)
    assert rows["collateral"].value == pytest.approx(0.3)
    assert rows["collateral_worst"].value == pytest.approx(0.5)
    assert rows["a/collateral"].value == pytest.approx(0.5)
    assert rows["b/collateral"].value == pytest.approx(0.1)
    assert "collateral_kin" not in rows


def test_without_harm_collateral_is_exactly_zero():
    rows = collateral({"a": STANDARD, "b": STANDARD})
    assert {row.value for row in rows.values()} == {0.0}
    assert rows["collateral"].low == rows["collateral"].high == 0


def test_novels_of_one_key_are_kin_and_not_others():
    own = found({"a": 1.0, "b": 1.0, "c": 1.0})
    after = {"t": found({"a": 2.0, "b": 3.0, "c": 1.1}), "u": found({"a": 1.2, "b": 1.4, "c": 5.0})}
    rows = collateral(after, own, {"t": ("a", "b"), "u": ("c",)})
    assert rows["collateral_kin"].value == pytest.approx(1.5)
    assert rows["collateral"].value == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    assert rows["a/collateral"].value == rows["b/collateral"].value == pytest.approx(0.1)
    assert rows["c/collateral"].value == pytest.approx(0.3)


def test_with_a_single_key_there_are_no_others():
    assert collateral({"t": STANDARD}, keys={"t": BOOKS}).keys() == {"collateral_kin"}
