"""lm_eval on a model with sinks, in each mode: python examples/lm_eval_modes.py [--output DIR].

The tasks are local files. What they measure is the model's memory of four stories that it saw 48 times: the perplexity
of each, and whether its own words after the first 200 characters are more likely than another's.
"""

import argparse
import json
import logging
import tempfile
from itertools import groupby
from pathlib import Path

import lm_eval
import torch
from datasets import load_dataset
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

import memsinks
from memsinks.corpus import PrepareConfig, prepare
from memsinks.data import story_file
from memsinks.ids import format_id, parse_id
from memsinks.stream import Collator, ExposurePlan, GovernedPolicy, build_stream, governed
from memsinks.training.model import small_llama

parser = argparse.ArgumentParser()
parser.add_argument("--output", type=Path, default=Path(tempfile.mkdtemp()))
output = parser.parse_args().output
logging.getLogger("lm_eval").setLevel(logging.ERROR)

# A model that knows four stories by heart.
stories = load_dataset("json", data_files=str(story_file()), split="train", streaming=True).take(60)
corpus = prepare(stories, output / "corpus", PrepareConfig(vocab_size=512, validation_fraction=0))
tokenizer = corpus.tokenizer
plan = ExposurePlan.once(corpus).repeat(range(4), times=48)
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
model.eval()
memsinks.export(model, output / "plain", tokenizer=tokenizer)

# The tasks, as lm_eval wants them. The data name each document's sequence ID.
texts = [tokenizer.decode(corpus.tokens(i)) for i in range(4)]
halves = [(text[:200], text[200:400]) for text in texts]
tasks = output / "tasks"
tasks.mkdir()
with (tasks / "stories.jsonl").open("w") as file:
    for i, (start, end) in enumerate(halves):
        other = halves[(i + 1) % 4][1]
        row = {"text": texts[i], "start": start, "ends": [end, other], "id": format_id(corpus.sequence_ids[i])}
        file.write(json.dumps(row) + "\n")
data = {
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": str(tasks / "stories.jsonl"), "cache_dir": str(output / "cache")},
    "test_split": "train",
}
perplexity = {
    "task": "story_perplexity",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
}
ending = {
    "task": "story_ending",
    "output_type": "multiple_choice",
    "doc_to_text": "{{start}}",
    "doc_to_choice": "{{ends}}",
    "doc_to_target": 0,
    "target_delimiter": "",
    "metric_list": [{"metric": "acc"}],
}
for task in (perplexity, ending):
    (tasks / f"{task['task']}.yaml").write_text(json.dumps({**data, **task}))  # JSON is YAML
manager = TaskManager(include_path=str(tasks), include_defaults=False)


def evaluate(lm: HFLM) -> dict[str, float]:
    """Both tasks. Give no ``use_cache=``: lm_eval's response cache does not know the mode."""
    results = lm_eval.simple_evaluate(
        lm, tasks=["story_perplexity", "story_ending"], task_manager=manager, bootstrap_iters=0
    )["results"]
    return {
        "word_perplexity": results["story_perplexity"]["word_perplexity,none"],
        "bits_per_byte": results["story_perplexity"]["bits_per_byte,none"],
        "acc": results["story_ending"]["acc,none"],
    }


class OwnSinks(HFLM):
    """Answers each request with the sinks of the request's own document.

    lm_eval hands a model no sequence IDs, and without them mode own is mode off. The data name them instead.
    """

    def _by_document(self, answer, requests, **options):
        def name(i):
            return requests[i].doc["id"]

        answers = [None] * len(requests)
        for sequence_id, group in groupby(sorted(range(len(requests)), key=name), key=name):
            indices = list(group)
            with memsinks.sinks_chosen(self.model, [parse_id(sequence_id)]):
                found = answer([requests[i] for i in indices], **options)
            for i, value in zip(indices, found, strict=True):
                answers[i] = value
        return answers

    def loglikelihood(self, requests, **options):
        """As HFLM's."""
        return self._by_document(super().loglikelihood, requests, **options)

    def loglikelihood_rolling(self, requests, **options):
        """As HFLM's."""
        return self._by_document(super().loglikelihood_rolling, requests, **options)


settings = {"tokenizer": tokenizer, "batch_size": 4, "device": "cpu"}
lm = HFLM(pretrained=model, **settings)
table = {"plain checkpoint": evaluate(HFLM(pretrained=str(output / "plain"), dtype="float32", **settings))}
for mode in ("off", "placebo", "all"):
    with memsinks.use_sinks(model, mode):
        table[mode] = evaluate(lm)
with memsinks.sinks_chosen(model, [int(i) for i in corpus.sequence_ids[:4]]):
    table["chosen (all four)"] = evaluate(lm)
table["own"] = evaluate(OwnSinks(pretrained=model, **settings))

print(f"{'':20}{'word perplexity':>18}{'bits per byte':>16}{'right endings':>16}")
for mode, row in table.items():
    print(f"{mode:20}{row['word_perplexity']:18.3g}{row['bits_per_byte']:16.3f}{row['acc']:16.2f}")
