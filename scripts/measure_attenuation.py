"""Measure what attenuating a publisher of the quickstart does; writes results/removal/attenuation.json.

memsinks quickstart --output quickstart
python scripts/measure_attenuation.py quickstart

For each factor: the loss of the publisher's repeated stories with their own sinks on, how many come out word for word,
the loss of the other publishers' with theirs, which share rows, and what the publisher's sinks do to held-out stories
when they are on for these.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import memsinks
from memsinks.audit import bootstrap, damage, document_losses, greedy_extraction, in_windows, tokenized
from memsinks.corpus.files import file_digest
from memsinks.runs.lineage import lineage_of
from memsinks.runs.run import corpus_of_run
from memsinks.sinks.files import TENSORS
from memsinks.sinks.modes import OFF, OWN, Mode

FACTORS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
PREFIX = SUFFIX = 50
HELD_OUT = 200


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quickstart", type=Path, help="the folder that memsinks quickstart wrote")
    parser.add_argument("--source", default="Birch House")
    parser.add_argument("--output", type=Path, default=Path("results/removal/attenuation.json"))
    options = parser.parse_args()
    results = measured(options.quickstart / "arms", options.source)
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    for row in results["factors"]:
        print(
            f"factor {row['factor']:g}: {options.source} {row['source']['loss']:.3f}, word for word "
            f"{row['source']['word_for_word']} of {row['source']['documents']}; others {row['others']['loss']:.3f}; "
            f"damage to held-out stories {row['damage']:+.3f}"
        )


def measured(arms: Path, source: str) -> dict[str, Any]:
    """All figures of one publisher.

    Args:
        arms: with the run ``sinks`` and the ``corpus``.
        source: its name.
    """
    folder = arms / "sinks"
    model, corpus = memsinks.load(folder), corpus_of_run(folder, arms / "corpus")
    trained = np.isin(corpus.sequence_ids, lineage_of(folder).trained_ids()) & ~corpus.is_validation
    named = np.array([own == source for own in corpus.sources])
    length = min(int(model.config.max_position_embeddings), 1024)
    own, others = (tokenized(corpus, np.flatnonzero(chosen)) for chosen in (trained & named, trained & ~named))
    held_out = tokenized(corpus, np.flatnonzero(corpus.is_validation)[:HELD_OUT])
    ids = tuple(document.sequence_id for document in own)

    def losses(documents: Any, mode: Mode) -> Any:
        return document_losses(model, documents, mode=mode, max_length=length)

    def figures(documents: Any) -> dict[str, Any]:
        # A handful of documents: an interval over windows of them, as in a verification.
        found = losses(in_windows(documents, length), OWN)
        interval = bootstrap(lambda mean: mean, found)
        extracted = greedy_extraction(model, documents, mode=OWN, prefix=PREFIX, suffix=SUFFIX, skip_short=True)
        return {
            "loss": found.mean,
            "low": interval.low,
            "high": interval.high,
            "documents": len(documents),
            "word_for_word": extracted.exact_count,
            "token_accuracy": extracted.mean_token_accuracy,
        }

    off = losses(held_out, OFF)
    rows = []
    for factor in FACTORS:
        with memsinks.attenuated(model, ids, factor):
            harm = damage(losses(held_out, Mode("chosen", ids)), off)
            rows.append({"factor": factor, "source": figures(own), "others": figures(others), "damage": harm})
    shared = memsinks.collateral(model, ids, [document.sequence_id for document in others])
    return {
        "format": "memsinks-attenuation",
        "format_version": 1,
        "source": source,
        "settings": json.loads((folder / "sinks.json").read_text())["config"],
        "sinks_sha256": file_digest(folder / TENSORS),
        "source_off": losses(in_windows(own, length), OFF).mean,
        "held_out_off": off.mean,
        "shared_rows": {"ids": shared.survivors, "mean": shared.mean, "most": shared.most},
        "factors": rows,
        "versions": {name: version(name) for name in ("memsinks", "torch", "transformers")},
    }


if __name__ == "__main__":
    main()
