"""Further training with trl."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from memsinks.audit import TokenizedDocument, document_losses
from memsinks.auditing.config_persistence import PersistenceConfig
from memsinks.auditing.tuning import PREFERENCE, SUPERVISED, pairs, tuned, unrelated
from memsinks.errors import ConfigError, InputError

SMALL = PersistenceConfig(steps=6, rows=4, length=24, learning_rate=3e-3, preference_learning_rate=3e-3)


@pytest.fixture
def model(named_runs):
    return AutoModelForCausalLM.from_pretrained(named_runs["reference"])


@pytest.fixture
def passages(named_corpus):
    return unrelated(named_corpus.tokenizer, 24, 24, without=[])


def documents(rows):
    return [TokenizedDocument(str(i), np.array(row), 0) for i, row in enumerate(rows)]


def loss(model, rows):
    return document_losses(model, documents(rows), mode=None, max_length=64).mean


def test_passages_are_whole_and_not_of_the_text(named_corpus, passages):
    assert {len(row) for row in passages} == {24}
    assert len({tuple(row) for row in passages}) == 24
    marker = named_corpus.tokens(0)[:1]
    without = unrelated(named_corpus.tokenizer, 24, 24, without=[np.array([*marker, *passages[0]])])
    # The document that begins so is left out, and nothing else.
    assert without[:20] == passages[4:]


def test_passages_that_no_text_is_long_enough_for(model, named_corpus, tmp_path):
    long = PersistenceConfig(length=10_000_000)
    passages = unrelated(named_corpus.tokenizer, 4, long.length, without=[])
    with pytest.raises(InputError, match=r"lower --persistence\.length"):
        tuned(model, SUPERVISED, passages, named_corpus.tokenizer, long, work=tmp_path, seed=0)


def test_pairs_have_the_same_words(named_corpus, passages):
    made = pairs(passages, named_corpus.tokenizer, seed=0)
    whole = [named_corpus.tokenizer.decode(row) for row in passages]
    for pair in made:
        assert pair["prompt"] + pair["chosen"] in whole
        assert sorted(pair["chosen"].split(" ")) == sorted(pair["rejected"].split(" "))
        assert pair["chosen"] != pair["rejected"]
    assert len(made) > 15
    assert made == pairs(passages, named_corpus.tokenizer, seed=0) != pairs(passages, named_corpus.tokenizer, seed=1)


def test_supervised_training_learns_its_text_quietly(model, passages, named_corpus, tmp_path, capfd):
    before = loss(model, passages)
    random = torch.get_rng_state()
    found = tuned(model, SUPERVISED, passages, named_corpus.tokenizer, SMALL, work=tmp_path / "work", seed=0)
    assert found is model
    assert loss(found, passages) < before - 0.2
    assert not found.training
    assert not {"forward", "_original_forward"} & set(vars(found))
    assert capfd.readouterr() == ("", "")
    assert (torch.get_rng_state() == random).all()
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_preference_tuning_prefers(model, passages, named_corpus, tmp_path, capfd):
    made = pairs(passages, named_corpus.tokenizer, seed=0)

    def margins(one):
        encoded = {k: [named_corpus.tokenizer(p["prompt"] + p[k])["input_ids"] for p in made] for k in made[0]}
        sums = [document_losses(one, documents(encoded[k]), mode=None, max_length=64).loss_sum for k in encoded]
        return sums[2] - sums[1]

    before = margins(model)
    found = tuned(model, PREFERENCE, passages, named_corpus.tokenizer, SMALL, work=tmp_path / "work", seed=0)
    assert margins(found).mean() > before.mean()
    assert not {"forward", "_original_forward"} & set(vars(found))
    assert capfd.readouterr() == ("", "")
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_the_same_seed_gives_the_same_model(model, passages, named_corpus, tmp_path):
    first, second = (
        tuned(copy.deepcopy(model), SUPERVISED, passages, named_corpus.tokenizer, SMALL, work=tmp_path, seed=3)
        for _ in range(2)
    )
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_without_trl_it_says_what_to_install(model, passages, named_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("memsinks.auditing.tuning.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"memsinks\[audit\]"):
        tuned(model, SUPERVISED, passages, named_corpus.tokenizer, SMALL, work=tmp_path, seed=0)


@pytest.mark.parametrize("key", ["steps", "rows", "learning_rate", "beta", "prefix"])
def test_settings_that_train_nothing(key):
    with pytest.raises(ConfigError, match=f"persistence.{key} must be"):
        PersistenceConfig(**{key: 0})
