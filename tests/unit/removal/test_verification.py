"""The parts of a verification that need no trained model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memsinks.audit import TokenizedDocument, in_windows
from memsinks.errors import ConfigError
from memsinks.removal import verification
from memsinks.removal.identity import compare
from memsinks.removal.plan import make_plan
from memsinks.removal.subject import Subject
from memsinks.removal.target import Target
from memsinks.removal.thresholds import Thresholds
from memsinks.removal.verification import Check, Verification, measure, measure_before


@given(st.lists(st.integers(2, 400), min_size=1, max_size=3), st.integers(2, 150))
def test_windows_score_each_token_once_with_its_context(lengths, length):
    documents = [TokenizedDocument(f"d{n}", np.arange(size) + 1000 * n, n) for n, size in enumerate(lengths)]
    scored = [int(t) for w in in_windows(documents, length) for t in w.tokens[w.scored_from :]]
    # The first token of each context is given, as in training.
    expected = [1000 * n + i for n, size in enumerate(lengths) for i in range(size) if i % length]
    assert sorted(scored) == expected
    assert all(len(w.tokens) <= length for w in in_windows(documents, length))


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "inconclusive"], "inconclusive"),
        (["inconclusive", "fail", "pass"], "fail"),
    ],
)
def test_the_worst_check_decides(verdicts, expected):
    checks = tuple(Check(name="c", verdict=v, figure=0.0, threshold=0.0, says="") for v in verdicts)
    assert Verification(checks=checks).verdict == expected


def test_what_the_model_cannot_see_at_once_is_inconclusive_and_no_crash(trained, corpus):
    """A model of 64 tokens, asked for 50 after 50."""
    planned = make_plan(Subject.open(trained("disjoint"), corpus.path), Target(documents=("cedar-0",)))
    baseline = measure_before(planned, trained("disjoint"))
    found = {check.name: check for check in measure(planned, baseline, trained("disjoint"))}
    for name in ("extraction, greedy", "extraction, sampled"):
        assert (found[name].verdict, found[name].figure) == ("inconclusive", None)


def chance_check(monkeypatch, corpus, trained, removed, unseen, limit=0.05):
    """The check of sampled extraction, for documents found with given chances."""
    limits = Thresholds(prefix=8, suffix=8, extraction=limit)
    planned = make_plan(
        Subject.open(trained("disjoint"), corpus.path), Target(documents=("cedar-0",)), thresholds=limits
    )
    given = iter([np.array(removed), np.array(unseen)])
    monkeypatch.setattr(verification, "_chances", lambda *args: next(given))
    found = measure(planned, measure_before(planned, trained("disjoint")), trained("disjoint"))
    return next(check for check in found if check.name == "extraction, sampled")


@pytest.mark.parametrize(
    ("removed", "verdict"),
    [
        ([0.0] * 4, "pass"),
        ([0.04] * 4, "pass"),
        ([0.2] * 4, "fail"),
        ([0.0, 0.0, 0.0, 0.3], "inconclusive"),
        ([0.0, 0.0, 0.0, 0.15], "inconclusive"),
        ([0.9], "fail"),
        ([0.01], "pass"),
    ],
)
def test_sampled_extraction_is_as_sure_as_its_documents_allow(monkeypatch, corpus, trained, removed, verdict):
    check = chance_check(monkeypatch, corpus, trained, removed, [0.0] * 20)
    assert check.verdict == verdict
    assert check.figure == pytest.approx(np.mean(removed))
    assert check.low <= check.figure <= check.high


def test_one_document_that_was_never_trained_says_nothing_of_others(monkeypatch, corpus, trained):
    check = chance_check(monkeypatch, corpus, trained, [0.0, 0.0], [0.0])
    assert (check.verdict, check.low) == ("inconclusive", None)


def test_a_file_whose_name_begins_like_a_purged_one_is_still_compared(run_of, corpus, tmp_path):
    run = run_of()
    quoting = run / "report.html"
    quoting.write_text(corpus.text(corpus.index("cedar-0")))
    (run / "report.html.notes").write_text("kept")
    planned = make_plan(Subject.open(run, corpus.path), Target(documents=("cedar-0",)))
    quoting.unlink()

    def other_files() -> Check:
        return next(check for check in compare(planned.plan, run, run) if check.name == "other files")

    assert other_files().verdict == "pass"
    (run / "report.html.notes").write_text("changed")
    assert other_files().verdict == "fail"
    assert "report.html.notes" in other_files().says


@pytest.mark.parametrize("bad", [{"recall": -1.0}, {"share": float("inf")}, {"prefix": 0}, {"measured": 1}])
def test_thresholds_out_of_range_are_refused(bad):
    with pytest.raises(ConfigError):
        Thresholds(**bad)


def test_a_surviving_source_of_a_single_window_is_judged_by_its_figure(monkeypatch, trained, corpus):
    """There is nothing to resample, and nothing of the source that was not measured."""

    class Short(verification.Text):
        def __init__(self, planned, length):
            super().__init__(planned, length)
            self.survivors = {"ashford": self.survivors["ashford"][:1]}

    monkeypatch.setattr(verification, "Text", Short)
    planned = make_plan(Subject.open(trained("disjoint"), corpus.path), Target(documents=("cedar-0",)))
    baseline = measure_before(planned, trained("disjoint"))
    (same,) = (c for c in measure(planned, baseline, trained("disjoint")) if c.name.startswith("survivor"))
    assert (same.verdict, same.figure, same.low, same.high) == ("pass", 0.0, None, None)
    own = baseline.survivors["ashford"]
    own.loss_sum[:] -= 0.2 * own.tokens
    (risen,) = (c for c in measure(planned, baseline, trained("disjoint")) if c.name.startswith("survivor"))
    assert (risen.verdict, risen.figure) == ("fail", pytest.approx(0.2))
