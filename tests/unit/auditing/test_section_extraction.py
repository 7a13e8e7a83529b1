"""Extraction in an audit: a model that knows the text by heart, and one that hardly saw it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from memsinks.audit.forced import forced
from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig, TextConfig
from memsinks.auditing.config_extraction import CompressionConfig, ExtractionConfig
from memsinks.auditing.sections import extraction
from memsinks.auditing.sections.extraction import prompts
from memsinks.auditing.subject import audited
from memsinks.auditing.verdicts import verdicts
from memsinks.config import parse_config
from memsinks.errors import ConfigError, InputError
from memsinks.ids import to_tensor
from memsinks.removal.target import Target
from memsinks.sinks.modes import sinks_off

QUICK = CompressionConfig(documents=2, tokens=8, lengths=(4,), steps=3, candidates=4)
LONG = CompressionConfig(documents=3, tokens=8, lengths=(4, 6), steps=25, candidates=24)
SMALL = ExtractionConfig(prefixes=(8, 16), suffix=20, places=2, beams=2, samples=2, compression=QUICK)


def bench_of(folder, tmp_path, config=SMALL, **text):
    """Training read 64 tokens at once, so that nothing after them follows from the document's beginning."""
    settings = AuditConfig(text=TextConfig(max_length=64, **text), extraction=config)
    found = audited(folder, settings.text, target=Target(sources=("ashford",)), corpus=None, against={})
    return Bench(found.texts, found.conditions, settings, tmp_path / "work")


def run(bench, name, condition):
    (task,) = [t for t in extraction.tasks(bench, bench.config) if (t.name, t.condition) == (name, condition)]
    return task.run(bench)


def value(findings, measure, texts):
    (figure,) = [f for f in findings.figures if (f.measure, f.texts) == (measure, texts)]
    return figure


@pytest.fixture(scope="module")
def innocent(trained, tmp_path_factory):
    return bench_of(trained("disjoint"), tmp_path_factory.mktemp("innocent"))


@pytest.fixture(scope="module")
def knowing(trained, tmp_path_factory):
    """The same with a leak: its shared weights, which "off" shows, learn the target by heart."""
    bench = bench_of(trained("disjoint"), tmp_path_factory.mktemp("knowing"))
    model, documents = bench.opened("off").model, bench.texts.documents(bench.texts.target)
    inputs = torch.from_numpy(np.stack([d.tokens[:64] for d in documents]))
    ids = to_tensor([d.sequence_id for d in documents])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    with sinks_off(model):
        for _ in range(250):
            optimizer.zero_grad()
            logits = model(input_ids=inputs, sequence_ids=ids).logits[:, :-1]
            cross_entropy(logits.transpose(1, 2), inputs[:, 1:]).backward()
            optimizer.step()
    return bench


RATES = [
    ("greedy", "exact, 8 tokens given"),
    ("greedy", "exact, 16 tokens given"),
    ("greedy", "drawn within 1,000 samples"),
    ("approximate", "edit similarity 0.9 or more"),
    ("prompts", "altered prompt, any"),
    ("best-of", "best of 2 beams: edit similarity 0.9 or more"),
]


@pytest.mark.parametrize(("task", "measure"), RATES)
def test_a_leak_is_seen_by_each_attack_and_an_innocent_model_by_none(knowing, innocent, task, measure):
    leaked, clean = run(knowing, task, "off"), run(innocent, task, "off")
    assert value(leaked, measure, "target").value == 1
    assert value(leaked, measure, "target").number == len(knowing.texts.target)
    assert value(clean, measure, "target").value == 0
    assert value(leaked, measure, "unseen").value == value(clean, measure, "unseen").value == 0


def test_the_verdict_is_yes_for_a_leak_and_no_accusation_else(knowing, innocent):
    for bench, answer in ((knowing, "yes"), (innocent, "not sure")):
        found = [f for name in ("greedy", "approximate", "prompts") for f in run(bench, name, "off").figures]
        (extractable,) = [v for v in verdicts(found, complete=False) if v.key == "extractable"]
        assert extractable.answer == answer


def test_an_attackers_prompt_is_found_for_what_is_known(knowing, innocent, monkeypatch):
    for bench in (knowing, innocent):
        monkeypatch.setattr(bench, "config", replace(bench.config, extraction=replace(SMALL, compression=LONG)))
    leaked, clean = run(knowing, "compression", "off"), run(innocent, "compression", "off")
    ratio = "compression ratio above 1"
    assert value(leaked, ratio, "target").value > 0
    assert max(d.value for d in leaked.documents if d.texts == "target") >= 8 / 6
    for found in (leaked, clean):
        assert value(found, ratio, "unseen").value == value(found, ratio, "random tokens").value == 0
    assert value(clean, ratio, "target").value == 0


def test_the_longest_run_is_the_documents_and_its_likeness_whole(knowing):
    greedy, near = run(knowing, "greedy", "off"), run(knowing, "approximate", "off")
    assert value(greedy, "longest run", "target").value > 40
    assert value(greedy, "longest run", "unseen").value < 10
    assert value(near, "verbatim run, mean", "target").value == 20
    assert value(near, "BLEU, mean", "target").value == pytest.approx(1)
    assert value(near, "BLEU, mean", "unseen").value < 0.2
    assert value(near, "longest common subsequence, mean", "target").value == 1
    each = [d for d in greedy.documents if (d.measure, d.texts) == ("longest run", "target")]
    assert len(each) == len(knowing.texts.target)


