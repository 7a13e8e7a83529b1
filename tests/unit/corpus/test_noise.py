"""What wrong IDs did to forgetting is told as it was measured."""

import json
from importlib.resources import files
from pathlib import Path

import pytest

from memsinks.corpus.noise import FILE, noise_effect

RESULTS = Path(__file__).parents[3] / "results" / "id-noise"


@pytest.fixture(scope="module")
def kinds():
    return json.loads((files("memsinks.data") / FILE).read_text())["kinds"]


def test_measured_shares_are_told_as_measured(kinds):
    for kind, name in (("consistent", "few"), ("fresh", "many")):
        for point in kinds[kind]:
            assert getattr(noise_effect(point["share"]), name) == pytest.approx(point["forgetting"])
    assert noise_effect(0.3).none == noise_effect(0.0).many == noise_effect(0.0).few


def test_between_and_beyond(kinds):
    *_, before, last = kinds["fresh"]
    middle = noise_effect((before["share"] + last["share"]) / 2).many
    assert middle == pytest.approx((before["forgetting"] + last["forgetting"]) / 2)
    assert noise_effect(0.9).many == last["forgetting"]


def test_the_package_says_what_the_results_say(kinds):
    scale, seeds = noise_effect(0.1).basis.removeprefix("memsinks reproduce id-noise --scale ").split(", ", 1)
    summary = json.loads((RESULTS / scale / "summary.json").read_text())
    assert seeds.split(" ", 1)[1] == ", ".join(map(str, summary["seeds"]))
    measured = {e["arm"]: e["mean"] for e in summary["figures"] if e["measure"] == "forgetting_steps"}
    for kind, points in kinds.items():
        for point in points:
            arm = f"noise_{kind}_{point['share']:g}" if point["share"] else "sinks"
            assert point["forgetting"] == measured[arm]
