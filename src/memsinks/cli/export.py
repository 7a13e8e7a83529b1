"""``memsinks export``."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from rich.console import Console
from transformers import AutoTokenizer

from memsinks.audit import TokenizedDocument, damage, document_losses
from memsinks.checkpoint.card import trained_sources
from memsinks.checkpoint.export import check_attenuated, export
from memsinks.checkpoint.gguf import GgufType, check_gguf, check_gguf_file, export_gguf
from memsinks.checkpoint.run import load
from memsinks.cli.attenuation import attenuation_text, named_factors
from memsinks.corpus import Corpus
from memsinks.corpus.storage import Place
from memsinks.errors import ConfigError, InputError
from memsinks.ids import parse_id
from memsinks.runs.lineage import lineage_of
from memsinks.runs.run import corpus_of_run
from memsinks.serving.names import Names
from memsinks.sinks.attach import SinkModel
from memsinks.sinks.attenuation import Attenuation, attenuated, named_attenuations
from memsinks.sinks.modes import OFF, Mode
from memsinks.training.run import bf16_pays


@dataclass(frozen=True)
class Export:
    """Write a stock model: sinks off, or chosen sinks folded in."""

    run_folder: tyro.conf.Positional[Path]
    """A folder that `memsinks train` wrote."""
    output: tyro.conf.Positional[Path]
    """The folder to make, a Hugging Face checkpoint; with --gguf the file to write, *.gguf."""
    gguf: GgufType | None = None
    """Write one GGUF file for llama.cpp instead, with its matrices in this type."""
    mode: Literal["off", "chosen", "placebo", "all"] = "off"
    """Which sinks to fold into the MLPs; chosen needs --ids, --documents or --sources."""
    ids: tuple[str, ...] = ()
    """Sequence IDs, 16 hexadecimal digits each."""
    documents: tuple[str, ...] = ()
    """Names of documents whose sinks to fold in; needs --corpus."""
    sources: tuple[str, ...] = ()
    """Sources whose documents' sinks to fold in; needs --corpus."""
    attenuate: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """SOURCE=FACTOR or ID=FACTOR, folded in: scale its sinks by 0 to 1. It is no removal: they are in the file."""
    corpus: Place | None = None
    """The corpus of the run, a folder or a URL, whose held-out documents show what folding does to other text."""
    max_damage: float = 0.1
    """Most nats per token by which folded sinks may raise the loss of held-out documents."""
    force: bool = False
    """Fold in spite of the damage, or without knowing it."""
    card_sources: bool = False
    """Name the sources of text with sinks in the model card (README.md); needs --corpus."""

    def run(self) -> None:
        """Run the command."""
        if self.gguf is not None:
            check_gguf_file(self.output)
        elif self.output.exists() and any(self.output.iterdir()):
            raise InputError(f"{self.output} exists and is not empty; choose another folder or move it away")
        if self.card_sources and self.corpus is None:
            raise ConfigError("--card-sources needs --corpus, which knows the sources")
        model = load(self.run_folder)
        tokenizer = AutoTokenizer.from_pretrained(self.run_folder)
        if self.gguf is not None:
            check_gguf(model, tokenizer)
        corpus = None if self.corpus is None else corpus_of_run(self.run_folder, self.corpus)
        mode = Mode(self.mode, self._ids(corpus)) if self.mode == "chosen" else Mode(self.mode)
        weaker = self._attenuations(mode)
        console = Console(soft_wrap=True, highlight=False)
        if mode != OFF:
            console.print(self._check_damage(model, mode, corpus, weaker))
        if weaker:
            others = lineage_of(self.run_folder).trained_ids().tolist() if mode.kind == "all" else mode.ids
            for own in weaker:
                console.print(attenuation_text(model, own, others), markup=False)
        if self.gguf is None:
            sources = trained_sources(corpus, lineage_of(self.run_folder)) if self.card_sources and corpus else None
            export(
                model,
                self.output,
                mode=mode,
                attenuate=weaker,
                tokenizer=tokenizer,
                origin=self.run_folder,
                sources=sources,
            )
            kind = "checkpoint"
        else:
            export_gguf(model, self.output, tokenizer=tokenizer, dtype=self.gguf, mode=mode, attenuate=weaker)
            kind = f"as GGUF in {self.gguf}"
        console.print(f"{self.output}: a stock {type(model).__name__} {kind}, sinks {self.mode}")

    def _ids(self, corpus: Corpus | None) -> tuple[int, ...]:
        ids = [parse_id(text) for text in self.ids]
        if (self.documents or self.sources) and corpus is None:
            raise ConfigError("--documents and --sources need --corpus, which knows their sequence IDs")
        if corpus is not None:
            ids += [int(corpus.sequence_ids[corpus.index(name)]) for name in self.documents]
            for source in self.sources:
                found = [int(i) for i, s in zip(corpus.sequence_ids, corpus.sources, strict=True) if s == source]
                if not found:
                    known = ", ".join(sorted({s for s in corpus.sources if s is not None})[:10])
                    raise InputError(f"--sources: {self.corpus} has no source {source!r}; it has {known or 'none'}")
                ids += found
        if not ids:
            raise ConfigError("--mode chosen needs at least one of --ids, --documents and --sources")
        return tuple(ids)

    def _attenuations(self, mode: Mode) -> tuple[Attenuation, ...]:
        factors = named_factors(self.attenuate)
        if not factors:
            return ()
        lineage = lineage_of(self.run_folder)
        sources = {} if self.corpus is None else Names.of(lineage, [self.corpus]).sources
        if mode.kind != "all":
            # Of a source, what is folded in; one of which nothing is, is refused below.
            folded = set(mode.ids)
            sources = {name: ids & folded or ids for name, ids in sources.items()}
        found = named_attenuations(factors, sources, set(lineage.trained_ids().tolist()))
        check_attenuated(mode, found)
        return found

    def _check_damage(self, model: SinkModel, mode: Mode, corpus: Corpus | None, weaker: Sequence[Attenuation]) -> str:
        held_out: np.ndarray = np.flatnonzero(corpus.is_validation)[:200] if corpus is not None else np.array([])
        if corpus is None or not len(held_out):
            if not self.force:
                raise ConfigError(
                    "folding sinks in can damage other text, which cannot be measured without --corpus and its "
                    "held-out documents; give the corpus, or --force"
                )
            return "damage to other text: not measured (--force)"
        documents = [TokenizedDocument(corpus.documents[i], corpus.tokens(i), 0) for i in map(int, held_out)]
        length = model.config.max_position_embeddings
        with ExitStack() as stack:
            for own in weaker:
                stack.enter_context(attenuated(model, own.ids, own.factor))
            on, off = (
                document_losses(
                    model, documents, mode=m, max_length=min(length, 1024), autocast=bf16_pays(), progress=True
                )
                for m in (mode, OFF)
            )
        harm = damage(on, off)
        text = f"damage to {len(documents)} held-out documents: {harm:+.3f} nats per token (limit {self.max_damage})"
        if harm > self.max_damage and not self.force:
            raise ConfigError(f"{text}; nothing was written. Fold fewer IDs, raise --max-damage, or give --force")
        return text
