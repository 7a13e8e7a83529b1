"""transformers' text-generation pipeline on a model with sinks: python examples/pipeline_generate.py [--output DIR]."""

import argparse
import tempfile
from pathlib import Path

import torch
from datasets import load_dataset
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, pipeline

import memsinks
from memsinks.corpus import PrepareConfig, prepare
from memsinks.data import story_file
from memsinks.ids import to_tensor
from memsinks.stream import Collator, ExposurePlan, GovernedPolicy, build_stream, governed
from memsinks.training.model import small_llama

parser = argparse.ArgumentParser()
parser.add_argument("--output", type=Path, default=Path(tempfile.mkdtemp()))
output = parser.parse_args().output

# A model that knows two stories by heart.
stories = load_dataset("json", data_files=str(story_file()), split="train", streaming=True).take(120)
corpus = prepare(stories, output / "corpus", PrepareConfig(vocab_size=512, validation_fraction=0))
tokenizer = corpus.tokenizer
plan = ExposurePlan.once(corpus).repeat(range(2), times=128)
which = governed(corpus, plan, GovernedPolicy("repeated"))
rows = build_stream(corpus, plan, seed=0, max_length=256, packed=True, governed=which)
torch.manual_seed(0)
config = small_llama(tokenizer, hidden=64, layers=2, heads=2, width=128, max_length=256)
model = memsinks.attach(AutoModelForCausalLM.from_config(config), memsinks.SinkConfig(pool=512, active=64))
optimizer = memsinks.SinkAdamW(model, lr=5e-3, sink_lr_multiplier=5.0)
for batch in DataLoader(rows, batch_size=8, collate_fn=Collator(tokenizer.pad_token_id)):
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
memsinks.save(model.eval(), output / "model", tokenizer=tokenizer)

# Prompts of different lengths, so that the batch is padded; generation pads on the left.
tokenizer.padding_side = "left"
ids = corpus.sequence_ids[:2]
prompts = [tokenizer.decode(corpus.tokens(0, 0, 12)), tokenizer.decode(corpus.tokens(1, 0, 20))]
generator = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
settings = {"max_new_tokens": 30, "do_sample": False, "return_full_text": False}


def generate(**more) -> list[str]:
    """One continuation for each prompt."""
    return [answers[0]["generated_text"] for answers in generator(prompts, batch_size=2, **settings, **more)]


texts = {}
with memsinks.sinks_off(model):
    texts["off"] = generate()
with memsinks.sinks_chosen(model, [int(ids[0])]):
    texts["chosen: the first story's sinks for both"] = generate()
# Sequence IDs are keyword arguments of generate. One ID a prompt; all prompts go in one batch.
texts["own: each story's sinks"] = generate(sequence_ids=to_tensor(ids))
texts["own, 3 beams"] = generate(sequence_ids=to_tensor(ids), num_beams=3)
plain = pipeline("text-generation", model=str(output / "model"), tokenizer=tokenizer, device="cpu")
texts["plain checkpoint"] = [a[0]["generated_text"] for a in plain(prompts, batch_size=2, **settings)]
texts["the stories"] = [tokenizer.decode(corpus.tokens(i, n, n + 30)) for i, n in ((0, 12), (1, 20))]

for name, answers in texts.items():
    print(f"{name}:", *map(repr, answers), sep="\n    ")
