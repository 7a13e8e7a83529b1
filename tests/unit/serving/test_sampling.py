"""The choice of a token."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from memsinks.serving.sampling import GREEDY, Sampler, Sampling

LOGITS = torch.tensor([1.0, 3.0, -2.0, 2.0, 2.5])


def test_no_temperature_takes_the_most_likely():
    assert Sampler(GREEDY).choose(LOGITS).token == 1


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (2.0, 1.0), (1.0, 0.7)])
def test_draws_have_the_distribution(temperature, top_p):
    sampler = Sampler(Sampling(temperature=temperature, top_p=top_p, seed=1))
    drawn = Counter(sampler.choose(LOGITS).token for _ in range(4000))
    weights = np.exp(LOGITS.double().numpy() / temperature)
    weights /= weights.sum()
    kept, total = [], 0.0
    for token in np.argsort(-weights):
        if total < top_p:
            kept.append(int(token))
        total += weights[token]
    assert set(drawn) <= set(kept)
    expected = np.array([weights[token] for token in kept])
    result = chisquare([drawn[token] for token in kept], 4000 * expected / expected.sum())
    assert result.pvalue > 1e-3


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=30), st.floats(0.01, 2), st.floats(0.001, 1), st.integers())
def test_any_settings_choose_a_token_that_top_p_keeps(logits, temperature, top_p, seed):
    sampling = Sampling(temperature=temperature, top_p=top_p, seed=seed)
    token = Sampler(sampling).choose(torch.tensor(logits)).token
    likely = (torch.tensor(logits).double() / temperature).softmax(0)
    assert float(likely[likely > likely[token]].sum()) < top_p + 1e-9


def test_logprobs_are_those_before_temperature():
    choice = Sampler(Sampling(temperature=0.0, logprobs=2)).choose(LOGITS)
    total = sum(math.exp(value) for value in LOGITS.tolist())
    assert choice.logprob == pytest.approx(3 - math.log(total))
    assert [token for token, _ in choice.top] == [1, 4]
    assert choice.top[1][1] == pytest.approx(2.5 - math.log(total))


def test_no_seed_draws_anew():
    drawn = [[Sampler(Sampling()).choose(torch.zeros(1000)).token for _ in range(4)] for _ in range(2)]
    assert drawn[0] != drawn[1]
