"""``memsinks reproduce per-source`` at its smallest scale: what must hold exactly, whatever the model learned."""

import json

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("peft")

from memsinks.cli import main
from memsinks.experiments.books import GENERAL
from memsinks.experiments.per_source import METHODS
from memsinks.experiments.sizes import BOOKS

SMOKE = BOOKS["smoke"]
OWN_ROWS = ("by_source_own_rows", "own_rows_rate_2", "own_rows_early_10", "routing", "sinks_after")
PARTS = [f"{book}/{part}" for book in SMOKE.books for part in ("train", "held_out")]


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("per-source") / "out"
    assert main(["reproduce", "per-source", "--scale", "smoke", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def value(output):
    rows = json.loads((output / "per-source-smoke" / "seed-0.json").read_text())["rows"]
    return {(row["arm"], row["measure"], row.get("mode", "plain")): row["value"] for row in rows}


def test_removal_is_without_effect_on_general_text_with_sinks_off(value):
    for method in METHODS:
        assert value[method.name, "collateral_general", "removed"] == 0
        assert value[method.name, GENERAL, "removed"] == value[method.name, GENERAL, "off"]


def test_rows_of_their_own_leave_other_novels_alone_and_a_shared_pool_does_not(value):
    for name in OWN_ROWS:
        assert value[name, "collateral", "removed"] == value[name, "collateral_worst", "removed"] == 0
    for name in ("by_source", "by_topic"):
        assert value[name, "collateral_worst", "removed"] != 0


def test_a_removed_novel_is_left_to_shared_weights(value):
    for method in METHODS:
        for part in PARTS:
            assert value[method.name, part, "removed"] == pytest.approx(value[method.name, part, "off"], abs=1e-6)
            assert value[method.name, part, "own"] != value[method.name, part, "off"]


def test_what_is_learned_after_training_comes_off_a_base_that_never_saw_it(value):
    for part in [*PARTS, GENERAL]:
        never = value["unseen_steps", part, "plain"]
        assert value["sinks_after", part, "off"] == pytest.approx(never, abs=1e-6)
        assert value["lora", part, "removed"] == never
    for name in ("sinks_after", "lora"):
        assert value[name, "all/train", "own"] < value[name, "all/train", "removed"]


def test_the_retrained_model_is_measured_on_the_novel_that_it_lacks_only(value):
    (lacking,) = SMOKE.retrained
    for book in SMOKE.books:
        assert (("retrained", f"{book}/train", "plain") in value) == (book == lacking)
    assert value["retrained", f"{lacking}/train", "plain"] == value[f"without_{lacking}", f"{lacking}/train", "plain"]
    assert value["by_source", "over_gold", "removed"] == pytest.approx(
        value["by_source", f"{lacking}/train", "removed"] - value["retrained", f"{lacking}/train", "plain"]
    )


def test_arms_trained_on_all_text_have_equal_steps(value):
    joint = ["standard", "unseen_steps", f"without_{SMOKE.retrained[0]}", *(m.name for m in METHODS if not m.after)]
    assert len({value[name, "steps", "plain"] for name in joint}) == 1
    assert value["sinks_after", "steps", "plain"] < value["standard", "steps", "plain"]


def test_tables_and_the_figure_are_written(output):
    folder = output / "per-source-smoke"
    tables = (folder / "table.md").read_text()
    for words in (
        "Training chapters",
        "Held-out chapters",
        "Removal against retraining",
        "What removal takes",
        "Alice",
    ):
        assert words in tables
    assert "nan" not in tables
    assert (folder / "sources.png").stat().st_size > 5000


def test_nothing_is_trained_or_measured_again(output):
    arms = output / "arms" / "books-smoke" / "seed-0"
    before = {p: p.stat().st_mtime_ns for p in arms.rglob("*") if p.suffix in (".safetensors", ".json")}
    assert any("kept" in p.parts for p in before)
    assert main(["reproduce", "per-source", "--scale", "smoke", "--output", str(output)]) == 0
    after = {p: p.stat().st_mtime_ns for p in arms.rglob("*") if p.suffix in (".safetensors", ".json")}
    assert after == before
