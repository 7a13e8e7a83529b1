"""``memsinks prepare``."""

import os
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from memsinks.corpus import Columns, PrepareConfig, prepare
from memsinks.errors import InputError


@dataclass(frozen=True)
class Prepare:
    """Turn documents into a tokenised corpus with stable sequence IDs."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Files (.jsonl, .jsonl.zst, .jsonl.gz, .parquet, .txt), folders, or datasets written by save_to_disk."""
    output: Path
    """The folder to make; it appears only when it is complete."""
    ids: str = "content"
    """What documents must share to share a sequence ID: content, source, or column:NAME."""
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

    def run(self) -> None:
        """Run the command."""
        corpus = prepare(
            list(self.inputs),
            self.output,
            PrepareConfig(
                columns=Columns(
                    text=self.text_column, id=self.id_column, source=self.source_column, metadata=self.metadata
                ),
                identity=self.ids,
                id_key=self._key(),
                validation_fraction=self.validation,
                validation_column=self.validation_column,
                seed=self.seed,
                vocab_size=self.vocab_size,
                tokenizer=self.tokenizer,
            ),
            progress=True,
        )
        table = Table("split", "documents", "tokens", title=str(self.output))
        for name, chosen in (("training", ~corpus.is_validation), ("validation", corpus.is_validation)):
            table.add_row(name, f"{chosen.sum():,}", f"{corpus.lengths[chosen].sum():,}")
        console = Console()
        console.print(table)
        console.print(f"{len(set(corpus.sequence_ids.tolist())):,} distinct sequence IDs")

    def _key(self) -> bytes | None:
        if self.id_key_variable is None:
            return None
        value = os.environ.get(self.id_key_variable)
        if not value:
            raise InputError(f"--id-key-variable: the environment variable {self.id_key_variable} is not set or empty")
        return value.encode()
