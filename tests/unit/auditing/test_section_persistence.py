"""Persistence: the same measures after further training."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks.audit.contrast import advantage_difference
from memsinks.audit.findings import Findings
from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.config_persistence import PersistenceConfig
from memsinks.auditing.sections import persistence
from memsinks.auditing.subject import audited
from memsinks.auditing.verdicts import verdicts
from memsinks.removal.target import Target

SMALL = PersistenceConfig(steps=2, rows=4, length=16, prefix=24, suffix=44, documents=20)


def answer(bench):
    found = Findings.joined(task.run(bench) for task in persistence.tasks(bench, bench.config))
    return found.figures, next(v for v in verdicts(found.figures, complete=False) if v.key == "persists")


def test_what_is_known_by_heart_stays_and_what_never_was_does_not_come(named_bench):
    bench = named_bench(persistence=SMALL)
    figures, verdict = answer(bench)
    assert (verdict.answer, verdict.condition) == ("yes", "model")
    by = {(f.measure, f.condition, f.texts): f for f in figures}
    for method in ("supervised fine-tuning", "preference tuning"):
        exact = f"exact, 24 tokens given and 44 to come, after {method}"
        assert by[exact, "model", "target"].low > by[exact, "model", "unseen"].value
        assert by[exact, "reference", "target"].value == 0
        assert by[f"head start over the reference, after {method}", "model", "target"].low > 0.5
        regained = by[f"regained after {method}", "reference", "target"]
        assert regained.low < 0 < regained.high or regained.value < 0
    assert by["loss before further training", "model", "unseen"].number == 20
    tagged = {f.measure for f in figures if f.question}
    assert all(name.startswith(("exact", "regained")) and "after" in name for name in tagged)


def test_what_no_model_sees_at_once_is_said_to_be_missing(named_bench):
    bench = named_bench(persistence=replace(SMALL, prefix=100, suffix=100))
    task = next(t for t in persistence.tasks(bench, bench.config) if t.key == "persistence.before.model")
    missing = [f for f in task.run(bench).figures if f.measure.startswith("exact")]
    assert {(f.texts, f.value) for f in missing} == {("target", None), ("unseen", None)}
    assert all("--persistence.prefix" in f.note for f in missing)


def test_regained_is_what_the_text_gains_beyond_unseen_text(named_bench):
    bench = named_bench(persistence=SMALL)
    before, after = (persistence._measured(bench, "model", stage) for stage in ("before", "supervised fine-tuning"))
    task = next(t for t in persistence.tasks(bench, bench.config) if t.key == "persistence.supervised.model")
    figure = next(f for f in task.run(bench).figures if f.measure.startswith("regained"))
    gains = {name: before.losses[name].mean - after.losses[name].mean for name in ("target", "unseen")}
    assert figure.value == pytest.approx(gains["target"] - gains["unseen"])
    assert figure.value != 0
    assert figure.high < persistence.DRIFT == figure.chance


def test_text_that_comes_back_is_caught():
    """Losses of text that resurfaces: lower after training, where unseen text is not."""
    random, tokens = np.random.default_rng(0), np.full(12, 100)

    def measured(target, unseen):
        made = {}
        for name, gain in (("target", target), ("unseen", unseen)):
            sums = (random.normal(3, 0.1, 12) - gain) * tokens
            made[name] = persistence.DocumentLosses(tuple(f"{name}-{i}" for i in range(12)), sums, tokens)
        return persistence._Measured(made, {})

    back = persistence._beyond_unseen(measured(1.0, 0.0), measured(0.0, 0.0))
    away = persistence._beyond_unseen(measured(0.0, 0.0), measured(0.0, 0.0))
    assert back.low > 0.5
    assert away.low < 0 < away.high
    assert isinstance(back, type(advantage_difference(*[measured(0, 0).losses["target"]] * 4)))


def test_the_model_that_is_handed_out_is_trained_without_sinks(trained, tmp_path):
    config = AuditConfig(persistence=PersistenceConfig(steps=1, rows=2, length=8, prefix=9, suffix=9, documents=4))
    found = audited(trained("disjoint"), config.text, target=Target(sources=("ashford",)), corpus=None, against={})
    bench = Bench(found.texts, found.conditions, config, tmp_path)
    tasks = persistence.tasks(bench, config)
    assert [task.condition for task in tasks] == ["removed"] * 3
    before, *_ = (task.run(bench) for task in tasks[:1])
    loss = next(f for f in before.figures if f.measure.startswith("loss") and f.texts == "target")
    off = bench.losses("off", "target", bench.texts.documents(bench.texts.target))
    assert loss.value == pytest.approx(off.mean, rel=1e-3)


def test_a_stopped_audit_does_not_train_again(named_bench, monkeypatch):
    bench = named_bench(persistence=SMALL)
    task = next(t for t in persistence.tasks(bench, bench.config) if t.key == "persistence.supervised.model")
    found = task.run(bench)
    monkeypatch.setattr(persistence, "tuned", lambda *args, **rest: pytest.fail("trained again"))
    assert task.run(bench) == found
