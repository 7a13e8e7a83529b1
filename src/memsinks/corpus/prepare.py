"""From input documents to a corpus folder: scan, split, tokenise, write, in that order."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from transformers import PreTrainedTokenizerBase

from memsinks import ids
from memsinks.corpus.corpus import Corpus
from memsinks.corpus.files import check_output, file_digest, new_directory
from memsinks.corpus.identity import Identity
from memsinks.corpus.inputs import Inputs, find_tables
from memsinks.corpus.manifest import write_manifest
from memsinks.corpus.readers import Columns, Document, read_documents
from memsinks.corpus.scan import Scan, scan
from memsinks.corpus.shards import RESERVED, ShardWriter, shard_schema
from memsinks.corpus.split import text_hash
from memsinks.corpus.tokenizer import MIN_VOCAB_SIZE, encode_document, load_tokenizer, train_tokenizer
from memsinks.errors import InputError

_ENCODE_DOCUMENTS = 64


@dataclass(frozen=True)
class PrepareConfig:
    """How a corpus is prepared.

    Attributes:
        columns: the names of the input columns.
        identity: what documents must share to share a sequence ID: ``content``, ``source`` or ``column:NAME``.
        id_key: secret for keyed IDs; never written, the manifest has 8 digits of its hash.
        validation_fraction: share of the documents to hold out, in ``[0, 1)``; default 0.05.
        validation_column: boolean column that says which documents are held out, in place of a fraction.
        seed: seed of the split.
        shard_documents: documents in one file.
        vocab_size: size of the tokenizer to train; not used with ``tokenizer``.
        tokenizer: folder or name of a tokenizer to use in place of training one.
    """

    columns: Columns = field(default_factory=Columns)
    identity: str = "content"
    id_key: bytes | None = field(default=None, repr=False)
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
        if self.shard_documents < 1:
            raise InputError(f"shard_documents is {self.shard_documents}; it must be at least 1")
        if self.tokenizer is None and self.vocab_size < MIN_VOCAB_SIZE:
            raise InputError(f"vocab_size is {self.vocab_size}; a trained tokenizer needs at least {MIN_VOCAB_SIZE}")
        if self.id_key is not None and not self.id_key:
            raise InputError("id_key is empty, which would hide nothing; give a secret, or none for plain hashes")


def prepare(
    inputs: Inputs, output: Path | str, config: PrepareConfig | None = None, *, progress: bool = False
) -> Corpus:
    """Tokenise documents into a corpus folder.

    The input is read three times (checks, tokenizer training, writing), or twice if a tokenizer is given, and is never
    held in memory. The validation split holds out whole components of documents: documents whose texts differ at most
    in case and blanks, or whose tokens are equal, belong together; with identity ``column:NAME`` so do documents with
    the same value. With identity ``source`` they do not: other chapters of a trained source are legitimate validation
    text. The split depends on the texts and ``seed`` alone, not on the order of the input or on ``shard_documents``. A
    tokenizer is trained on the training split only.

    Args:
        inputs: paths or a dataset, see :func:`memsinks.corpus.read_documents`.
        output: the folder to make; it appears only when it is complete.
        config: settings; default :class:`PrepareConfig`.
        progress: show progress bars on standard error.

    Returns:
        The new corpus, open.

    Raises:
        InputError: the input, a setting or ``output`` cannot be used, or the disk is full; ``output`` is not made.
    """
    config, output = config or PrepareConfig(), Path(output)
    check_output(output)
    identity = Identity.parse(config.identity)
    columns = _with_columns(config.columns, identity.column, config.validation_column)
    # An identity column called, say, sequence_id is read but not stored under a name that the corpus needs.
    stored = tuple(c for c in columns.metadata if c in config.columns.metadata or c not in RESERVED)
    given = None if config.tokenizer is None else load_tokenizer(config.tokenizer)
    with Progress(console=Console(stderr=True), disable=not progress) as bars:
        documents = bars.track(read_documents(inputs, columns), description="reading")
        scanned = scan(documents, identity, stored, config.id_key, config.validation_column)
        schema = shard_schema(scanned.metadata_types)

        def again(task: str) -> Iterator[Document]:
            return _reread(bars.track(read_documents(inputs, columns), len(scanned), description=task), scanned)

        with new_directory(output) as folder:
            content_ids = None
            while True:
                assert config.validation_fraction is not None
                validation = scanned.split(config.validation_fraction, config.seed, content_ids)
                tokenizer = given or _train(again("training the tokenizer"), validation, config.vocab_size)
                with ShardWriter(folder, schema, config.shard_documents) as writer:
                    encoded = _encode(again("tokenising"), tokenizer)
                    written = _write(encoded, writer, validation, identity, config.id_key)
                if not written.leaks(validation):
                    break
                # Texts that normalisation keeps apart can have equal tokens if the tokenizer loses something: link
                # these documents too, and split again. Every round joins components, so this ends.
                content_ids = written.content_ids
            tokenizer.save_pretrained(folder / "tokenizer")
            write_manifest(
                folder,
                {
                    "config": _config_record(config, columns, tokenizer),
                    "inputs": _input_record(inputs, config.id_key),
                    "splits": written.splits(validation),
                    "sources": written.source_table(validation, identity),
                    "metadata": {name: str(kind) for name, kind in scanned.metadata_types.items()},
                    "shards": writer.names,
                },
            )
    return Corpus.open(output, verify=False)


@dataclass
class _Written:
    """What the manifest tells about the documents, in input order."""

    content_ids: list[int] = field(default_factory=list)
    sequence_ids: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    sources: list[str | None] = field(default_factory=list)

    def leaks(self, validation: np.ndarray) -> bool:
        """Whether a validation document has the tokens of a training document."""
        contents = np.array(self.content_ids, dtype=np.uint64)
        return bool(np.isin(contents[validation], contents[~validation]).any())

    def splits(self, validation: np.ndarray) -> dict[str, dict[str, int]]:
        """Documents and tokens of each split."""
        lengths = np.array(self.lengths)
        return {
            name: {"documents": int(chosen.sum()), "tokens": int(lengths[chosen].sum())}
            for name, chosen in (("train", ~validation), ("validation", validation))
        }

    def source_table(self, validation: np.ndarray, identity: Identity) -> list[dict[str, Any]]:
        """Documents and tokens of each source, in the order of first appearance."""
        table: dict[str | None, dict[str, Any]] = {}
        for i, source in enumerate(self.sources):
            row = table.setdefault(source, {"source": source, "documents": 0, "validation_documents": 0, "tokens": 0})
            row["documents"] += 1
            row["validation_documents"] += int(validation[i])
            row["tokens"] += self.lengths[i]
            if identity.kind == "source":
                row["sequence_id"] = ids.format_id(self.sequence_ids[i])
        return list(table.values())


def _with_columns(columns: Columns, *needed: str | None) -> Columns:
    """``columns`` with further ones among the metadata: IDs and the split are read there, and governance may be."""
    missing = tuple(dict.fromkeys(c for c in needed if c is not None and c not in columns.metadata))
    return replace(columns, metadata=(*columns.metadata, *missing))


def _reread(documents: Iterable[Document], scanned: Scan) -> Iterator[Document]:
    count = 0
    for document in documents:
        if count >= len(scanned) or text_hash(document.text) != scanned.hashes[count]:
            raise InputError(f"{document.where}: the input changed while it was being read; run again")
        count += 1
        yield document
    if count != len(scanned):
        raise InputError(f"the input changed while it was being read: {len(scanned)} documents, then {count}")


def _train(documents: Iterator[Document], validation: np.ndarray, vocab_size: int) -> PreTrainedTokenizerBase:
    return train_tokenizer((d.text for i, d in enumerate(documents) if not validation[i]), vocab_size)


def _encode(
    documents: Iterator[Document], tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[Document, np.ndarray, np.ndarray]]:
    """Each document with its text tokens, and with these between the tokenizer's begin and end markers."""
    bos, eos = ([] if marker is None else [marker] for marker in (tokenizer.bos_token_id, tokenizer.eos_token_id))
    while batch := list(islice(documents, _ENCODE_DOCUMENTS)):
        for document, text in zip(batch, encode_document(tokenizer, [d.text for d in batch]), strict=True):
            stored = np.concatenate([bos, text, eos]).astype(np.uint32)
            if not len(text) or len(stored) < 2:
                raise InputError(
                    f"{document.where}: document {document.name!r} becomes {len(text)} token(s), too few to train on; "
                    "drop it, or use another tokenizer"
                )
            yield document, text, stored


