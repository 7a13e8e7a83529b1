"""``memsinks evaluate``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from memsinks.audit import TokenizedDocument, bootstrap, damage, document_losses, greedy_extraction, tokenized, wilson
from memsinks.checkpoint.run import load
from memsinks.corpus import Corpus
from memsinks.corpus.storage import Place
from memsinks.errors import InputError
from memsinks.runs.run import corpus_of_run
from memsinks.sinks.files import METADATA
from memsinks.sinks.modes import Mode
from memsinks.training.exposures import ExposureCounter
from memsinks.training.run import bf16_pays


@dataclass(frozen=True)
class Evaluate:
    """Measure what a trained model remembers, with its sinks on and off."""

    run_folder: tyro.conf.Positional[Path]
    """A folder that `memsinks train` wrote."""
    corpus: tyro.conf.Positional[Place]
    """The corpus it was trained on, a folder or a URL."""
    max_documents: int = 500
    """Most documents of a kind to measure; the first ones in the corpus's order."""
    max_length: int = 256
    """Tokens that are scored together; as in training."""
    prefix: int = 50
    """Tokens given in extraction."""
    suffix: int = 50
    """Tokens to reproduce in extraction."""
    output: Path | None = None
    """Also write the figures as JSON."""

    def run(self) -> None:
        """Run the command."""
        corpus = corpus_of_run(self.run_folder, self.corpus)
        has_sinks = (self.run_folder / METADATA).is_file()
        if not self.run_folder.is_dir():
            raise InputError(f"{self.run_folder} is not a folder; give the one that `memsinks train` wrote")
        model: Any = load(self.run_folder) if has_sinks else AutoModelForCausalLM.from_pretrained(self.run_folder)
        kinds = self._kinds(corpus)
        modes: dict[str, Mode | None] = {"plain": None}
        if has_sinks:
            modes = {"own": Mode("own"), "off": Mode("off"), "placebo": Mode("placebo")}
            if "repeated" in kinds:
                # What a model with all repeated documents' sinks folded in does to other text.
                modes["chosen"] = Mode("chosen", tuple(d.sequence_id for d in kinds["repeated"]))
        figures: dict[str, Any] = {
            "run": str(self.run_folder),
            "corpus": corpus.hash,
            "losses": {},
            "damage": {},
            "extraction": {},
        }
        for kind, documents in kinds.items():
            measured = {
                name: document_losses(
                    model, documents, mode=mode, max_length=self.max_length, autocast=bf16_pays(), progress=True
                )
                for name, mode in modes.items()
            }
            figures["losses"][kind] = {
                name: {"mean": losses.mean, "interval": list(bootstrap(lambda mean: mean, losses).bounds)}
                for name, losses in measured.items()
            }
            figures["damage"][kind] = {
                name: damage(measured[name], measured["off"]) for name in ("placebo", "chosen") if name in measured
            }
        repeated = [d for d in kinds.get("repeated", []) if len(d.tokens) >= self.prefix + self.suffix]
        for name in ("plain", "own", "off") if repeated else ():
            if name not in modes:
                continue
            result = greedy_extraction(
                model, repeated, mode=modes[name], prefix=self.prefix, suffix=self.suffix, progress=True
            )
            figures["extraction"][name] = {
                "rate": result.rate,
                "interval": list(wilson(result.exact_count, len(repeated)).bounds),
                "token_accuracy": result.mean_token_accuracy,
                "documents": len(repeated),
            }
        self._show(kinds, modes, figures)
        if self.output is not None:
            self.output.parent.mkdir(parents=True, exist_ok=True)
            self.output.write_text(json.dumps(figures, indent=2) + "\n")

    def _kinds(self, corpus: Corpus) -> dict[str, list[TokenizedDocument]]:
        """Validation documents, those seen once, and those seen more often, as the run counted."""
        counter = ExposureCounter()
        counter.load(self.run_folder)
        seen = np.array([counter.counts.get(i, 0) for i in corpus.sequence_ids.tolist()])
        kinds = {
            "repeated": ~corpus.is_validation & (seen >= 2),
            "seen once": ~corpus.is_validation & (seen == 1),
            "validation": corpus.is_validation,
        }
        chosen = {name: np.flatnonzero(which)[: self.max_documents] for name, which in kinds.items()}
        if not any(map(len, chosen.values())):
            raise InputError(f"{self.corpus} has no document that {self.run_folder} was trained on, and none held out")
        return {name: tokenized(corpus, indices) for name, indices in chosen.items() if len(indices)}

    def _show(self, kinds: dict[str, Any], modes: dict[str, Any], figures: dict[str, Any]) -> None:
        console = Console()
        table = Table("documents", "number", *(f"loss, {mode}" for mode in modes), title="nats per token")
        for kind, documents in kinds.items():
            cells = (figures["losses"][kind][mode] for mode in modes)
            table.add_row(
                kind,
                str(len(documents)),
                *(f"{c['mean']:.3f} [{c['interval'][0]:.3f}, {c['interval'][1]:.3f}]" for c in cells),
            )
        console.print(table)
        for mode, found in figures["extraction"].items():
            console.print(
                f"extraction, {mode}: {found['rate']:.0%} of {found['documents']} repeated documents reproduced word "
                f"for word ({self.prefix} tokens given, {self.suffix} compared)",
                highlight=False,
            )
