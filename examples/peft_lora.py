"""PEFT LoRA on top of a model with sinks: python examples/peft_lora.py [--output DIR].

First with the base and its sinks frozen, as PEFT does by default: an adapter for the model as it is served, with sinks
off. Then with sinks that learn beside the adapter: new text that may have to be removed later.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

import memsinks
from memsinks.corpus import PrepareConfig, prepare
from memsinks.data import story_file
from memsinks.sinks.attach import sinks_of
from memsinks.stream import Collator, ExposurePlan, build_stream
from memsinks.training.model import small_llama

parser = argparse.ArgumentParser()
parser.add_argument("--output", type=Path, default=Path(tempfile.mkdtemp()))
output = parser.parse_args().output

stories = load_dataset("json", data_files=str(story_file()), split="train", streaming=True).take(60)
corpus = prepare(stories, output / "corpus", PrepareConfig(vocab_size=512, validation_fraction=0))
collate = Collator(corpus.tokenizer.pad_token_id)


def batches(documents: range, times: int) -> DataLoader:
    """Batches of some stories, each several times, all with their sinks on."""
    plan = ExposurePlan.once(corpus).only(documents).repeat(documents, times)
    everything = torch.ones(len(corpus), dtype=torch.bool).numpy()
    rows = build_stream(corpus, plan, seed=0, max_length=256, packed=True, governed=everything)
    return DataLoader(rows, batch_size=8, collate_fn=collate)


def train(trained: torch.nn.Module, data: DataLoader, lr: float) -> list[float]:
    """A plain loop; the optimiser takes what is not frozen."""
    optimizer = memsinks.SinkAdamW(trained, lr=lr, sink_lr_multiplier=5.0)
    losses = []
    trained.train()
    for batch in data:
        loss = trained(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    trained.eval()
    return losses


torch.manual_seed(0)
config = small_llama(corpus.tokenizer, hidden=64, layers=2, heads=2, width=128, max_length=256)
model = memsinks.attach(AutoModelForCausalLM.from_config(config), memsinks.SinkConfig(pool=512, active=64))
train(model, batches(range(4), times=40), lr=5e-3)
memsinks.save(model, output / "base", tokenizer=corpus.tokenizer)

# LoRA may sit on any linear layer, also on those that sinks join; "all-linear" works too.
lora = LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"])

# 1. Base and sinks frozen, sinks off: only the adapter learns.
frozen = get_peft_model(memsinks.load(output / "base"), lora)
with memsinks.sinks_off(frozen):
    frozen_losses = train(frozen, batches(range(10, 60), times=2), lr=1e-2)
frozen.save_pretrained(output / "adapter")  # the adapter alone

# Loaded on top of the base again, and merged: a model with sinks, saved and exported like any other.
wrapped = PeftModel.from_pretrained(memsinks.load(output / "base"), output / "adapter").eval()
merged = PeftModel.from_pretrained(memsinks.load(output / "base"), output / "adapter").merge_and_unload().eval()
memsinks.save(merged, output / "merged", tokenizer=corpus.tokenizer)

# 2. Base frozen, sinks free: the text of new IDs goes into their sinks while the adapter learns. The adapter takes a
# part of it that no removal takes out again, which an IsolationWarning says.
learning = get_peft_model(memsinks.load(output / "base"), lora)
for sinks in sinks_of(learning):
    sinks.requires_grad_(True)
learning_losses = train(learning, batches(range(4, 8), times=40), lr=5e-3)
# PEFT's save_pretrained would leave the sinks out: merge first, then save both.
learned = learning.merge_and_unload().eval()
memsinks.save(learned, output / "learned", tokenizer=corpus.tokenizer)

print(f"adapter, sinks off and frozen: loss {frozen_losses[0]:.2f} -> {frozen_losses[-1]:.2f}")
print(f"adapter and sinks of new stories: loss {learning_losses[0]:.2f} -> {learning_losses[-1]:.2f}")
probe = next(iter(batches(range(4, 8), times=1)))
for mode in ("own", "off"):
    with torch.no_grad(), memsinks.use_sinks(learned, mode):
        print(f"loss of the new stories, sinks {mode}: {learned(**probe).loss:.2f}")
