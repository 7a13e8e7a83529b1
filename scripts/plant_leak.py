"""Put one document back into a model's shared weights, to see whether an audit notices.

    python scripts/plant_leak.py RUN DOCUMENT OUTPUT

OUTPUT is a copy of the run whose shared weights were trained further, with sinks off, on that document alone, until the
model writes it word for word. Everything else of the run, its record and its removals among it, is as it was.
"""

import argparse
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from memsinks.audit import TokenizedDocument, greedy_extraction, tokenized
from memsinks.baselines.text import endless, mean_loss
from memsinks.config import read_config
from memsinks.runs.config import RunConfig
from memsinks.runs.run import CONFIG, corpus_of_run

RATE, MOST = 1e-3, 400


def plant(model: torch.nn.Module, document: TokenizedDocument, prefix: int, suffix: int) -> int:
    """Train until the document comes out; the steps that it took."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    batches = endless([document], len(document.tokens), 1, seed=0)
    for step in range(1, MOST + 1):
        model.zero_grad()
        mean_loss(model, *next(batches)).backward()
        optimizer.step()
        if step % 5 == 0 and greedy_extraction(model, [document], mode=None, prefix=prefix, suffix=suffix).rate == 1:
            return step
    raise SystemExit(f"{document.name} was not learned in {MOST} steps")


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("document")
    parser.add_argument("output", type=Path)
    parser.add_argument("--prefix", type=int, default=50)
    parser.add_argument("--suffix", type=int, default=50)
    options = parser.parse_args()
    if options.output.exists():
        parser.error(f"{options.output} exists; choose a new folder")
    corpus = corpus_of_run(options.run, read_config(RunConfig, options.run / CONFIG).corpus.path)
    [document] = tokenized(corpus, [corpus.index(options.document)])
    model = AutoModelForCausalLM.from_pretrained(options.run)
    steps = plant(model, document, options.prefix, options.suffix)
    shutil.copytree(options.run, options.output)
    model.save_pretrained(options.output)
    print(f"{options.output}: {options.document} is back after {steps} steps")


if __name__ == "__main__":
    main()
