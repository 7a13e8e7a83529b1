"""A prepared corpus: memory-mapped tokens and what is known about each document."""

import difflib
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from memsinks.corpus import cache, storage
from memsinks.corpus import manifest as manifests
from memsinks.corpus.identity import Identity
from memsinks.corpus.storage import Place
from memsinks.corpus.tokenizer import load_tokenizer
from memsinks.errors import InputError
from memsinks.ids import column_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Corpus:
    """Documents of a corpus folder, numbered from 0 in input order; read-only.

    Pickles as its path, so worker processes map the files again and share their memory.

    Attributes:
        path: the corpus folder; of a corpus behind a URL, that in the cache.
        place: the folder or URL that was opened.
        manifest: the content of ``manifest.json``.
        hash: SHA-256 of ``manifest.json``, which names the hash of every other file.
        documents: the documents' names.
        sources: their sources, ``None`` where unknown.
        ids: what documents must share to share a sequence ID; None as the corpus was prepared.
        sequence_ids: ``uint64`` ``[documents]``.
        content_ids: ``uint64`` ``[documents]``.
        lengths: ``int64`` ``[documents]``, stored tokens, begin and end markers included.
        is_validation: ``bool`` ``[documents]``.
    """

    def __init__(
        self, path: Path, manifest: dict[str, Any], ids: str | None = None, place: Place | None = None
    ) -> None:
        """Map the files; use :meth:`open`."""
        self.path = path
        self.place = path if place is None else place
        self.manifest = manifest
        self.ids = None if ids == manifest["config"]["identity"] else ids
        self.hash = hashlib.sha256((path / manifests.NAME).read_bytes()).hexdigest()
        try:
            self._table = pa.concat_tables(_map(path / name) for name in manifest["shards"])
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: a shard cannot be read ({error}); prepare the corpus again") from error
        self.documents: list[str] = self._table["document"].to_pylist()
        self.sources: list[str | None] = self._table["source"].to_pylist()
        self.content_ids: np.ndarray = self._table["content_id"].to_numpy()
        self.sequence_ids: np.ndarray = self._ids(self.ids)
        self.is_validation: np.ndarray = np.array([split == "validation" for split in self._table["split"].to_pylist()])
        self._values: list[np.ndarray] = []
        self._offsets: list[np.ndarray] = []
        for chunk in self._table["tokens"].chunks:
            self._values.append(chunk.values.to_numpy())
            self._offsets.append(chunk.offsets.to_numpy())
        self._first = np.cumsum([0, *(len(o) - 1 for o in self._offsets)])
        self.lengths: np.ndarray = np.concatenate([np.diff(o) for o in self._offsets]).astype(np.int64)
        for array in (self.sequence_ids, self.content_ids, self.is_validation, self.lengths):
            array.setflags(write=False)
        self._index: dict[str, int] | None = None

    @classmethod
    def open(cls, path: Path | str, verify: bool = True, ids: str | None = None) -> "Corpus":
        """Open a corpus folder, or fetch it first if it is behind a URL (:mod:`memsinks.corpus.cache`).

        Args:
            path: the folder that :func:`memsinks.corpus.prepare` wrote, or its URL.
            verify: compare every file with its hash in the manifest, which reads all of them once.
            ids: what documents must share to share a sequence ID: ``content``, ``group``, ``source`` or
                ``column:NAME``; default what it was prepared with.

        Raises:
            InputError: the folder is no corpus, a file is missing or was altered, it cannot be fetched, or it does not
                have such IDs.
        """
        place = storage.place(path)
        if isinstance(place, str):
            folder = cache.fetch(place, verify)
            return cls(folder, manifests.read_manifest(folder), ids, place)
        path = place.resolve()
        manifest = manifests.read_manifest(path)
        if verify:
            manifests.verify_files(path, manifest)
        return cls(path, manifest, ids)

    def __len__(self) -> int:
        return len(self.documents)

    def __repr__(self) -> str:
        return f"Corpus({str(self.place)!r}, {len(self)} documents, {int(self.lengths.sum())} tokens)"

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "hash": self.hash, "ids": self.ids, "place": self.place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Opened anew: memory-mapped shards do not travel between processes. The type checker fears that a subclass
        # has another __init__; this one has none.
        manifest = manifests.read_manifest(state["path"])
        self.__init__(state["path"], manifest, state["ids"], state["place"])  # type: ignore[misc]
        if self.hash != state["hash"]:
            raise InputError(f"{self.path}: the corpus was replaced while it was in use; start again")

    @functools.cached_property
    def group_ids(self) -> np.ndarray:
        """``uint64 [documents]``: documents of one group share one.

        Raises:
            InputError: the corpus was prepared before groups were kept.
        """
        return self._column("group_id").to_numpy()

    @functools.cached_property
    def source_ids(self) -> np.ndarray:
        """``uint64 [documents]``, 0 where the source is unknown.

        Raises:
            InputError: the corpus was prepared before they were kept.
        """
        return self._column("source_id").fill_null(0).to_numpy()

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self._table.column_names:
            raise InputError(f"{self.place}: has no {name}; prepare the corpus again with this version of memsinks")
        return self._table[name]

    def _ids(self, kind: str | None) -> np.ndarray:
        if kind is None:
            return self._table["sequence_id"].to_numpy()
        identity = Identity.parse(kind)
        match identity.kind:
            case "content":
                return self.content_ids
            case "group":
                return self.group_ids
            case "source":
                if None in self.sources:
                    name = self.documents[self.sources.index(None)]
                    raise InputError(f"{self.place}: document {name!r} has no source, so IDs cannot be by source")
                return self.source_ids
        assert identity.column is not None
        if self.manifest["config"]["keyed"]:
            raise InputError(
                f"{self.place}: its IDs are keyed, and the key is not at hand; to have IDs by column "
                f"{identity.column!r}, prepare the corpus with --ids {kind}"
            )
        return np.array([column_id(value) for value in self.metadata(identity.column)], dtype=np.uint64)

    def tokens(self, i: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Tokens ``start:stop`` of document ``i`` as a new ``int64`` array; by default all of them."""
        if not 0 <= i < len(self):
            raise IndexError(f"document {i} of a corpus of {len(self)}")
        chunk = int(np.searchsorted(self._first, i, side="right")) - 1
        begin, end = self._offsets[chunk][i - self._first[chunk] :][:2]
        return self._values[chunk][begin:end][start:stop].astype(np.int64)

    def text(self, i: int) -> str:
        """The text of document ``i``, from its tokens: as it was, unless the tokenizer loses something."""
        return self.tokenizer.decode(self.tokens(i), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def metadata(self, name: str) -> list[Any]:
        """The values of a metadata column, one a document.

        Raises:
            InputError: there is no such column.
        """
        columns = list(self.manifest["metadata"])
        if name not in columns:
            raise InputError(
                f"{self.place}: no metadata column {name!r}; there {_are(columns)}. "
                "Name it in the column settings when the corpus is prepared"
            )
        return self._table[name].to_pylist()

    def index(self, name: str) -> int:
        """The number of the document called ``name``.

        Raises:
            InputError: there is none.
        """
        if self._index is None:
            self._index = {document: i for i, document in enumerate(self.documents)}
        if name not in self._index:
            close = difflib.get_close_matches(name, self.documents[:100_000], n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"names look like {self.documents[0]!r}"
            raise InputError(f"{self.place}: no document {name!r}; {hint}")
        return self._index[name]

    @functools.cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The tokenizer that made the tokens."""
        return load_tokenizer(self.path / "tokenizer")


def _map(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _are(columns: list[str]) -> str:
    return f"are {', '.join(map(repr, columns))}" if columns else "are none"
