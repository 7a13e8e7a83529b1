"""Tidy rows: over seeds, in files, and against a reference."""

import csv
import math

import pytest

from memsinks.errors import ConfigError, InputError
from memsinks.experiments import reproduce as reproducing
from memsinks.experiments.catalogue import Outcome, Table, arms_table, cell
from memsinks.experiments.results import (
    Row,
    Summary,
    paired_difference,
    read_seed,
    summarise,
    write_csv,
    write_seed,
    write_summary,
)


def rows(value, **changes):
    return [Row(**({"arm": "a", "measure": "m", "value": value, "low": value - 1, "high": value + 1} | changes))]


def test_the_interval_over_seeds_is_students():
    (found,) = summarise([rows(1.0), rows(2.0), rows(6.0)]).values()
    # t of 2 degrees of freedom at 97.5 %, from tables: 4.3027; standard deviation sqrt(7).
    half = 4.3027 * math.sqrt(7) / math.sqrt(3)
    assert (found.seeds, found.mean) == (3, 3.0)
    assert found.low == pytest.approx(3 - half, rel=1e-4)
    assert found.high == pytest.approx(3 + half, rel=1e-4)


def test_the_interval_of_a_share_ends_where_shares_end():
    """Three seeds of 16 stories, of which one was missed once, do not make 107 %."""
    for values, ends in (((1.0, 0.9375, 1.0), (0.8895, 1.0)), ((0.0, 0.0625, 0.0), (0.0, 0.1105))):
        (found,) = summarise([rows(value, measure="extraction") for value in values]).values()
        assert (found.low, found.high) == pytest.approx(ends, abs=1e-4)


def test_one_seed_keeps_its_interval_over_documents():
    assert summarise([rows(2.0)]) == {("a", "m", "plain", None): Summary(1, 2.0, 1.0, 3.0)}


def test_a_curve_pairs_the_points_of_seeds_that_end_at_different_steps():
    """The last step of a seed is no point of its own: an average over one seed would look like a jump."""
    seeds = {
        seed: [row for x, value in ((100.0, 4.0 + seed), (last, 1.0 + seed)) for row in rows(value, x=x)]
        for seed, last in ((0, 207.0), (2, 208.0))
    }
    first, last = Outcome(seeds, summarise(seeds.values())).curve("a", "m")
    assert first[0] == 100.0
    assert first[1].mean == 5.0
    assert last[0] == 207.5
    assert (last[1].seeds, last[1].mean) == (2, 2.0)
    # t of 1 degree of freedom at 97.5 %, from tables: 12.706; standard deviation sqrt(2).
    assert last[1].high - last[1].mean == pytest.approx(12.706, rel=1e-4)


def test_places_on_a_sweep_are_apart():
    found = summarise([[*rows(1.0, x=0.0), *rows(2.0, x=1.0), *rows(3.0, mode="off")]])
    assert [key[2:] for key in found] == [("plain", 0.0), ("plain", 1.0), ("off", None)]
    assert [s.mean for _, s in Outcome({}, found).sweep("a", "m")] == [1.0, 2.0]


def test_pairing_takes_out_what_seeds_share():
    seeds = [[*rows(10.0 * s), *rows(10.0 * s + 1 + 0.01 * s, arm="b")] for s in range(3)]
    found = paired_difference(seeds, ("b", "m", "plain", None), ("a", "m", "plain", None))
    assert found.mean == pytest.approx(1.01)
    assert found.low is not None
    assert found.low > 0.9


def test_files_hold_every_figure(tmp_path):
    write_seed(tmp_path / "seed-3.json", {"seed": 3, "scale": "mini"}, rows(0.5, x=2.0))
    facts, found = read_seed(tmp_path / "seed-3.json")
    assert found == rows(0.5, x=2.0)
    assert (facts["seed"], facts["scale"]) == (3, "mini")
    write_csv(tmp_path / "rows.csv", {3: found, 1: rows(0.25)})
    table = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert [(r["seed"], r["arm"], r["x"], r["value"]) for r in table] == [
        ("1", "a", "", "0.25"),
        ("3", "a", "2", "0.5"),
    ]


def test_comparison_names_what_lies_outside(tmp_path):
    for name, values in (("ours", (1.0, 5.0)), ("theirs", (1.5, 2.0))):
        # How long another machine takes is no result.
        figures = summarise([[*rows(values[0]), *rows(values[1], measure="n"), *rows(values[1], measure="seconds")]])
        write_summary(tmp_path / name / "summary.json", [0], figures)
    outside = reproducing.compare(tmp_path / "ours", tmp_path / "theirs" / "summary.json")
    assert outside == ["a n plain: 5 is outside [1, 3]"]


def test_comparison_with_something_else_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    write_summary(tmp_path / "summary.json", [], {})
    with pytest.raises(InputError, match=r"x\.json: no summary"):
        reproducing.compare(tmp_path, tmp_path / "x.json")


def test_an_unknown_experiment_lists_those_there_are():
    with pytest.raises(ConfigError, match="ts-repetition"):
        reproducing.find("ts-repitition")


def test_cells_and_tables():
    assert cell(None) == "–"
    assert cell(Summary(1, 0.5, None, None)) == "0.500"
    assert cell(Summary(3, 0.5, 0.25, 0.75), 0, 100, " %") == "50 % [25, 75]"
    found = Outcome({}, summarise([[*rows(0.5), *rows(0.9, measure="extraction")]]))
    table = arms_table(found, "T", [("A", "a", "plain"), ("B", "b", "plain")], {"m": "m", "out": "extraction"})
    assert table.rows == [["A", "0.500 [-0.500, 1.500]", "90 % [-10, 190]"]]
    assert Table("T", ["", "m"], [["A", "1"]], "N.").markdown() == "**T**\n\n|  | m |\n|---|---:|\n| A | 1 |\n\nN.\n"


def test_every_experiment_says_what_it_does_not_show():
    for name, experiment in reproducing.EXPERIMENTS.items():
        assert experiment.name == name
        assert experiment.claim
        assert experiment.supports
        assert experiment.not_shown
        # A published size that has a small sibling needs no small scales of its own.
        assert set(experiment.settings) >= {"smoke", "mini", "cpu"} or set(experiment.settings) == {"paper"}
