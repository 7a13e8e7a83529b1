"""Measures of benchmarks in an audit: what is remembered by heart scores, what is not does not."""

import pytest

from memsinks.audit.findings import Findings
from memsinks.auditing.sections.metrics import tasks

from .test_section_membership import bench_of


@pytest.fixture(scope="module")
def found(trained, tmp_path_factory):
    bench = bench_of(
        trained("leaky"),
        tmp_path_factory.mktemp("metrics"),
        against={"reference": trained("hashed")},
        conditions=["removed", "reference"],
    )
    return Findings.joined(task.run(bench) for task in tasks(bench, bench.config)).figures


def value(found, measure, condition, texts="target"):
    (figure,) = (f for f in found if (f.measure, f.condition, f.texts) == (measure, condition, texts))
    return figure.value


@pytest.mark.parametrize("measure", ["exact memorisation", "probability", "ROUGE-L recall, 32 tokens given"])
def test_text_known_by_heart_scores(found, measure):
    own = value(found, measure, "removed")
    # Texts of so few words share some in order by chance.
    times = 1.5 if measure.startswith("ROUGE") else 2
    assert own > times * value(found, measure, "removed", "unseen")
    assert own > times * value(found, measure, "reference")


def test_measures_beside_a_model_that_hardly_knows_the_text(found):
    assert value(found, "forget quality, of losses", "removed") < 0.05
    assert value(found, "privacy leakage, Min-20 %", "removed") < -0.5
    assert not [f for f in found if f.condition == "reference" and f.measure.startswith(("forget", "privacy"))]


def test_an_interval_needs_enough_documents(found):
    few = [f for f in found if f.unit == "share" and f.number < 20]
    assert few
    assert all(f.low is None and "too few for an interval" in f.note for f in few)
    assert not any(f.question for f in found), "none of these decides a verdict"
