"""``memsinks prepare``."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.markdown import Markdown

from memsinks.config import Section, read_config
from memsinks.corpus import (
    Columns,
    Consistency,
    Corpus,
    Executor,
    GroupConfig,
    Local,
    PrepareConfig,
    consistency,
    prepare,
)
from memsinks.corpus.card import counted
from memsinks.corpus.cluster import Datatrove
from memsinks.corpus.noise import noise_effect
from memsinks.corpus.storage import Place
from memsinks.errors import ConfigError, InputError

TELLING = 0.005
"""Share of tokens under other IDs from which on its effect in training is told."""


@dataclass(frozen=True, kw_only=True)
class ColumnsFile(Section):
    """A TOML file that says which columns hold what.

    Attributes:
        columns: the columns.
    """

    columns: Columns = field(default_factory=Columns)


@dataclass(frozen=True)
class Prepare:
    """Turn documents into a tokenised corpus with stable sequence IDs; run again after a stop, it goes on."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files (.jsonl, .json, .parquet, .arrow, .txt; JSON also .gz, .zst), folders, datasets written by save_to_disk,
    URLs of these, or dataset:NAME:SPLIT."""
    output: Place
    """The folder to make, or a URL to upload it to; it is a corpus only when it is complete."""
    ids: str = "content"
    """What documents must share to share a sequence ID: content, group, source, or column:NAME."""
    columns: Path | None = None
    """TOML file with a section [columns]: text, id, source, licence, contract, date, deletion_terms, metadata; in place
    of the options that follow."""
    text_column: str = "text"
    """Column with the text."""
    id_column: str | None = "id"
    """Column with a unique document name; None names documents by file and row."""
    source_column: str | None = None
    """Column with the source, for example the publisher."""
    metadata: tuple[str, ...] = ()
    """Further columns to keep."""
    tokenizer: str | None = None
    """Folder or name of a tokenizer; default: train one on the training split."""
    vocab_size: int = 8192
    """Size of the tokenizer to train."""
    validation: float | None = None
    """Share of the documents to hold out, by default 0.05; copies and groups are held out together."""
    validation_column: str | None = None
    """Boolean column that says which documents are held out, instead."""
    seed: int = 0
    """Seed of the split."""
    id_key_variable: str | None = None
    """Environment variable with a secret for keyed IDs; without one, anyone can test whether a text was trained on."""
    near: bool = True
    """Find near-duplicates, templates and shared passages; else only exact copies are grouped."""
    similarity: float = GroupConfig.similarity
    """Least Jaccard index, over runs of three words, of near-duplicates."""
    passage_words: int = GroupConfig.passage_words
    """Words in a row from which on a shared passage is certain to be found."""
    bad_rows: Literal["stop", "reject"] = "stop"
    """What a row that cannot be used does: stop, or go to rejects.jsonl and be left out."""
    executor: Literal["local", "datatrove", "slurm", "ray"] = "local"
    """Where the work is done: this machine, or under an executor of datatrove."""
    workers: int | None = None
    """Processes, or tasks at a time; default: all cores."""
    memory_gb: int = 4
    """Memory of a task on Slurm or Ray."""
    slurm_partition: str | None = None
    """Partition of Slurm jobs."""
    slurm_time: str = "04:00:00"
    """Longest time of a Slurm job."""
    slurm_setup: str | None = None
    """Shell command that a Slurm job runs first, for example the activation of an environment."""

    def run(self) -> None:
        """Run the command."""
        corpus = prepare(
            list(self.inputs),
            self.output,
            PrepareConfig(
                columns=self._columns(),
                identity=self.ids,
                id_key=self._key(),
                groups=GroupConfig(similarity=self.similarity, passage_words=self.passage_words) if self.near else None,
                bad_rows=self.bad_rows,
                validation_fraction=self.validation,
                validation_column=self.validation_column,
                seed=self.seed,
                vocab_size=self.vocab_size,
                tokenizer=self.tokenizer,
            ),
            executor=self._executor(),
            progress=True,
        )
        console = Console()
        console.print(Markdown((corpus.path / "card.md").read_text(encoding="utf-8")))
        for line in _remarks(consistency(corpus)):
            console.print(line, highlight=False)
        console.print(_ids(corpus), highlight=False)

    def _columns(self) -> Columns:
        given = Columns(text=self.text_column, id=self.id_column, source=self.source_column, metadata=self.metadata)
        if self.columns is None:
            return given
        if given != Columns():
            raise ConfigError("--columns names all columns; leave the options for single columns out")
        return read_config(ColumnsFile, self.columns).columns

    def _executor(self) -> Executor:
        if self.executor == "local":
            return Local(self.workers)
        return Datatrove(
            kind="local" if self.executor == "datatrove" else self.executor,
            workers=self.workers,
            key_variable=self.id_key_variable,
            memory_gb=self.memory_gb,
            partition=self.slurm_partition,
            time=self.slurm_time,
            environment=self.slurm_setup,
        )

    def _key(self) -> bytes | None:
        if self.id_key_variable is None:
            return None
        value = os.environ.get(self.id_key_variable)
        if not value:
            raise InputError(f"--id-key-variable: the environment variable {self.id_key_variable} is not set or empty")
        return value.encode()


def _remarks(found: Consistency) -> list[str]:
    """What an operator should know of the IDs before training."""
    lines = []
    if found.torn:
        lines.append(
            f"[bold red]Near-copies under several IDs: {counted(len(found.torn), 'group')}[/], for example that of "
            f"{found.torn[0].representative!r}; {found.stray_share:.1%} of the training tokens are under another ID "
            "than most of their group. What is removed under one ID, the others still hold; with --ids group a group "
            "has one."
        )
        if found.stray_share >= TELLING:
            lines[-1] += f" {noise_effect(found.stray_share).sentence}"
    if found.spanning:
        example = ", ".join(map(repr, next(iter(found.spanning.values()))))
        lines.append(
            f"[bold red]Of several sources: {counted(len(found.spanning), 'ID')}[/], for example of {example}. "
            "Removing one source takes from the others."
        )
    if found.variants:
        example = ", ".join(map(repr, found.variants[0]))
        lines.append(f"Spelled in several ways: {counted(len(found.variants), 'source')}, for example {example}.")
    if found.passages_across:
        pairs = counted(found.passages_across, "pair")
        lines.append(f"Sharing a passage across groups: {pairs} of documents; `memsinks why` has it.")
    return lines


def _ids(corpus: Corpus) -> str:
    return f"{corpus.place}: {len(set(corpus.sequence_ids.tolist())):,} distinct sequence IDs; card.md has this page"
