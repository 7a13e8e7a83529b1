"""Documents from JSON lines, Parquet, plain text, folders of these, and Hugging Face datasets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from memsinks.corpus.inputs import Inputs, Table, find_tables
from memsinks.corpus.rows import Row, read_dataset, read_jsonl, read_parquet, read_text, require_columns
from memsinks.errors import InputError

Scalar = str | int | float | bool | None
"""What a metadata column may hold."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what.

    Attributes:
        text: the document's text.
        id: its name, unique in the corpus; ``None`` names documents ``<file name>:<row number>``.
        source: where it comes from; ``None`` leaves all sources unknown.
        metadata: further columns to keep.

    A plain-text file has no columns: its name is its relative path, and its source and metadata are null.
    """

    text: str = "text"
    id: str | None = "id"
    source: str | None = None
    metadata: tuple[str, ...] = ()

    def wanted(self) -> tuple[str, ...]:
        """All named columns, each once."""
        named = (self.text, self.id, self.source, *self.metadata)
        return tuple(dict.fromkeys(c for c in named if c is not None))


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        name: the document's name, unique in a corpus.
        source: where it comes from, if known.
        text: the text, with at least one character that is not a blank.
        metadata: the further columns that were asked for.
        where: file and row, for error messages.
    """

    name: str
    source: str | None
    text: str
    metadata: dict[str, Scalar] = field(default_factory=dict)
    where: str = field(default="", compare=False)


def read_documents(inputs: Inputs, columns: Columns | None = None) -> Iterator[Document]:
    """Read documents one at a time, in the order of ``inputs``.

    Args:
        inputs: paths of ``.jsonl`` or ``.json-lines`` files (also ``.gz``, ``.zst``), ``.parquet`` files, ``.txt``
            files (one document each), folders, folders written by ``Dataset.save_to_disk``; or a dataset object.
        columns: the names of the columns; default :class:`Columns`.

    Raises:
        InputError: a file, row or column cannot be used; the message names it. Also for a name that occurs twice.
    """
    columns = columns or Columns()
    first_seen: dict[str, str] = {}
    for table in find_tables(inputs):
        for document in _read_table(table, columns):
            if document.name in first_seen:
                raise InputError(
                    f"{document.where}: the document name {document.name!r} was already used at "
                    f"{first_seen[document.name]}; names must be unique (or set the id column to none)"
                )
            first_seen[document.name] = document.where
            yield document


def _read_table(table: Table, columns: Columns) -> Iterator[Document]:
    wanted = columns.wanted()
    match table.kind:
        case "text":
            assert table.path is not None
            text = _text(read_text(table.path), table.label, "the file")
            yield Document(table.name, None, text, dict.fromkeys(columns.metadata), table.label)
            return
        case "jsonl":
            assert table.path is not None
            rows: Iterator[Row] = read_jsonl(table.path)
        case "parquet":
            assert table.path is not None
            rows = read_parquet(table.path, wanted)
        case "dataset":
            rows = read_dataset(table.dataset, table.label, wanted)
    for where, number, row in rows:
        if not all(column in row for column in wanted):
            require_columns(list(row), wanted, where)
        yield _document(row, columns, where, f"{table.name}:{number}")


def _document(row: Mapping[str, Any], columns: Columns, where: str, default_name: str) -> Document:
    text = _text(row[columns.text], where, f"column {columns.text!r}")
    name = default_name
    if columns.id is not None:
        named = _label(row[columns.id], where, columns.id)
        if not named:
            raise InputError(f"{where}: column {columns.id!r} is empty; every document needs a name")
        name = named
    source = None if columns.source is None else _label(row[columns.source], where, columns.source)
    metadata = {column: _scalar(row[column], where, column) for column in columns.metadata}
    return Document(name, source or None, text, metadata, where)


def _text(value: Any, where: str, what: str) -> str:
    if value is None:
        raise InputError(f"{where}: {what} is null; drop the row or give it a text")
    if not isinstance(value, str):
        raise InputError(f"{where}: {what} must be a string, not {type(value).__name__}")
    if not value.strip():
        raise InputError(f"{where}: {what} is empty or blank; drop the row or give it a text")
    return _encodable(value, where, what)


def _label(value: Any, where: str, column: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{where}: column {column!r} must be a string or an integer, not {type(value).__name__}")
    return _encodable(str(value), where, f"column {column!r}")


def _scalar(value: Any, where: str, column: str) -> Scalar:
    if value is not None and not isinstance(value, str | int | float):
        raise InputError(
            f"{where}: column {column!r} must be a string, number, boolean or null, not {type(value).__name__}; "
            "convert it or leave the column out"
        )
    return _encodable(value, where, f"column {column!r}") if isinstance(value, str) else value


def _encodable(value: str, where: str, what: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: {what} has half of a surrogate pair at character {error.start}, which is not valid UTF-8; "
            "repair the text"
        ) from error
    return value
