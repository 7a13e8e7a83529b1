import pytest

from memsinks.report import target
from memsinks.report.verdicts import basis_warning, verdicts


def with_targets(results, **values):
    """The results with some targets' values replaced."""
    results["targets"] = [
        target(t["name"], values.get(t["name"], t["value"]), t["limit"], t["direction"], t["text"])
        for t in results["targets"]
    ]
    return results


def test_all_met(results):
    found = verdicts(results)
    assert [v.outcome for v in found] == ["met"] * 4
    held, gone, extractable, cost = found
    assert held.answer.startswith("Yes")
    assert "0.153" in held.detail
    assert gone.answer.startswith("Yes")
    assert "0.897" in gone.detail
    assert extractable.answer == "No: with sinks off, no repeated story comes out word for word."
    assert "5.5\N{NO-BREAK SPACE}% below the deduplicated model's 4.003" in cost.detail
    assert "4.6\N{NO-BREAK SPACE}% above the standard model's 3.617" in cost.detail
    assert [len(v.targets) for v in found] == [1, 1, 1, 2]
    assert basis_warning(results) == ""


@pytest.mark.parametrize(
    ("name", "value", "which", "says"),
    [
        ("sinks_hold", 0.4, 0, "Not well enough"),
        ("forgetting", 0.7, 1, "Not fully"),
        ("sinks_off_not_extractable", 0.1, 2, "Yes: with sinks off, more"),
    ],
)
def test_a_missed_target_is_said(results, name, value, which, says):
    verdict = verdicts(with_targets(results, **{name: value}))[which]
    assert verdict.outcome == "missed"
    assert verdict.answer.startswith(says)


def test_cost_has_two_targets(results):
    assert verdicts(with_targets(results, cost_to_standard=1.2))[3].outcome == "partly"
    assert verdicts(with_targets(results, cost_to_standard=1.2, cost_to_deduplicated=1.1))[3].outcome == "missed"


def test_no_praise_for_losing_what_was_never_held(results):
    gone = verdicts(with_targets(results, sinks_hold=0.9))[1]
    assert gone.outcome == "partly"
    assert "too little" in gone.answer


def test_no_praise_beyond_the_target(results):
    results["extraction"]["sinks_off"] = 0.05
    results["targets"][4] = target("sinks_off_not_extractable", 0.05, 0.1, "at_most", "extracted")
    assert verdicts(results)[2].answer == "No more than the target allows, with sinks off."


def test_without_targets_nothing_is_judged(results):
    results["targets"] = []
    assert {v.outcome for v in verdicts(results)} == {"none"}
    assert basis_warning(results) == ""


def test_a_weak_standard_arm_is_said_first(results):
    warning = basis_warning(with_targets(results, standard_memorises=0.3))
    assert "did not memorise" in warning
    assert "0.3; wanted below 0.1" in warning


def test_undefined_forgetting(results):
    results["forgetting"] = None
    assert "not defined" in verdicts(results)[1].detail
