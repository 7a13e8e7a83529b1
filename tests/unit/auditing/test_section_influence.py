"""Influence: held-out text of the target's source."""

import numpy as np
import pytest

from memsinks.audit.findings import Findings
from memsinks.auditing.sections import influence
from memsinks.auditing.verdicts import verdicts


def answer(bench):
    found = Findings.joined(task.run(bench) for task in influence.tasks(bench, bench.config))
    return found.figures, next(v for v in verdicts(found.figures, complete=False) if v.key == "influence")


def test_a_source_that_was_trained_is_found_in_its_held_out_text(named_bench):
    bench = named_bench("guild")
    figures, verdict = answer(bench)
    assert verdict.answer == "yes"
    first = figures[0]
    assert first.number == 8
    assert first.low > 0
    same, other = (f.value for f in figures[1:])
    assert first.value == pytest.approx(same - other)
    held = [i for i in np.flatnonzero(bench.texts.corpus.is_validation) if bench.texts.corpus.sources[i] == "guild"]
    losses = [bench.losses(name, "held out", bench.texts.documents(np.array(held))) for name in ("reference", "model")]
    assert same == pytest.approx(losses[0].mean - losses[1].mean)


def test_a_source_without_words_of_its_own_leaves_none(named_bench, named_runs):
    """The two models differ, but no more on this text than on other text: here both are the reference."""
    bench = named_bench("guild")
    bench.conditions["model"] = bench.conditions["reference"]
    figures, verdict = answer(bench)
    assert (figures[0].value, figures[0].low, figures[0].high) == (0, 0, 0)
    assert verdict.answer == "no"


@pytest.mark.parametrize(
    ("source", "against", "says"),
    [("press", ("reference",), "0 documents of the same source"), ("guild", (), "never saw the source")],
)
def test_what_is_missing_is_said(named_bench, source, against, says):
    figures, verdict = answer(named_bench(source, against))
    assert [f.value for f in figures] == [None]
    assert says in figures[0].note
    assert verdict.answer == "not measured"
