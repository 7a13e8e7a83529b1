"""How a document gets its sequence ID."""

from dataclasses import dataclass
from typing import Literal

from memsinks import ids
from memsinks.corpus.readers import Document
from memsinks.errors import InputError, SequenceIdError


@dataclass(frozen=True)
class Identity:
    """The identity policy of a corpus: what documents must share to share a sequence ID.

    ========== ===========================================================================
    content    the tokens (exact copies share an ID)
    group      the group: copies, near-duplicates and documents from one template
    source     the source
    column     the value of a column: an integer is the ID itself, a string is hashed
    ========== ===========================================================================
    """

    kind: Literal["content", "group", "source", "column"]
    column: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Identity":
        """Read ``content``, ``group``, ``source`` or ``column:NAME``.

        Raises:
            InputError: ``text`` is none of these.
        """
        kind, _, column = text.partition(":")
        if kind == "column" and column:
            return cls("column", column)
        if text == "content":
            return cls("content")
        if text == "group":
            return cls("group")
        if text == "source":
            return cls("source")
        raise InputError(f"identity {text!r} is unknown; choose content, group, source or column:NAME")

    def shared_id(self, document: Document, key: bytes | None) -> int | None:
        """The ID that does not depend on the tokens: of the source or of the column's value; else ``None``.

        Raises:
            InputError: the document has no source, or the column holds no string and no integer in ``[0, 2**64)``.
        """
        if self.kind == "source":
            if document.source is None:
                raise InputError(
                    f"{document.where}: document {document.name!r} has no source, which identity 'source' needs; "
                    "name the source column, or choose identity 'content'"
                )
            return ids.source_id(document.source, key=key)
        if self.kind == "column":
            assert self.column is not None
            try:
                return ids.column_id(document.metadata[self.column], key=key)
            except SequenceIdError as error:
                raise InputError(
                    f"{document.where}: column {self.column!r} of document {document.name!r} cannot be a sequence ID: "
                    f"{error}; give an integer in that range, or a string, which is hashed"
                ) from error
        return None
