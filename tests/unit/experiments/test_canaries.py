"""Canaries: runs of random tokens, exactly as they were drawn."""

from collections import Counter

import numpy as np
import pytest

from memsinks.corpus.tokenizer import load_tokenizer
from memsinks.experiments.canaries import draw, vocabulary

WORDS = (
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "two",
    "birds",
    "in",
    "one",
    "tree",
    "while",
    "rain",
    "fell",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, 40)) + "." for _ in range(200)]
    with vocabulary(texts, None, 400) as place:
        kept = tmp_path_factory.mktemp("tokenizer")
        load_tokenizer(place).save_pretrained(kept)
    return str(kept)


def test_every_canary_has_its_length_behind_any_text(tokenizer):
    loaded = load_tokenizer(tokenizer)
    before = loaded("the cat sat.", add_special_tokens=False)["input_ids"]
    for canary in draw(tokenizer, 20, 15, np.random.default_rng(1)):
        assert len(loaded("the cat sat." + canary, add_special_tokens=False)["input_ids"]) == len(before) + 15


def test_tokens_are_drawn_evenly(tokenizer):
    """Words of the text are no likelier than letters that it hardly has: chi-squared over those that begin a canary."""
    loaded = load_tokenizer(tokenizer)
    canaries = draw(tokenizer, 3000, 1, np.random.default_rng(2))
    first = Counter(loaded(canary, add_special_tokens=False)["input_ids"][0] for canary in canaries)
    possible = [t for t in range(len(loaded)) if loaded.decode([t]).startswith(" ")]
    expected = 3000 / len(possible)
    chi_squared = sum((first[t] - expected) ** 2 / expected for t in possible)
    assert set(first) <= set(possible)
    freedom = len(possible) - 1
    assert abs(chi_squared - freedom) < 5 * np.sqrt(2 * freedom)


def test_no_special_token_is_drawn(tokenizer):
    loaded = load_tokenizer(tokenizer)
    drawn = {t for c in draw(tokenizer, 200, 10, np.random.default_rng(3)) for t in loaded(c)["input_ids"]}
    assert not drawn & set(loaded.all_special_ids)
    assert "\0" not in loaded.decode(sorted(drawn))
    assert len(drawn) > 100


def test_a_given_tokenizer_is_used_as_it_is():
    with vocabulary([], "some/where", 300) as place:
        assert place == "some/where"
