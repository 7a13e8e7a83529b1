"""Sinks in a plain PyTorch loop: python examples/bare_loop.py [--output DIR] [--bf16]."""

import argparse
import tempfile
from pathlib import Path

import torch
from datasets import load_dataset
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

import memsinks
from memsinks.corpus import PrepareConfig, prepare
from memsinks.data import story_file
from memsinks.stream import Collator, ExposurePlan, GovernedPolicy, build_stream, governed
from memsinks.training.model import small_llama

parser = argparse.ArgumentParser()
parser.add_argument("--output", type=Path, default=Path(tempfile.mkdtemp()))
parser.add_argument("--bf16", action="store_true")
options = parser.parse_args()
stories = load_dataset("json", data_files=str(story_file()), split="train", streaming=True).take(100)
corpus = prepare(stories, options.output / "corpus", PrepareConfig(vocab_size=512))
plan = ExposurePlan.once(corpus).repeat(range(4), times=48)
which = governed(corpus, plan, GovernedPolicy("repeated"))  # the others train with sinks off
rows = build_stream(corpus, plan, seed=0, max_length=256, packed=True, governed=which)
collate = Collator(corpus.tokenizer.pad_token_id)
torch.manual_seed(0)
config = small_llama(corpus.tokenizer, hidden=64, layers=2, heads=2, width=128, max_length=256)
model = memsinks.attach(AutoModelForCausalLM.from_config(config), memsinks.SinkConfig(pool=512, active=64))
optimizer = memsinks.SinkAdamW(model, lr=5e-3, sink_lr_multiplier=5.0)  # it clips too: do not clip outside
for batch in DataLoader(rows, batch_size=8, collate_fn=collate):
    with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
repeated = collate([row for row in rows if row["sink_mask"].all()][:16])
for mode in ("own", "off"):
    with torch.no_grad(), memsinks.use_sinks(model.eval(), mode):
        print(f"loss of the repeated stories, sinks {mode}: {model(**repeated).loss:.2f}")
