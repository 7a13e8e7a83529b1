"""Arms that experiments on the same text share by name."""

import pytest

pytest.importorskip("captum")

from memsinks.experiments.ablations import ABLATIONS
from memsinks.experiments.frontier import FAMILIES
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
