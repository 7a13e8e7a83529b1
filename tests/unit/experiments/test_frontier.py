"""Which caps are better than a method on both axes, from planted losses."""

import pytest

from memsinks.experiments.catalogue import Outcome
from memsinks.experiments.frontier import CAPPED, FRONTIER, better_cap, frontier_points
from memsinks.experiments.results import Row, summarise
from memsinks.experiments.story_arms import DEDUPLICATED_STEPS, SINKS, STANDARD


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


def test_the_picture_shows_what_was_measured_and_nothing_else():
    outcome = planted(**{STANDARD.name: (3.25, 0.1), CAPPED[0].name: (3.2, 2.0)}, sinks=(3.3, 3.1), cap_4=(3.6, 2.5))
    left, back, removable = FRONTIER.figures(outcome)["frontier"]
    assert {s.label: list(zip(s.x, s.y, strict=True)) for s in left.series} == {
        "Standard, deduplicated": [(3.25, 0.1)],
        "Capped repetition": [(3.2, 2.0)],  # the other cap is beyond the picture
        "Sinks, learning rate": [(3.3, 3.1)],
    }
    assert not back.series  # nothing was relearned
    # Nothing can be removed from an arm without sinks; what sinks held was not measured.
    assert {s.label: s.y for s in removable.series} == {"Standard, deduplicated": [0.0], "Capped repetition": [0.0]}
