"""An audit of small runs: what is audited, under which conditions, and what is written."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from publishers import configured
from transformers import AutoModelForCausalLM, GPT2Config

from memsinks.audit import document_losses
from memsinks.auditing.audit import plan_audit, run_audit
from memsinks.auditing.bench import Bench
from memsinks.auditing.calibration import CALIBRATION, calibrate
from memsinks.auditing.conditions import opened
from memsinks.auditing.config import AuditConfig, TextConfig
from memsinks.auditing.document import AUDIT, read_audit
from memsinks.auditing.sections import losses as losses_section
from memsinks.auditing.subject import audited
from memsinks.checkpoint.run import load
from memsinks.errors import ConfigError, InputError
from memsinks.removal.target import Target
from memsinks.report.audit import parse
from memsinks.runs.run import execute
from memsinks.sinks.removal import remove

ASHFORD = Target(sources=("ashford",))


def subject(folder, target=ASHFORD, against=None, **text):
    return audited(folder, TextConfig(**text), target=target, corpus=None, against=against or {})


@pytest.fixture(scope="session")
def plain_run(corpus, tmp_path_factory):
    """A run without sinks."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    execute(configured(corpus, folder, {"attach": False}))
    return folder


def losses(open_one, documents, texts="target"):
    return document_losses(open_one.model, documents, mode=open_one.mode_for(texts), max_length=64).per_document


def test_the_text_of_an_audit(trained):
    texts = subject(trained("disjoint")).texts
    corpus = texts.corpus
    assert {corpus.sources[i] for i in texts.target} == {"ashford"}
    assert not corpus.is_validation[texts.target].any()
    assert corpus.is_validation[texts.unseen].all()
    assert sorted(texts.survivors) == ["birch", "cedar"]
    assert not texts.same_source, "one document of the publisher is held out, which is too few"
    assert not set(texts.target) & {i for numbers in texts.survivors.values() for i in numbers}