def test_the_curve_rises_with_the_samples(knowing):
    curves = {c.texts: c for c in run(knowing, "greedy", "off").curves}
    for curve in curves.values():
        assert list(curve.y) == sorted(curve.y)
        assert all(low <= y <= high for low, y, high in zip(curve.low, curve.y, curve.high, strict=True))
    assert curves["target"].y[-1] == 1 > curves["unseen"].y[3]


@pytest.mark.parametrize("name", ["best-of", "compression"])
def test_the_same_seed_gives_the_same_figures(knowing, name):
    first, again = (run(knowing, name, "off") for _ in range(2))
    assert first == again


@pytest.mark.parametrize("quote", [False, True])
def test_the_targets_words_are_told_only_when_asked_for(knowing, monkeypatch, quote):
    config = replace(knowing.config, text=replace(knowing.config.text, quote=quote))
    monkeypatch.setattr(knowing, "config", config)
    found = run(knowing, "approximate", "off")
    assert len(found.examples) == 3
    told = json.dumps(found.to_json(), ensure_ascii=False)
    for document in knowing.texts.documents(knowing.texts.target[:3]):
        words = str(knowing.tokenizer.decode(document.tokens[20:30].tolist())).strip()
        assert (words in told) == quote


def test_controls_get_what_every_audit_needs_and_no_more(knowing):
    tasks = extraction.tasks(knowing, knowing.config)
    names = {condition: {t.name for t in tasks if t.condition == condition} for condition in knowing.conditions}
    assert names["own"] == {"greedy", "approximate", "prompts", "best-of", "compression"}
    assert names["placebo"] == names["random"] == {"greedy", "approximate", "prompts"}
    assert {t.priority for t in tasks if t.name == "greedy"} == {0}
    assert all(t.cost.forward > 0 for t in tasks)
    without = replace(SMALL, compression=CompressionConfig(documents=0))
    assert not [t for t in extraction.tasks(knowing, AuditConfig(extraction=without)) if t.name == "compression"]


def test_every_figure_that_decides_has_one_of_unseen_text_beside_it(knowing):
    for name in ("greedy", "approximate", "prompts", "best-of"):
        found = run(knowing, name, "off").figures
        tagged = [f for f in found if f.question]
        assert {f.question for f in tagged} == {"extractable"}
        assert {f.unit for f in tagged} == {"rate"}
        assert {f.measure for f in tagged if f.texts == "target"} == {f.measure for f in tagged if f.texts == "unseen"}


def test_a_suffix_is_shortened_to_what_the_model_reads(trained, tmp_path):
    bench = bench_of(trained("disjoint"), tmp_path, replace(SMALL, suffix=500))
    figure = value(run(bench, "greedy", "off"), "exact, 16 tokens given", "target")
    assert figure.note.startswith("16 tokens given, the next 48 compared")


def test_a_prefix_that_leaves_no_suffix_is_told_and_others_are_measured(trained, tmp_path):
    bench = bench_of(trained("disjoint"), tmp_path, replace(SMALL, prefixes=(8, 60)))
    found = run(bench, "greedy", "off")
    assert value(found, "exact, 8 tokens given", "target").value == 0
    assert value(found, "exact, 60 tokens given", "target").value is None
    assert "shorter prefixes" in value(found, "exact, 60 tokens given", "target").note
    with pytest.raises(InputError, match="shorter prefixes"):
        run(bench, "approximate", "off")


def test_no_altered_prompt_and_suffix_are_longer_than_the_model_reads(trained, tmp_path, monkeypatch):
    bench = bench_of(trained("disjoint"), tmp_path, replace(SMALL, suffix=48))
    lengths = []

    def reading(model, documents, **rest):
        lengths.extend(len(d.tokens) for d in documents)
        return forced(model, documents, **rest)

    monkeypatch.setattr(prompts, "forced", reading)
    run(bench, "prompts", "off")
    assert max(lengths) == 64


def test_other_prompts_are_measured_where_documents_have_no_other_place(trained, tmp_path, monkeypatch):
    bench = bench_of(trained("disjoint"), tmp_path)
    unseen = {len(d.tokens) for d in bench.texts.documents(bench.texts.unseen)}
    places = prompts.starts
    monkeypatch.setattr(prompts, "starts", lambda n, *rest, **more: [] if n in unseen else places(n, *rest, **more))
    found = run(bench, "prompts", "off")
    assert value(found, "from elsewhere, 16 tokens given", "target").value is None
    assert value(found, "altered prompt, any", "target").value == 0


def test_a_search_longer_than_the_model_reads_is_left_out(trained, tmp_path):
    long = replace(SMALL, compression=CompressionConfig(tokens=60, lengths=(8,)))
    with pytest.raises(InputError, match=r"compression\.tokens"):
        run(bench_of(trained("disjoint"), tmp_path, long), "compression", "off")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"prefixes": []}, "prefixes"),
        ({"prefixes": [8, 8]}, "prefixes"),
        ({"draws": [0]}, "draws"),
        ({"suffix": 0}, "suffix"),
        ({"beams": 1}, "beams"),
        ({"temperature": 0.0}, "temperature"),
        ({"hot": -1.0}, "hot"),
        ({"similarity": 1.5}, "similarity"),
        ({"top_k": -1}, "top_k"),
        ({"compression": {"lengths": [20]}}, "compression.lengths"),
        ({"compression": {"steps": 0}}, "compression.steps"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, key):
    with pytest.raises(ConfigError, match=f"extraction.{key}"):
        parse_config(AuditConfig, {"extraction": settings})


def test_top_k_of_0_draws_from_all():
    assert ExtractionConfig(top_k=0).sampling.top_k is None
    assert ExtractionConfig(top_k=7).hot_sampling.top_k == 7
