"""Sets of held-out text, audited as if they had been asked about."""

import json

import pytest
from publishers import configured

from memsinks.auditing import calibration
from memsinks.auditing.audit import plan_audit
from memsinks.auditing.calibration import calibrate, check_calibration, expected_seconds
from memsinks.auditing.config import AuditConfig, TextConfig
from memsinks.auditing.config_membership import MembershipConfig
from memsinks.auditing.subject import audited
from memsinks.auditing.verdicts import Verdict
from memsinks.errors import ConfigError, InputError
from memsinks.removal.target import Target
from memsinks.runs.run import execute


def planned_audit(folder, output, *, config=None, against=None, sections=("losses",)):
    text = TextConfig(documents=3)
    found = audited(folder, text, target=Target(sources=("ashford",)), corpus=None, against=against or {})
    return plan_audit(found, config or AuditConfig(text=text), output, sections=sections)


def verdict(key, answer):
    return Verdict(key=key, question=f"{key}?", answer=answer, condition="model", says="")


def test_sets_with_other_questions_are_counted_by_question():
    counted = calibration._counted(
        [
            [verdict("held", "not measured"), verdict("extractable", "no"), verdict("member", "yes")],
            [verdict("extractable", "no"), verdict("member", "no")],
        ]
    )
    assert [(c["key"], c["answered"], c["yes"]) for c in counted] == [("extractable", 2, 0), ("member", 2, 1)]


def test_nothing_but_results_is_left(trained, tmp_path):
    audit = planned_audit(trained("disjoint"), tmp_path / "a", sections=("losses", "capability"))
    calibrate(audit, tmp_path / "a", 2, sections=["losses", "capability"])
    left = sorted(file.name for file in (tmp_path / "a" / "calibration").iterdir())
    assert left == ["tasks-0", "tasks-1"]


def test_the_reference_of_the_membership_attacks_is_there(corpus, trained, tmp_path):
    execute(configured(corpus, tmp_path / "plain", {"attach": False}))
    config = AuditConfig(text=TextConfig(documents=3), membership=MembershipConfig(reference="standard"))
    against = {"standard": tmp_path / "plain"}
    audit = planned_audit(trained("disjoint"), tmp_path / "a", config=config, against=against, sections=("membership",))
    calibrate(audit, tmp_path / "a", 1, sections=["membership"])
    files = [json.loads(file.read_text()) for file in (tmp_path / "a" / "calibration").glob("tasks-0/*.json")]
    measures = {f["measure"] for file in files for f in file["findings"]["figures"]}
    assert "loss against standard" in measures


def test_the_estimate_is_of_all_sets(trained, tmp_path):
    audit = planned_audit(trained("disjoint"), tmp_path / "a")
    one, three = (expected_seconds(audit, tmp_path / "a", sets, sections=["losses"]) for sets in (1, 3))
    assert one > 0
    assert three == pytest.approx(3 * one)
    assert expected_seconds(audit, tmp_path / "a", 0) == 0


def test_what_cannot_be_calibrated_is_refused(trained, tmp_path):
    texts = planned_audit(trained("disjoint"), tmp_path / "a").audited.texts
    with pytest.raises(ConfigError, match="must be at least 1, not -1"):
        check_calibration(texts, -1)
    check_calibration(texts, 1)
    with pytest.raises(InputError, match="too few to draw"):
        check_calibration(calibration._innocent(texts, range(len(texts.unseen) - 2)), 1)
