"""A LoRA adapter learns its text, and comes off without a trace."""

import copy

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from memsinks.audit import TokenizedDocument, document_losses
from memsinks.baselines.lora import train_lora
from memsinks.corpus import PrepareConfig, prepare
from memsinks.stream import ExposurePlan
from memsinks.training.config import CheckpointConfig, OptimizerConfig, ScheduleConfig, StreamConfig, TrainConfig
from memsinks.training.model import small_llama
from memsinks.training.run import TrainText

pytest.importorskip("peft")

LENGTH, RANK = 64, 4


def loss(model, corpus):
    documents = [TokenizedDocument(n, corpus.tokens(i), i) for i, n in enumerate(corpus.documents)]
    return document_losses(model, documents, mode=None, max_length=LENGTH).mean


def test_the_adapter_learns_and_the_base_is_as_it_was(tmp_path):
    words = np.random.default_rng(0).choice(["north", "river", "lamp", "seven", "quiet", "stone"], (4, 30))
    rows = [{"id": f"d{i}", "text": " ".join(row)} for i, row in enumerate(words.tolist())]
    config = PrepareConfig(vocab_size=300, validation_fraction=0)
    corpus = prepare(datasets.Dataset.from_list(rows), tmp_path / "corpus", config)
    torch.manual_seed(0)
    shape = small_llama(corpus.tokenizer, hidden=16, layers=2, heads=2, width=24, max_length=LENGTH)
    # Embeddings large enough that the layers can steer what is predicted: they stay as they are.
    shape.initializer_range = 0.2
    base = AutoModelForCausalLM.from_config(shape).eval()
    before, weights = loss(base, corpus), copy.deepcopy(base.state_dict())
    plan = ExposurePlan.once(corpus).repeat(corpus.documents, 20)
    text = TrainText(corpus=corpus, plan=plan, governed=np.zeros(len(corpus), dtype=bool))
    train = TrainConfig(
        stream=StreamConfig(max_length=LENGTH),
        optimizer=OptimizerConfig(learning_rate=1e-2, weight_decay=0.0),
        schedule=ScheduleConfig(batch_size=4, warmup_steps=2),
        checkpoints=CheckpointConfig(every_steps=0),
    )
    adapted = train_lora(base, text, train, tmp_path / "run", rank=RANK)
    assert loss(adapted, corpus) < before - 0.3
    with adapted.disable_adapter():
        assert loss(adapted, corpus) == before
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == RANK * 2 * (4 * 2 * 16 + 3 * (16 + 24))
    assert not (tmp_path / "run").exists()
    plain = adapted.unload()
    assert plain.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in plain.state_dict().items())