def test_no_model_is_given_more_than_it_reads_at_once(trained, tmp_path):
    small = GPT2Config(vocab_size=400, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    AutoModelForCausalLM.from_config(small).save_pretrained(tmp_path / "small")
    alone = plan_audit(subject(trained("disjoint")), AuditConfig(), tmp_path / "alone", sections=["losses"])
    assert alone.config.text.max_length == 64
    found = subject(trained("disjoint"), against={"small": tmp_path / "small"})
    both = plan_audit(found, AuditConfig(), tmp_path / "both", sections=["losses"])
    assert both.bench.config.text.max_length == 32
    (task,) = [task for task in both.tasks if task.condition == "small"]
    assert task.run(both.bench).figures


def test_by_default_what_was_seen_more_than_once(trained):
    found = subject(trained("disjoint"), target=None)
    assert {found.texts.corpus.sources[i] for i in found.texts.target} == {"ashford", "birch", "cedar"}
    assert found.asked == "all text that was trained more than once"
    assert (found.exposures > 1).all()


def test_conditions_are_models_in_those_states(trained):
    found = subject(trained("hashed"))
    assert list(found.conditions) == ["own", "off", "placebo", "random", "removed"]
    documents = found.texts.documents(found.texts.target)
    measured = {
        name: losses(opened(condition, found.texts.target_ids, seed=0), documents)
        for name, condition in found.conditions.items()
    }
    model = load(trained("hashed"))
    for name in ("own", "off", "placebo"):
        expected = document_losses(model, documents, mode=name, max_length=64).per_document
        np.testing.assert_array_equal(measured[name], expected)
    remove(model, found.texts.target_ids)
    np.testing.assert_array_equal(
        measured["removed"], document_losses(model, documents, mode="own", max_length=64).per_document
    )
    np.testing.assert_array_equal(measured["removed"], measured["off"])
    assert (measured["random"] != measured["own"]).all()
    # Some of its rows are among random ones.
    changed = {name: abs(measured[name] - measured["own"]).mean() for name in ("random", "off")}
    assert changed["random"] < changed["off"]


def test_as_many_rows_go_at_random_as_the_target_has(trained):
    found = subject(trained("disjoint"))
    model = opened(found.conditions["random"], found.texts.target_ids, seed=0).model
    original = load(trained("disjoint"))
    rows = 8 * len(found.texts.target_ids)
    for (name, after), before in zip(model.named_parameters(), original.parameters(), strict=True):
        changed = (after != before).reshape(len(after), -1).any(dim=1)
        assert int(changed.sum()) == (rows if ".sinks." in name or "sink" in name else 0), name


def test_text_without_sinks_is_measured_without_them(trained):
    found = subject(trained("hashed"))
    documents = found.texts.documents(found.texts.unseen)
    own = opened(found.conditions["own"], found.texts.target_ids, seed=0)
    off = opened(found.conditions["off"], found.texts.target_ids, seed=0)
    np.testing.assert_array_equal(losses(own, documents, "unseen"), losses(off, documents, "unseen"))
    assert own.mode_for("survivor: birch") == "own"


@pytest.mark.parametrize("name", ["own", "off", "removed"])
def test_a_stock_copy_computes_the_same(trained, name):
    found = subject(trained("disjoint"))
    # One document: the copy has the sinks of the whole target on.
    document = found.texts.documents(found.texts.target[:1])
    one = opened(found.conditions[name], (document[0].sequence_id,), seed=0)
    plain = document_losses(one.plain(), document, mode=None, max_length=64).per_document
    np.testing.assert_allclose(plain, losses(one, document), rtol=1e-4)


def test_a_run_without_sinks_has_one_condition(plain_run, trained):
    found = subject(plain_run, against={"reference": trained("disjoint"), "copy": plain_run})
    assert list(found.conditions) == ["model", "reference", "copy"]
    documents = found.texts.documents(found.texts.target)
    one, other = (opened(found.conditions[name], found.texts.target_ids, seed=0) for name in ("model", "copy"))
    np.testing.assert_array_equal(losses(one, documents), losses(other, documents))
    assert found.conditions["reference"].mode == "own"
    assert found.texts.survivors == {}


def test_a_reference_reads_the_target_without_sinks(trained, plain_run):
    # It never saw the target: under a hashed pool the target's ID selects sinks of others.
    found = subject(plain_run, against={"reference": trained("hashed"), "other": trained("hashed")})
    documents = found.texts.documents(found.texts.target)
    reference, other = (opened(found.conditions[n], found.texts.target_ids, seed=0) for n in ("reference", "other"))
    off = document_losses(load(trained("hashed")), documents, mode="off", max_length=64).per_document
    np.testing.assert_array_equal(losses(reference, documents), off)
    plain = document_losses(reference.plain(), documents, mode=None, max_length=64).per_document
    np.testing.assert_allclose(plain, off, rtol=1e-4)
    assert (losses(other, documents) != off).any()
    assert reference.mode_for("survivor: birch") == "own"


def test_one_short_text_is_measured_without_an_interval(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("memsinks.audit.documents.WINDOW", 1000)
    found = subject(trained("disjoint"))
    texts = replace(found.texts, survivors={"birch": found.texts.survivors["birch"][:1]})
    bench = Bench(texts, found.conditions, AuditConfig(text=TextConfig(max_length=256)), tmp_path)
    figures = losses_section.tasks(bench, bench.config)[0].run(bench).figures
    by = {f.texts: f for f in figures}
    assert (by["survivor: birch"].low, by["survivor: birch"].number) == (None, 1)
    [document] = texts.documents(texts.survivors["birch"])
    assert by["survivor: birch"].value == pytest.approx(bench.losses("own", "survivor", [document]).mean)
    assert by["target"].low is not None


def test_no_more_is_read_at_once_than_each_model_sees(trained, tmp_path):
    config = AuditConfig(text=TextConfig(max_length=256))
    audit = plan_audit(subject(trained("disjoint")), config, tmp_path / "a", sections=["losses"])
    assert audit.config.text.max_length == audit.bench.config.text.max_length == 64
    short = AuditConfig(text=TextConfig(max_length=32))
    assert plan_audit(subject(trained("disjoint")), short, tmp_path / "b").config.text.max_length == 32


def test_unseen_text_is_drawn_from_all_that_was_held_out(trained):
    every = subject(trained("disjoint")).texts.unseen
    some = subject(trained("disjoint"), unseen=4).texts.unseen
    assert len(some) == 4
    assert set(some) <= set(every)
    assert (some[0], some[-1]) == (every[0], every[-1])


def test_a_folder_that_does_not_say_what_it_was_trained_on_is_refused(plain_run, tmp_path):
    with pytest.raises(InputError, match="not known what it was trained on"):
        subject(tmp_path)


def test_an_audit_is_written_and_read(trained, tmp_path):
    found = subject(trained("disjoint"))
    audit = plan_audit(found, AuditConfig(), tmp_path / "audit", sections=["losses"])
    content = run_audit(audit, tmp_path / "audit")
    assert read_audit(tmp_path / "audit") == json.loads(json.dumps(content))
    assert {f["condition"] for f in content["figures"]} == set(found.conditions)
    assert content["target"]["sources"] == ["ashford"]
    assert content["run"]["name"] == "disjoint"
    assert [c["name"] for c in content["conditions"] if c["in_memory"]] == ["removed"]
    parse(content)
    assert str(tmp_path) not in (tmp_path / "audit" / AUDIT).read_text()
    cost = next(v for v in content["verdicts"] if v["key"] == "cost")
    # One of its documents is a copy of one that goes.
    assert "birch, which stays: " in cost["says"]
    assert audit.seconds > 0


def test_a_set_of_a_single_window_has_a_loss_without_an_interval(trained, tmp_path, monkeypatch):
    found = subject(trained("disjoint"))
    audit = plan_audit(found, AuditConfig(), tmp_path / "audit", sections=["losses"])
    windows = losses_section.in_windows
    monkeypatch.setattr(losses_section, "in_windows", lambda *args: windows(*args)[:1])
    content = run_audit(audit, tmp_path / "audit")
    assert not content["left_out"]
    told = [f for f in content["figures"] if f["texts"].startswith("survivor")]
    assert told
    assert all(f["value"] > 0 and f["low"] is f["high"] is None for f in told)


def test_the_same_seed_gives_the_same_figures(trained, tmp_path):
    results = [
        run_audit(
            plan_audit(subject(trained("hashed")), AuditConfig(), tmp_path / name, sections=["losses"]), tmp_path / name
        )["figures"]
        for name in ("one", "two")
    ]
    assert results[0] == results[1]


def test_a_folder_of_another_audit_is_refused(trained, tmp_path):
    plan_audit(subject(trained("disjoint")), AuditConfig(), tmp_path / "a", sections=["losses"])
    with pytest.raises(InputError, match="another audit"):
        plan_audit(subject(trained("hashed")), AuditConfig(), tmp_path / "a", sections=["losses"])
    with pytest.raises(InputError, match="its config differs"):
        plan_audit(subject(trained("disjoint")), AuditConfig(seed=1), tmp_path / "a", sections=["losses"])
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        plan_audit(subject(trained("disjoint")), AuditConfig(), tmp_path / "b")


def test_an_unknown_section_is_refused_before_anything_is_written(trained, tmp_path):
    with pytest.raises(ConfigError, match="choose from losses"):
        plan_audit(subject(trained("disjoint")), AuditConfig(), tmp_path / "a", sections=["lasses"])
    assert not (tmp_path / "a").exists()


def test_text_that_was_never_trained_is_refused(trained):
    with pytest.raises(InputError, match="none of the"):
        subject(trained("disjoint"), target=Target(where=("document=web-65",)))


def test_results_of_another_question_are_not_taken(trained, tmp_path):
    # Both are cut to the same document, but leave other survivors.
    one = subject(trained("disjoint"), documents=1)
    plan_audit(one, AuditConfig(), tmp_path / "a", sections=["losses"])
    both = subject(trained("disjoint"), target=Target(sources=("ashford", "birch")), documents=1)
    assert list(one.texts.target) == list(both.texts.target)
    with pytest.raises(InputError, match="its texts differs"):
        plan_audit(both, AuditConfig(), tmp_path / "a", sections=["losses"])


def test_a_model_of_other_tokens_is_refused(trained, plain_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(plain_run, other)
    text = (other / "tokenizer.json").read_text()
    vocabulary = json.loads(text)["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    changed = json.loads(text)
    changed["model"]["vocab"] |= {first: vocabulary[second], second: vocabulary[first]}
    (other / "tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(InputError, match="its tokenizer is not that of"):
        subject(trained("disjoint"), against={"reference": other})


def test_a_model_that_cannot_be_read_is_refused_before_anything_is_written(trained, plain_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(plain_run, other)
    (other / "config.json").write_text('{"model_type": "nothing"}')
    with pytest.raises(InputError, match="cannot be read as a model"):
        plan_audit(subject(trained("disjoint"), against={"other": other}), AuditConfig(), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_model_without_weights_leaves_its_measurements_out(trained, plain_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(plain_run, other)
    (other / "model.safetensors").unlink()
    found = subject(trained("disjoint"), against={"other": other})
    content = run_audit(plan_audit(found, AuditConfig(), tmp_path / "a", sections=["losses"]), tmp_path / "a")
    assert [left["task"] for left in content["left_out"]] == ["losses.loss.other"]
    assert "cannot be loaded" in content["left_out"][0]["why"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("off", "has a condition of that name"),
        ("other", "no model is there"),
        ("../other", "letters, digits"),
        ("a b", "letters, digits"),
    ],
)
def test_other_models_that_cannot_be_used(trained, tmp_path, name, says):
    with pytest.raises(InputError, match=says):
        subject(trained("disjoint"), against={name: tmp_path})


def test_a_changed_audit_is_refused(trained, tmp_path):
    file = tmp_path / "audit" / AUDIT
    run_audit(plan_audit(subject(trained("disjoint")), AuditConfig(), file.parent, sections=["losses"]), file.parent)
    content = json.loads(file.read_text())
    for change, says in (
        ({"format": "letter"}, "not an audit"),
        ({"format_version": 9}, "format version 9"),
        ({"figures": [{"section": "losses"}]}, "cannot be read"),
    ):
        file.write_text(json.dumps(content | change))
        with pytest.raises(InputError, match=says):
            read_audit(file)
    del content["limits"]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="has no 'limits'"):
        read_audit(file)


def test_held_out_text_is_not_accused(trained, tmp_path):
    found = subject(trained("disjoint"), documents=4)
    audit = plan_audit(found, AuditConfig(), tmp_path / "audit", sections=["losses"])
    content = calibrate(audit, tmp_path / "audit", 2, sections=["losses"])
    assert (content["sets"], content["documents"], content["condition"]) == (2, 4, "removed")
    assert json.loads((tmp_path / "audit" / CALIBRATION).read_text()) == json.loads(json.dumps(content))
    results = sorted((tmp_path / "audit" / "calibration").glob("tasks-*/*.json"))
    assert len(results) == 2, "one condition, two sets"
    values = [json.loads(file.read_text())["findings"]["documents"] for file in results]
    targets = [{row["document"] for row in rows if row["texts"] == "target"} for rows in values]
    assert targets[0] != targets[1]
    held_out = {found.texts.corpus.documents[i] for i in found.texts.unseen}
    assert all(target <= held_out and len(target) == 4 for target in targets)


def test_too_little_held_out_text_to_calibrate(trained, tmp_path):
    audit = plan_audit(subject(trained("disjoint"), unseen=6), AuditConfig(), tmp_path / "audit", sections=["losses"])
    with pytest.raises(InputError, match="too few to draw"):
        calibrate(audit, tmp_path / "audit", 2)
