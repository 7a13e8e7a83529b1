"""Sinks in transformers' own Trainer: python examples/plain_trainer.py [--output DIR]."""

import argparse
import tempfile
from pathlib import Path

import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

import memsinks
from memsinks.corpus import PrepareConfig, prepare
from memsinks.data import story_file
from memsinks.stream import Collator, ExposurePlan, GovernedPolicy, build_stream, governed
from memsinks.training.model import small_llama

parser = argparse.ArgumentParser()
parser.add_argument("--output", type=Path, default=Path(tempfile.mkdtemp()))
output = parser.parse_args().output

# Four stories 40 times and 96 stories once; the four train with their sinks on, the others with sinks off.
stories = load_dataset("json", data_files=str(story_file()), split="train", streaming=True).take(100)
corpus = prepare(stories, output / "corpus", PrepareConfig(vocab_size=512))
plan = ExposurePlan.once(corpus).repeat(range(4), times=40)
which = governed(corpus, plan, GovernedPolicy("repeated"))
rows = build_stream(corpus, plan, seed=0, max_length=256, packed=True, governed=which)

torch.manual_seed(0)
config = small_llama(corpus.tokenizer, hidden=64, layers=2, heads=2, width=128, max_length=256)
model = memsinks.attach(AutoModelForCausalLM.from_config(config), memsinks.SinkConfig(pool=512, active=64))

trainer = Trainer(
    model,
    TrainingArguments(
        str(output / "trainer"),
        per_device_train_batch_size=8,
        num_train_epochs=1,
        max_grad_norm=1.0,
        logging_steps=5,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
    ),
    train_dataset=rows,
    data_collator=Collator(corpus.tokenizer.pad_token_id),
    # Trainer takes the gradient's norm and clips by itself, with torch functions that refuse the row-sparse gradients
    # of gradients="rows". Dense ones suit it, and it should not be clipped a second time in the optimiser's step.
    optimizers=(
        memsinks.SinkAdamW(model, lr=5e-3, sink_lr_multiplier=5.0, gradients="dense", max_grad_norm=None),
        None,
    ),
)
trainer.train()
trainer.save_model(str(output / "model"))

losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
print(f"loss of the first 5 steps {losses[0]:.2f}, of the last {losses[-1]:.2f}")
print(f"with its sinks:  memsinks.load({str(output / 'model')!r})")
print(f"with sinks off:  AutoModelForCausalLM.from_pretrained({str(output / 'model')!r})")
