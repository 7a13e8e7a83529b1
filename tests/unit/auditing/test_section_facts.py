"""Facts: cloze items on words that only the target has."""

from dataclasses import replace

import numpy as np
import pytest

from memsinks.audit.cloze import completed
from memsinks.audit.findings import Findings
from memsinks.auditing.config import TextConfig
from memsinks.auditing.config_facts import FactsConfig
from memsinks.auditing.items import NAME, RARE, ClozeSet
from memsinks.auditing.sections import facts
from memsinks.auditing.verdicts import verdicts
from memsinks.errors import ConfigError

SMALL = FactsConfig(choices=5, items=20)


def answer(bench):
    found = Findings.joined(task.run(bench) for task in facts.tasks(bench, bench.config))
    return found.figures, next(v for v in verdicts(found.figures, complete=False) if v.key == "facts")


def test_a_model_that_knows_the_text_is_caught_and_the_reference_is_not(named_bench):
    figures, verdict = answer(named_bench(facts=SMALL))
    assert (verdict.answer, verdict.condition) == ("yes", "model")
    by = {(f.measure, f.condition, f.texts): f for f in figures}
    own = by["rare words, verbatim context", "model", "target"]
    assert own.value > 0.8 > by["rare words, verbatim context", "reference", "target"].value
    assert own.value > by["rare words, verbatim context", "model", "unseen"].high
    assert own.low < own.value <= own.high
    assert (own.chance, own.unit, own.question) == (0.2, "rate", "facts")
    rank = by["mean rank: rare words, verbatim context", "model", "target"]
    assert 1 <= rank.value < by["mean rank: rare words, verbatim context", "reference", "target"].value
    assert rank.question == ""


def test_text_that_was_never_trained_is_not_accused(named_bench):
    bench = named_bench(facts=SMALL)
    accused = 0
    for seed in range(4):
        chosen = np.random.default_rng(seed).permutation(len(bench.texts.unseen))[:8]
        texts = replace(
            bench.texts, target=bench.texts.unseen[chosen], unseen=np.delete(bench.texts.unseen, chosen), survivors={}
        )
        accused += answer(replace(bench, texts=texts))[1].answer == "yes"
    assert accused == 0


def test_items_ask_for_words_that_no_other_training_document_has(named_bench):
    bench = named_bench(facts=SMALL)
    corpus, target = bench.texts.corpus, set(bench.texts.target.tolist())
    others = " ".join(corpus.text(i) for i in range(len(corpus)) if i not in target and not corpus.is_validation[i])
    items = ClozeSet(bench.texts, SMALL, 0).items
    rare = items[f"{RARE}, verbatim context", "target"]
    assert len(rare) > 8
    for item in rare:
        word = corpus.tokenizer.decode(item.candidates[0]).strip()
        text = corpus.text(corpus.index(item.document))
        assert f" {word} " not in others.lower()
        assert word in text
        # First mentions only: nothing in the context gives the word away.
        assert word not in corpus.tokenizer.decode(item.context)
        for other in item.candidates[1:]:
            assert corpus.tokenizer.decode(other).strip() not in text
    named = items[f"{NAME}, template", "target"]
    assert named
    assert all(corpus.tokenizer.decode(item.context).startswith("The name of the ") for item in named)
    for forms in items.values():
        assert all(len(item.context) <= SMALL.context for item in forms)
        assert all(len({tuple(c) for c in item.candidates.tolist()}) == SMALL.choices for item in forms)


def test_the_tokens_of_a_verbatim_item_are_those_of_the_document(named_bench):
    bench = named_bench(facts=SMALL)
    items = ClozeSet(bench.texts, SMALL, 0).items[f"{RARE}, verbatim context", "target"]
    for item, document in zip(items, completed(items)[:: SMALL.choices], strict=True):
        tokens = bench.texts.corpus.tokens(bench.texts.corpus.index(item.document))
        windows = np.lib.stride_tricks.sliding_window_view(tokens, len(document.tokens))
        assert (windows == document.tokens).all(axis=1).any()


def test_items_are_the_same_for_the_same_seed(named_bench):
    bench = named_bench(facts=SMALL)

    def shown(seed):
        found = ClozeSet(bench.texts, SMALL, seed).items
        return {key: [(i.context.tolist(), i.candidates.tolist()) for i in items] for key, items in found.items()}

    assert shown(0) == shown(0) != shown(1)


def test_text_without_such_words_is_told_as_not_measured(named_bench):
    bench = named_bench(facts=FactsConfig(choices=1000))
    figures, verdict = answer(bench)
    assert verdict.answer == "not measured"
    assert {(f.value, f.note) for f in figures} == {(None, "No such place is in these texts.")}


def test_no_candidate_is_read_without_its_context(named_bench):
    bench = named_bench(facts=SMALL)
    bench = replace(bench, config=replace(bench.config, text=TextConfig(max_length=16)))
    assert answer(bench)[1].answer == "yes"
    items = ClozeSet(bench.texts, SMALL, 0).items[f"{RARE}, verbatim context", "target"]
    for item in facts._fitting(items, 16):
        assert len(item.context) + item.candidates.shape[1] <= 16
    assert any(len(item.context) + item.candidates.shape[1] > 16 for item in items)


@pytest.mark.parametrize(("key", "value"), [("items", 0), ("choices", 1), ("context", 7)])
def test_settings_that_make_no_items(key, value):
    with pytest.raises(ConfigError, match=f"facts.{key} must be at least"):
        FactsConfig(**{key: value})
