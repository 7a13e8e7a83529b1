"""The linear model: closed form against simulation, and against values worked out by hand."""

import numpy as np
import pytest

from memsinks.experiments.theory import Draw, TheorySetting, among_typical_text, forced_localisation, from_zero

SETTING = TheorySetting(step=0.01, duration=6.0, samples=64)


def curves(rows):
    found = {}
    for row in rows:
        found.setdefault((row.arm, row.measure, row.mode), []).append((row.x, row.value))
    return {key: np.array(sorted(points)) for key, points in found.items()}


@pytest.fixture(scope="module", params=[0, 1])
def draw(request):
    return Draw(SETTING, request.param)


def test_removal_leaves_the_overlap(draw):
    found = curves(from_zero(draw))
    for measure in ("left_after_removal", "shift_of_other_text"):
        np.testing.assert_allclose(
            found["from_zero", measure, "simulated"], found["from_zero", measure, "closed"], atol=1e-3
        )


def test_flow_among_typical_text_agrees_with_simulation(draw):
    found = curves(among_typical_text(draw))
    for arm in ("without_sinks", "with_sinks"):
        for measure in ("held_by_shared", "held_by_sinks"):
            closed, simulated = (found[arm, measure, mode][:, 1] for mode in ("closed", "simulated"))
            np.testing.assert_allclose(simulated, closed, atol=0.06)


def test_where_memory_settles():
    setting = TheorySetting(duration=400.0, step=100.0)
    found = curves(among_typical_text(Draw(setting, 0)))
    end = {key: points[-1, 1] for key, points in found.items() if key[2] == "closed"}
    # rho / (rho + mu), with |g0| = 1.
    assert end["without_sinks", "held_by_shared", "closed"] == pytest.approx(0.3 / 1.3)
    assert end["with_sinks", "held_by_shared", "closed"] == pytest.approx(0, abs=1e-6)
    assert end["with_sinks", "held_by_sinks", "closed"] == pytest.approx(1, abs=1e-6)


def test_masking_costs_before_removal_and_more_after(draw):
    found = curves(forced_localisation(draw))
    for measure in ("before_removal", "after_removal"):
        closed, simulated = (found["masking", measure, mode][:, 1] for mode in ("closed", "simulated"))
        np.testing.assert_allclose(simulated, closed, atol=0.05 * closed.max())
    before, after = (found["masking", m, "closed"][-1, 1] for m in ("before_removal", "after_removal"))
    assert 0 < before < after
