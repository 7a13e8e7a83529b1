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
    """

    hashes: list[bytes]
    groups: list[int | None] | None
    metadata_types: dict[str, pa.DataType]

    def __len__(self) -> int:
        return len(self.hashes)

    def split(self, fraction: float, seed: int, content_ids: list[int] | None = None) -> np.ndarray:
        """Choose the validation documents; see :func:`memsinks.corpus.split.hold_out`.

        Documents are held out together if they share the normalised text, the value of the identity column, or, where
        given, the content ID.
        """
        links = [column for column in (self.hashes, self.groups, content_ids) if column is not None]
        return hold_out(components(links), self.hashes, fraction=fraction, seed=seed)


def scan(documents: Iterable[Document], identity: Identity, metadata: tuple[str, ...], key: bytes | None) -> Scan:
    """Read all documents once.

    Raises:
        InputError: there is no document, or one cannot be used; see :mod:`memsinks.corpus.readers`.
    """
    hashes: list[bytes] = []
    groups: list[int | None] = []
    types = MetadataTypes(metadata)
    for document in documents:
        hashes.append(text_hash(document.text))
        types.observe(document)
        groups.append(identity.shared_id(document, key))
    if not hashes:
        raise InputError("the input holds no document; give at least one file with a row in it")
    return Scan(hashes, groups if identity.kind == "column" else None, types.arrow_types())
