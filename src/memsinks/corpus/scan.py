"""The first reading of a corpus: every check that needs no tokens, and what the split is decided on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from memsinks.corpus.identity import Identity
from memsinks.corpus.metadata import MetadataTypes
from memsinks.corpus.readers import Document
from memsinks.corpus.split import components, hold_out, text_hash
from memsinks.errors import InputError


@dataclass(frozen=True)
class Scan:
    """What is known of all documents before they are tokenised.

    Attributes:
        hashes: the hash of each document's normalised text.
        groups: for identity ``column``, the sequence ID of each document; else ``None``.
        metadata_types: the Arrow type of each metadata column.
        held_out: whether the input says that each document is held out, and where it stands; None where it does not.
    """

    hashes: list[bytes]
    groups: list[int | None] | None
    metadata_types: dict[str, pa.DataType]
    held_out: list[tuple[bool, str]] | None = None

    def __len__(self) -> int:
        return len(self.hashes)

    def split(self, fraction: float, seed: int, content_ids: list[int] | None = None) -> np.ndarray:
        """Choose the validation documents; see :func:`memsinks.corpus.split.hold_out`.

        Documents are held out together if they share the normalised text, the value of the identity column, or, where
        given, the content ID.

        Raises:
            InputError: the input holds out a document and trains on one that belongs together with it.
        """
        links = [column for column in (self.hashes, self.groups, content_ids) if column is not None]
        if self.held_out is not None:
            return self._given(components(links), self.held_out)
        return hold_out(components(links), self.hashes, fraction=fraction, seed=seed)

    def _given(self, component: np.ndarray, held_out: list[tuple[bool, str]]) -> np.ndarray:
        chosen = np.array([held for held, _ in held_out])
        for i in np.flatnonzero(chosen != chosen[component])[:1].tolist():
            raise InputError(
                f"{held_out[i][1]} and {held_out[int(component[i])][1]} are copies, or of one group, but only one of "
                "them is held out; hold out both or neither"
            )
        if chosen.all():
            raise InputError("every document is held out; there is nothing to train on")
        return chosen


def scan(
    documents: Iterable[Document],
    identity: Identity,
    metadata: tuple[str, ...],
    key: bytes | None,
    validation_column: str | None = None,
) -> Scan:
    """Read all documents once.

    Raises:
        InputError: there is no document, or one cannot be used; see :mod:`memsinks.corpus.readers`.
    """
    hashes: list[bytes] = []
    groups: list[int | None] = []
    held_out: list[tuple[bool, str]] = []
    types = MetadataTypes(metadata)
    for document in documents:
        hashes.append(text_hash(document.text))
        types.observe(document)
        groups.append(identity.shared_id(document, key))
        if validation_column is not None:
            held_out.append((_held_out(document, validation_column), document.where))
    if not hashes:
        raise InputError("the input holds no document; give at least one file with a row in it")
    return Scan(hashes, groups if identity.kind == "column" else None, types.arrow_types(), held_out or None)


def _held_out(document: Document, column: str) -> bool:
    value = document.metadata[column]
    if not isinstance(value, bool):
        raise InputError(
            f"{document.where}: column {column!r} must be true (held out) or false (trained on), not {value!r}"
        )
    return value
