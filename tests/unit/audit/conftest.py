"""Tiny models: a plain Llama, and a stand-in for a model with sinks that records what it is given."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from memsinks.audit import TokenizedDocument

VOCABULARY = 32


@pytest.fixture
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=2,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config)


class RecordingSinks(nn.Module):
    """Takes the keywords of a model with sinks, remembers them, and runs the plain model."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self.inner = model
        self.sink_mode = "before"
        self.calls: list[dict] = []

    def forward(self, input_ids, attention_mask, sequence_ids, **kwargs):
        self._record(input_ids, attention_mask, sequence_ids)
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    def generate(self, input_ids, attention_mask, sequence_ids):
        self._record(input_ids, attention_mask, sequence_ids)
        return self.inner.generate(input_ids=input_ids, attention_mask=attention_mask)

    def _record(self, input_ids, attention_mask, sequence_ids):
        self.calls.append(
            {
                "mode": self.sink_mode,
                "ids": sequence_ids,
                "input_ids": input_ids,
                "mask": attention_mask,
                "training": self.training or self.inner.training,
                "grad": torch.is_grad_enabled(),
            }
        )


@pytest.fixture
def recording(llama) -> RecordingSinks:
    return RecordingSinks(llama)


def make_documents(lengths, seed=0) -> list[TokenizedDocument]:
    rng = np.random.default_rng(seed)
    return [
        TokenizedDocument(f"story {i}", rng.integers(VOCABULARY, size=n), 2**64 - 1 - i) for i, n in enumerate(lengths)
    ]


@pytest.fixture
def documents() -> list[TokenizedDocument]:
    return make_documents([7, 3, 20, 2, 13])
