"""Which caps are better than a method on both axes, from planted losses."""

import pytest

from memsinks.experiments.catalogue import Outcome
from memsinks.experiments.frontier import CAPPED, FRONTIER, better_cap, frontier_points
from memsinks.experiments.results import Row, summarise
from memsinks.experiments.story_arms import DEDUPLICATED_STEPS, SINKS, STANDARD, UNSEEN_STEPS


def planted(**losses):
    """An outcome in which arms have these (validation, repeated) losses, sinks off where they have sinks."""
    modes = {SINKS.name: "off"}
    rows = [
        Row(arm=arm, measure=measure, mode=modes.get(arm, "plain"), value=value)
        for arm, pair in losses.items()
        for measure, value in zip(("validation", "repeated"), pair, strict=True)
    ]
    return Outcome({0: rows}, summarise([rows]))


@pytest.mark.parametrize(
    ("sinks", "better"),
    [
        ((3.1, 3.4), None),  # better than all on both
        ((3.3, 3.6), None),  # leaves least
        ((3.15, 2.9), None),  # keeps most skill, and leaves less than the only cap with more
        ((3.3, 3.1), DEDUPLICATED_STEPS),  # two are better, and this one leaves less
        ((3.3, 2.5), DEDUPLICATED_STEPS),
        ((3.18, 1.0), CAPPED[0]),
    ],
)
def test_a_better_cap_is_better_on_both_axes(sinks, better):
    outcome = planted(
        **{DEDUPLICATED_STEPS.name: (3.2, 3.5), CAPPED[0].name: (3.17, 2.8), STANDARD.name: (3.25, 0.1)}, sinks=sinks
    )
    assert better_cap(outcome, SINKS) is better


def test_an_arm_stands_where_it_is_served():
    outcome = planted(**{STANDARD.name: (3.25, 0.1)}, sinks=(3.3, 3.1))
    assert [(arm.name, V.mean, R.mean) for arm, V, R in frontier_points(outcome, (STANDARD, SINKS))] == [
        ("standard", 3.25, 0.1),
        ("sinks", 3.3, 3.1),
    ]


def drawn(panel):
    return {s.label: list(zip(s.x, s.y, strict=True)) for s in panel.series}


def of_seed(costs, losses, relearned, never):
    """Rows of one seed: each arm's cost, its loss and relearned loss in shares of a never-seen model's."""
    rows = []
    for arm in (UNSEEN_STEPS.name, *costs):
        mode = "off" if arm == SINKS.name else "plain"
        figures = {
            "validation_cost": costs.get(arm, -0.1),
            "repeated": never * losses.get(arm, 1.0),
            "relearned": (never - 0.3) * relearned.get(arm, 1.0),
        }
        rows += [Row(arm=arm, measure=m, mode=mode, value=value) for m, value in figures.items()]
    return rows


def test_the_picture_compares_arms_of_a_seed():
    """Stories of another seed are harder: what is shown is a share of what a model loses that never saw them."""
    costs = {STANDARD.name: 0.0, CAPPED[0].name: -0.02, "cap_4": 0.11, SINKS.name: 0.01}
    losses = {STANDARD.name: 0.02, CAPPED[0].name: 0.6, SINKS.name: 0.96}
    relearned = {STANDARD.name: 0.03, CAPPED[0].name: 0.7, SINKS.name: 0.94}
    seeds = {seed: of_seed(costs, losses, relearned, never) for seed, never in enumerate((3.5, 2.0))}
    left, back, removable = FRONTIER.figures(Outcome(seeds, summarise(seeds.values())))["frontier"]
    assert drawn(left) == {
        "Standard, deduplicated": [pytest.approx((0.0, 0.02))],
        "Capped repetition": [pytest.approx((-2.0, 0.6))],  # the other cap is beyond the picture
        "Sinks, learning rate": [pytest.approx((1.0, 0.96))],
    }
    assert drawn(back) == {
        "Standard, deduplicated": [pytest.approx((0.0, 0.03))],
        "Capped repetition": [pytest.approx((-2.0, 0.7))],
        "Sinks, learning rate": [pytest.approx((1.0, 0.94))],
    }
    for series in (*left.series, *back.series):
        assert series.low == pytest.approx(series.y)
        assert series.high == pytest.approx(series.y)
    # Nothing can be removed from an arm without sinks; what sinks held was not measured.
    assert {s.label: s.y for s in removable.series} == {"Standard, deduplicated": [0.0], "Capped repetition": [0.0]}
