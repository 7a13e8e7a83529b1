"""Capability: held-out text, continuations, and tasks."""

import json

import numpy as np
import pytest

from memsinks.auditing.config_capability import CapabilityConfig
from memsinks.auditing.harness import write_held_out_task
from memsinks.auditing.sections import capability
from memsinks.errors import ConfigError, InputError

SMALL = CapabilityConfig(prompts=8, prefix=12, tokens=16, limit=12, documents=20)


@pytest.fixture
def bench(named_bench):
    return named_bench(capability=SMALL)


def figures(bench, key):
    task = next(t for t in capability.tasks(bench, bench.config) if t.key == f"capability.{key}")
    return {(f.measure, f.texts): f for f in task.run(bench).figures}


def test_perplexity_is_of_held_out_text_of_other_sources(bench):
    found = figures(bench, "perplexity.model")["perplexity", "held out"]
    corpus = bench.texts.corpus
    numbers = capability._general(bench)
    assert corpus.is_validation[numbers].all()
    assert len(numbers) == found.number == 20
    assert found.value == pytest.approx(np.exp(bench.losses("model", "held out", bench.texts.documents(numbers)).mean))
    assert found.low < found.value < found.high


def test_each_model_is_measured_once_on_text_without_sinks(bench, trained, tmp_path):
    assert {t.condition for t in capability.tasks(bench, bench.config)} == {"model", "reference"}


def test_continuations_are_beside_what_the_documents_say(bench):
    found = figures(bench, "continuations.model")
    kinds = [f"continuations, {name}" for name in ("greedy", "sampled", "as held out")]
    for kind in kinds:
        assert 0 <= found["repetition", kind].value <= 1
        assert 0 < found["type-token ratio", kind].value <= found["distinct pairs", kind].value <= 1
    assert found["type-token ratio", kinds[0]].value < found["type-token ratio", kinds[1]].value
    judged = found["loss for reference", kinds[1]]
    assert judged.low < judged.value < judged.high
    same = figures(bench, "continuations.model")
    assert same == found, "the same seed gives the same figures"


def test_without_another_model_nobody_judges(named_bench):
    found = figures(named_bench("press", (), capability=SMALL), "continuations.model")
    assert found["loss for a judge", "continuations, sampled"].value is None


def test_too_long_a_prompt_is_said(named_bench):
    found = figures(named_bench(capability=CapabilityConfig(prefix=150)), "continuations.model")
    assert "0 held-out documents have 192 tokens" in found["repetition", "held out"].note


def test_endings_of_a_task_are_of_one_length_and_the_right_one_is_right(tmp_path):
    texts = [f"start{i} " * 6 + f"end{i} " * (4 + i) for i in range(6)]
    file = write_held_out_task(texts, tmp_path, seed=0)
    rows = [json.loads(line) for line in (tmp_path / "held-out.jsonl").read_text().splitlines()]
    assert json.loads(file.read_text())["dataset_kwargs"]["cache_dir"] == str(tmp_path / "cache")
    assert len(rows) == 6
    for i, row in enumerate(rows):
        assert len(row["endings"]) == 4 == len(set(row["endings"]))
        assert len({len(e.split()) for e in row["endings"]}) == 1
        assert row["endings"][row["right"]].split()[-1] == f"end{i}" or f"start{i}" in row["endings"][row["right"]]
        assert row["beginning"].split()[0] == f"start{i}"
    assert len({row["right"] for row in rows}) > 1
    with pytest.raises(InputError, match="too few"):
        write_held_out_task(texts[:3], tmp_path, seed=0)


def test_the_harness_answers_what_the_model_finds_likeliest(bench, capfd):
    pytest.importorskip("lm_eval")
    found = figures(bench, "task-0.model")["held-out: acc", "task held-out"]
    assert capfd.readouterr().out == ""
    rows = [json.loads(line) for line in (bench.work / "capability" / "held-out.jsonl").read_text().splitlines()]
    tokenizer, model = bench.tokenizer, bench.opened("model").model
    right = 0
    for row in rows[:12]:
        context = tokenizer(row["beginning"], add_special_tokens=False)["input_ids"]
        scores = []
        for ending in row["endings"]:
            whole = tokenizer(row["beginning"] + ending, add_special_tokens=False)["input_ids"]
            scores.append(log_probability(model, whole, len(context)))
        right += int(np.argmax(scores)) == row["right"]
    assert (found.value, found.number, found.unit) == (pytest.approx(right / 12), 12, "acc")
    assert found.low < found.value < found.high


def log_probability(model, tokens, context):
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, :-1].log_softmax(-1)
    return float(logits[range(context - 1, len(tokens) - 1), tokens[context:]].sum())


def test_a_task_that_is_not_there_is_left_out_with_its_reason(bench, tmp_path):
    pytest.importorskip("lm_eval")
    file = tmp_path / "mine.yaml"
    # Without a name of a file, datasets looks at every file below the working directory.
    file.write_text(f"task: mine\ndataset_path: json\ndataset_kwargs:\n  data_files: {tmp_path / 'nowhere.jsonl'}\n")
    bench.config = capability.AuditConfig(text=bench.config.text, capability=CapabilityConfig(tasks=(str(file),)))
    with pytest.raises(InputError, match="cannot be loaded"):
        figures(bench, "task-0.model")
    with pytest.raises(ConfigError, match="no file"):
        CapabilityConfig(tasks=("nowhere.yaml",))


@pytest.mark.parametrize(("key", "value"), [("prompts", 1), ("tokens", 7), ("temperature", 0.0), ("limit", 0)])
def test_settings_that_measure_nothing(key, value):
    with pytest.raises(ConfigError, match=f"capability.{key} must be"):
        CapabilityConfig(**{key: value})
