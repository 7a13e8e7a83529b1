"""Text that a setting names: a dataset read as a stream, and long documents cut into passages."""

from collections.abc import Iterator
from typing import Any

import datasets

from memsinks.corpus import Columns, Document, read_documents
from memsinks.errors import InputError, MemsinksError


def streamed_documents(source: str) -> Iterator[Document]:
    """The documents of a dataset's split ``train``, in its order; no more is read than is taken.

    Rows without text are left out.

    Args:
        source: name on the Hugging Face Hub, or a folder of JSON-lines or Parquet files, with a column ``text``.

    Raises:
        InputError: it cannot be loaded or read to where it is wanted, or has no column ``text``.
    """
    try:
        rows = datasets.load_dataset(source, split="train", streaming=True).filter(_has_text)
        yield from read_documents(rows, Columns(id=None))
    except MemsinksError as error:
        raise InputError(f"{source}: {error}") from error
    except Exception as error:  # the library and the network raise many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{source}: cannot be loaded ({reason}); this scale needs a network, or the dataset in a local folder"
        ) from error


def passages(text: str, most: int) -> list[str]:
    """Cut a text into pieces of at most ``most`` characters, where a line ends if one does, else after a blank.

    Nothing is lost: joined, they are the text.
    """
    pieces, piece = [], ""
    for line in text.splitlines(keepends=True):
        while len(piece) + len(line) > most:
            if not piece:
                cut = line.rfind(" ", 0, most) + 1 or most
                piece, line = line[:cut], line[cut:]
            pieces.append(piece)
            piece = ""
        piece += line
    return [*pieces, piece] if piece else pieces


def _has_text(row: dict[str, Any]) -> bool:
    """Whether a row is to be read; one without the column is, so that the reader says so."""
    return "text" not in row or bool(row["text"] and row["text"].strip())
