"""Arms that experiments on the same text share by name."""

from dataclasses import replace

import pytest

pytest.importorskip("captum")

from memsinks.experiments.ablations import ABLATIONS
from memsinks.experiments.frontier import FAMILIES
from memsinks.experiments.sizes import STORIES
from memsinks.experiments.stories import StoryLab
from memsinks.experiments.ts_repetition import REFERENCES, WITH_SINKS

ARMS = [
    *REFERENCES,
    *WITH_SINKS,
    *(arm for family in FAMILIES.values() for arm in family),
    *(arm for ablation in ABLATIONS for arm in ablation.run.__self__.arms),
]


def test_one_name_is_one_arm():
    """Two of one name would train over each other, each experiment finding the other's model stale."""
    trained = {}
    for arm in ARMS:
        what = (dict(arm.settings), arm.modes, arm.exposures, arm.equal_steps)
        assert trained.setdefault(arm.name, what) == what, arm.name


def test_every_arm_has_a_run_file_where_steps_are_divided(tmp_path):
    """As at ``mini``, ``cpu`` and ``gpu``; an arm may have batches of its own, of fewer rows than a micro-batch has."""
    lab = StoryLab(replace(STORIES["smoke"], micro_batch_size=8), 0, tmp_path, progress=False)
    schedules = {arm.name: lab.config(arm).schedule for arm in ARMS}
    assert all(schedule.micro_batch_size == min(8, schedule.batch_size) for schedule in schedules.values())
    assert any(schedule.batch_size < 8 for schedule in schedules.values())


def test_arms_do_not_follow_the_defaults_of_run_files(tmp_path):
    """Their names say what they are, and published results of that name were made with it."""
    lab = StoryLab(STORIES["smoke"], 0, tmp_path, progress=False)
    runs = {arm.name: lab.config(arm) for arm in ARMS}
    assert {runs[name].optimizer.sink_lr_multiplier for name in ("standard", "sinks", "sinks_early")} == {5.0}
    assert {runs[name].sinks.layers for name in ("standard", "sinks", "sinks_paper")} == {()}
    early = runs["sinks_early_rate_10"]
    assert (early.sinks.layers, early.optimizer.sink_lr_multiplier) == ("early", 10.0)
