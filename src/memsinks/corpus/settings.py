"""How a corpus is prepared."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from memsinks.corpus.grouping.passages import RUN
from memsinks.corpus.identity import Identity
from memsinks.corpus.readers import Columns
from memsinks.corpus.tokenizer import MIN_VOCAB_SIZE
from memsinks.errors import InputError


@dataclass(frozen=True, kw_only=True)
class GroupConfig:
    """Which documents belong to one group, and which passages are reported.

    Attributes:
        similarity: least Jaccard index, over runs of three words, of a near-duplicate and its representative, in
            ``(0, 1]``.
        passage_words: words in a row from which on a shared passage is certain to be found; at least 8.
        template: least part of the runs of three words of each that a document shares with its representative, in
            ``(0, 1]``: so the same form with other names belongs together. Asked of pairs that share a passage.
    """

    similarity: float = 0.7
    passage_words: int = 25
    template: float = 0.5

    def __post_init__(self) -> None:
        for name in ("similarity", "template"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be above 0 and at most 1")
        if self.passage_words < RUN:
            raise InputError(f"passage_words is {self.passage_words}; it must be at least {RUN}")


@dataclass(frozen=True)
class PrepareConfig:
    """How a corpus is prepared.

    Attributes:
        columns: the names of the input columns.
        identity: what documents must share to share a sequence ID: ``content``, ``group``, ``source`` or
            ``column:NAME``.
        id_key: secret for keyed IDs; never written, the manifest has 8 digits of its hash.
        groups: how near-duplicates and shared passages are found; None for exact copies alone.
        bad_rows: what a row that cannot be used does: ``stop``, or ``reject``, which leaves it out and lists it in
            ``rejects.jsonl``.
        validation_fraction: share of the documents to hold out, in ``[0, 1)``; default 0.05.
        validation_column: boolean column that says which documents are held out, in place of a fraction.
        seed: seed of the split.
        shard_documents: most documents in one file.
        vocab_size: size of the tokenizer to train; not used with ``tokenizer``.
        tokenizer: folder or name of a tokenizer to use in place of training one.
    """

    columns: Columns = field(default_factory=Columns)
    identity: str = "content"
    id_key: bytes | None = field(default=None, repr=False)
    groups: GroupConfig | None = field(default_factory=GroupConfig)
    bad_rows: Literal["stop", "reject"] = "stop"
    validation_fraction: float | None = None
    validation_column: str | None = None
    seed: int = 0
    shard_documents: int = 10_000
    vocab_size: int = 8192
    tokenizer: Path | str | None = None

    def __post_init__(self) -> None:
        Identity.parse(self.identity)
        if self.validation_column is not None and self.validation_fraction is not None:
            raise InputError("a validation_column already says what is held out; leave validation_fraction out")
        if self.validation_fraction is None:
            object.__setattr__(self, "validation_fraction", 0.05 if self.validation_column is None else 0.0)
        assert self.validation_fraction is not None
        if not 0 <= self.validation_fraction < 1:
            raise InputError(f"validation_fraction is {self.validation_fraction}; it must be at least 0 and below 1")
        if self.bad_rows not in ("stop", "reject"):
            raise InputError(f"bad_rows is {self.bad_rows!r}; choose stop or reject")
        if self.shard_documents < 1:
            raise InputError(f"shard_documents is {self.shard_documents}; it must be at least 1")
        if self.tokenizer is None and self.vocab_size < MIN_VOCAB_SIZE:
            raise InputError(f"vocab_size is {self.vocab_size}; a trained tokenizer needs at least {MIN_VOCAB_SIZE}")
        if self.id_key is not None and not self.id_key:
            raise InputError("id_key is empty, which would hide nothing; give a secret, or none for plain hashes")

    def record(self, columns: Columns) -> dict[str, Any]:
        """The settings as JSON. The key stays out; its fingerprint tells whether two corpora used the same one."""
        key = self.id_key
        return {
            "columns": asdict(columns),
            "identity": self.identity,
            "keyed": key is not None,
            "key_fingerprint": None if key is None else hashlib.sha256(key).hexdigest()[:8],
            "groups": None if self.groups is None else asdict(self.groups),
            "bad_rows": self.bad_rows,
            "validation_fraction": self.validation_fraction,
            **({} if self.validation_column is None else {"validation_column": self.validation_column}),
            "seed": self.seed,
            "shard_documents": self.shard_documents,
        }
