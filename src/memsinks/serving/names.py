"""Names of sources and documents, and the sequence IDs that trained under them.

A server needs only these of a corpus. In a file of their own they come without the text, so that the machine that
serves need not hold what was trained.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memsinks.checkpoint.lineage import Lineage
from memsinks.corpus import Corpus
from memsinks.corpus.storage import Place
from memsinks.errors import InputError

FORMAT, FORMAT_VERSION = "memsinks-names", 1
_SCHEMA = pa.schema({"document": pa.string(), "source": pa.string(), "sequence_id": pa.uint64()})
_METADATA = b"memsinks"


def corpora_of(lineage: Lineage, places: Iterable[Place]) -> Iterator[Corpus]:
    """Corpora of a checkpoint's trainings, each opened with the IDs that its training gave it.

    Args:
        lineage: of the checkpoint.
        places: folders or URLs.

    Raises:
        InputError: a place is no corpus, or the checkpoint was not trained on it.
    """
    stages = {stage.corpus: stage for stage in lineage.stages}
    for place in places:
        corpus = Corpus.open(place)
        if corpus.hash not in stages:
            raise InputError(f"{place}: the checkpoint was not trained on this corpus; give that of its training")
        kind = stages[corpus.hash].ids
        yield corpus if kind is None else Corpus.open(place, verify=False, ids=kind)


class Names:
    """The documents that trained with sinks, removed ones among them.

    Args:
        table: columns ``document``, ``source`` (null where unknown) and ``sequence_id``.
        corpora: SHA-256 of the manifests of their corpora.
    """

    def __init__(self, table: pa.Table, corpora: Sequence[str]) -> None:
        self._table, self.corpora = table, tuple(corpora)

    @classmethod
    def of(cls, lineage: Lineage, places: Iterable[Place]) -> "Names":
        """The names in the corpora of a checkpoint's trainings.

        Args:
            lineage: of the checkpoint.
            places: folders or URLs of corpora; each is opened with the IDs that its training gave it.

        Raises:
            InputError: a place is no corpus, or the checkpoint was not trained on it.
        """
        known, tables, hashes = lineage.trained["sequence_id"].to_numpy(), [], []
        for corpus in corpora_of(lineage, places):
            chosen = np.flatnonzero(np.isin(corpus.sequence_ids, known) & ~corpus.is_validation)
            columns = [corpus.documents, corpus.sources, corpus.sequence_ids]
            tables.append(pa.table([pa.array(column).take(chosen) for column in columns], names=_SCHEMA.names))
            hashes.append(corpus.hash)
        return cls(pa.concat_tables([_SCHEMA.empty_table(), *(table.cast(_SCHEMA) for table in tables)]), hashes)

    @classmethod
    def load(cls, file: Path, lineage: Lineage) -> "Names":
        """Read what :meth:`save` wrote.

        Raises:
            InputError: the file cannot be read, is of another format, or names text of another checkpoint.
        """
        try:
            table = pq.read_table(file)
            facts = json.loads(table.schema.metadata[_METADATA])
            version, corpora = facts["format_version"], facts["corpora"]
            if facts["format"] != FORMAT or table.schema.names != _SCHEMA.names:
                raise ValueError("its columns are others")
            table = table.cast(_SCHEMA)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise InputError(f"{file}: is no file of names ({error}); make one with --save-names") from error
        if version != FORMAT_VERSION:
            raise InputError(f"{file}: has format version {version}; this version of memsinks reads {FORMAT_VERSION}")
        if not set(corpora) <= {stage.corpus for stage in lineage.stages}:
            raise InputError(f"{file}: was made for a checkpoint of another corpus; make it again with --save-names")
        return cls(table, corpora)

    def save(self, file: Path) -> None:
        """Write the names as Parquet.

        Raises:
            InputError: the file exists or cannot be written.
        """
        if file.exists():
            raise InputError(f"{file} exists; choose another name or move it away")
        facts = {"format": FORMAT, "format_version": FORMAT_VERSION, "corpora": list(self.corpora)}
        table = self._table.replace_schema_metadata({_METADATA: json.dumps(facts)})
        temporary = file.with_name(f".{file.name}.tmp")
        try:
            pq.write_table(table, temporary)
            temporary.replace(file)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise InputError(f"{file}: cannot be written ({error})") from error

    def __len__(self) -> int:
        return len(self._table)

    @cached_property
    def documents(self) -> dict[str, frozenset[int]]:
        """The sequence IDs of each document."""
        return self._by("document")

    @cached_property
    def sources(self) -> dict[str, frozenset[int]]:
        """The sequence IDs of each source."""
        return self._by("source")

    def _by(self, column: str) -> dict[str, frozenset[int]]:
        found: dict[str, set[int]] = {}
        ids = self._table["sequence_id"].to_pylist()
        for name, sequence_id in zip(self._table[column].to_pylist(), ids, strict=True):
            if name is not None:
                found.setdefault(name, set()).add(sequence_id)
        return {name: frozenset(own) for name, own in found.items()}
