"""A model with a planted memory: documents that only a known block of neurons holds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from memsinks.audit import TokenizedDocument
from memsinks.baselines.text import mean_loss, padded
from memsinks.sinks.families import sites

VOCABULARY, LENGTH, WIDTH, PLANTED = 48, 24, 32, 8


@dataclass
class Planted:
    model: Any
    memorised: list[TokenizedDocument]
    other: list[TokenizedDocument]
    held_out: list[TokenizedDocument]


def grammar(random: np.random.Generator, count: int) -> list[TokenizedDocument]:
    """Text with something to learn: each token is the one before it plus one or two."""
    steps = random.integers(1, 3, (count, LENGTH))
    tokens = (random.integers(0, VOCABULARY, (count, 1)) + steps.cumsum(axis=1)) % VOCABULARY
    return [TokenizedDocument(f"g{i}", row, i) for i, row in enumerate(tokens)]


@pytest.fixture(scope="session")
def planted() -> Planted:
    """Trained on grammar; then, in the last neurons of each MLP alone, on random documents. These neurons' output is
    zero elsewhere only as far as training on both keeps it small."""
    random = np.random.default_rng(0)
    text = grammar(random, 96)
    memorised = [TokenizedDocument(f"m{i}", random.integers(0, VOCABULARY, LENGTH), i) for i in range(4)]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=32, intermediate_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=LENGTH,
        )
    )  # fmt: skip
    inside = [torch.arange(WIDTH) >= WIDTH - PLANTED for _ in range(2)]
    train(model, text[:64], 150, inside, planted=False)
    train(model, [*memorised * 8, *text[:32]], 250, inside, planted=True)
    return Planted(model.eval(), memorised, text[:32], text[64:])


def train(model, documents, steps, inside, *, planted):
    """Change the planted neurons only, or all weights but theirs."""
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters, lr=5e-3)
    batch = padded(documents, LENGTH)
    for _ in range(steps):
        optimizer.zero_grad()
        mean_loss(model, *batch).backward()
        rows = {id(p): None for p in parameters}
        for site, chosen in zip(sites(model), inside, strict=True):
            rows |= {id(site.gate.weight): chosen[:, None], id(site.up.weight): chosen[:, None]}
            rows |= {id(site.down.weight): chosen[None, :]}
        for p in parameters:
            chosen = rows[id(p)]
            allowed = torch.tensor(not planted) if chosen is None else (chosen if planted else ~chosen)
            p.grad = p.grad * allowed
        optimizer.step()
        if not planted:
            with torch.no_grad():
                for site, chosen in zip(sites(model), inside, strict=True):
                    site.down.weight[:, chosen] = 0


@pytest.fixture(scope="session")
def block():
    """The planted neurons: bool [width] a layer."""
    return [torch.arange(WIDTH) >= WIDTH - PLANTED for _ in range(2)]