def _write(
    encoded: Iterable[tuple[Document, np.ndarray, np.ndarray]],
    writer: ShardWriter,
    validation: np.ndarray,
    identity: Identity,
    key: bytes | None,
) -> _Written:
    written = _Written()
    for i, (document, text, stored) in enumerate(encoded):
        content_id = ids.content_id(text, key=key)
        sequence_id = identity.sequence_id(document, content_id, key)
        writer.add(
            {
                "document": document.name,
                "source": document.source,
                "split": "validation" if validation[i] else "train",
                "sequence_id": sequence_id,
                "content_id": content_id,
                "tokens": stored,
                **{name: document.metadata[name] for name in writer.metadata},
            }
        )
        written.content_ids.append(content_id)
        written.sequence_ids.append(sequence_id)
        written.lengths.append(len(stored))
        written.sources.append(document.source)
    return written


def _config_record(config: PrepareConfig, columns: Columns, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The settings as JSON. The key stays out; its fingerprint tells whether two corpora used the same one."""
    key = config.id_key
    return {
        "columns": asdict(columns),
        "identity": config.identity,
        "keyed": key is not None,
        "key_fingerprint": None if key is None else hashlib.sha256(key).hexdigest()[:8],
        "validation_fraction": config.validation_fraction,
        **({} if config.validation_column is None else {"validation_column": config.validation_column}),
        "seed": config.seed,
        "shard_documents": config.shard_documents,
        "tokenizer": "trained" if config.tokenizer is None else Path(config.tokenizer).name,
        "vocab_size": len(tokenizer),
    }


def _input_record(inputs: Inputs, key: bytes | None) -> list[dict[str, Any]]:
    """Names, sizes and hashes of the input files; a dataset in memory has a name only.

    With a key the hashes are keyed too: a file may hold a single document, whose hash would confirm its presence.
    """
    algorithm = "sha256" if key is None else "hmac_sha256"
    record: list[dict[str, Any]] = []
    for table in find_tables(inputs):
        files = list(table.files())
        record += [{"name": n, "bytes": p.stat().st_size, algorithm: file_digest(p, key)} for n, p in files]
        if not files:
            record.append({"name": table.name})
    return record
