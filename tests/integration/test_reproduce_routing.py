"""``memsinks reproduce routing`` at its smallest scale: what must hold whatever the model learned."""

import json

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("bm25s")

from memsinks.cli import main
from memsinks.experiments.books import GENERAL
from memsinks.experiments.routing_tables import ARM, THRESHOLDS
from memsinks.experiments.sizes import BOOKS

BOOK_NAMES = BOOKS["smoke"].books
PARTS = ("train", "held_out")
CHOICES = ("off", "oracle", "placebo")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("routing") / "out"
    assert main(["reproduce", "routing", "--scale", "smoke", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def rows(output):
    return json.loads((output / "routing-smoke" / "seed-0.json").read_text())["rows"]


@pytest.fixture(scope="module")
def value(rows):
    return {(row["measure"], row.get("mode", "plain"), row.get("x")): row["value"] for row in rows}


def test_what_was_trained_on_finds_its_novel_and_gets_what_the_oracle_gives(value):
    # The passages are in the index, so this is no matter of size.
    assert value["all/train/right", "routed", 64.0] == 1
    for book in BOOK_NAMES:
        assert value[f"{book}/train", "routed", None] == value[f"{book}/train", "oracle", None]
        assert len({value[f"{book}/train", mode, None] for mode in CHOICES}) == 3


def test_off_is_right_for_general_text(value):
    assert value[GENERAL, "oracle", None] == value[GENERAL, "off", None]
    for x in (16.0, 32.0, 64.0):
        assert value[f"{GENERAL}/right", "routed", x] == value[f"{GENERAL}/abstained", "routed", x]


def test_a_removed_novel_is_never_right(value):
    for part in PARTS:
        for x in (16.0, 32.0, 64.0):
            for book in BOOK_NAMES:
                right = value[f"{book}/{part}/right", "removed", x]
                assert right == value[f"{book}/{part}/abstained", "removed", x]


def test_a_higher_threshold_routes_less(value):
    for name, mode in ((GENERAL, "routed"), ("all/train", "removed"), ("all/held_out", "routed")):
        shares = [value[f"{name}/abstained_above", mode, x] for x in THRESHOLDS]
        assert shares == sorted(shares)


def test_rates_have_wilson_intervals_and_losses_intervals_over_passages(rows):
    for row in rows:
        if "/" in row["measure"]:
            assert row["low"] <= row["value"] <= row["high"]


def test_tables_and_the_figure_are_written(output):
    folder = output / "routing-smoke"
    tables = (folder / "table.md").read_text()
    for words in ("Loss of what follows", "Share of the right sinks' gain", "by the threshold", "Alice", "placebo"):
        assert words.lower() in tables.lower()
    assert "nan" not in tables
    assert (folder / "routing.png").stat().st_size > 5000


def test_the_arm_is_that_of_per_source_and_is_not_trained_again(output):
    arm = output / "arms" / "books-smoke" / "seed-0" / "source" / ARM / "model.safetensors"
    before = arm.stat().st_mtime_ns
    assert main(["reproduce", "routing", "--scale", "smoke", "--output", str(output)]) == 0
    assert arm.stat().st_mtime_ns == before
