"""What the figure of an ablation shows, from planted losses."""

import pytest

pytest.importorskip("captum")

from memsinks.experiments.ablations import Ablation
from memsinks.experiments.catalogue import Outcome
from memsinks.experiments.results import Row, summarise
from memsinks.experiments.story_arms import SINKS, STANDARD, UNSEEN_STEPS, rate


def planted(never, low=None, high=None):
    """Two rates of sinks in a seed whose stories cost ``never`` without having been seen."""
    figures = [
        (UNSEEN_STEPS, "plain", 1.0, -0.1),
        (STANDARD, "plain", 0.02, 0.0),
        (rate(1), "off", 0.8, -0.02),
        (rate(1), "own", 0.01, 0.5),
        (SINKS, "off", 0.96, 0.01),
        (SINKS, "own", 0.005, 0.9),
    ]
    rows = []
    for arm, mode, share, cost in figures:
        rows += [
            Row(arm=arm.name, measure="repeated", mode=mode, value=never * share, low=low, high=high),
            Row(arm=arm.name, measure="validation", mode=mode, value=3.0),
            Row(arm=arm.name, measure="validation_cost", mode=mode, value=cost),
        ]
    return rows


def sweep(*seeds, axes=True):
    ablation = Ablation({"Sparse pool": [(1, rate(1)), (5, SINKS)]}, "rate", axes=axes)
    by_seed = dict(enumerate(seeds))
    return ablation.figures(Outcome(by_seed, summarise(by_seed.values())))["sweep"]


def test_seeds_with_harder_stories_do_not_widen_the_figure():
    left, right = sweep(planted(3.5), planted(2.0))
    assert {s.label: list(s.y) for s in left.series} == {
        "Sparse pool, own": pytest.approx([0.01, 0.005]),
        "Sparse pool, off": pytest.approx([0.8, 0.96]),
    }
    assert [(list(s.y), s.label) for s in right.series] == [(pytest.approx([-2.0, 1.0]), "Sparse pool, off")]
    for series in (*left.series, *right.series):
        assert list(series.low) == pytest.approx(list(series.y))
        assert list(series.high) == pytest.approx(list(series.y))
    assert left.lines == {"standard training": pytest.approx(0.02)}
    assert right.lines == {"standard training": 0.0}


def test_one_seed_keeps_its_interval_over_documents():
    left, _ = sweep(planted(2.0, low=1.0, high=3.0))
    for series in left.series:
        assert list(series.low) == [0.5, 0.5]
        assert list(series.high) == [1.5, 1.5]


def test_arms_with_other_exposures_are_shown_in_nats():
    left, right = sweep(planted(3.5), axes=False)
    assert {s.label: list(s.y) for s in left.series}["Sparse pool, off"] == pytest.approx([2.8, 3.36])
    assert right.series[0].y == [3.0, 3.0]
