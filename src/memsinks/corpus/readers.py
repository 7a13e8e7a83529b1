"""Documents from JSON lines, Parquet, plain text, folders of these, and Hugging Face datasets."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeAlias

from memsinks.config import Section
from memsinks.corpus.inputs import Inputs, Table, find_tables
from memsinks.corpus.rows import Row, read_arrow, read_dataset, read_json, read_parquet, read_text, require_columns
from memsinks.errors import InputError

Scalar = str | int | float | bool | None
"""What a metadata column may hold."""


GOVERNANCE = ("licence", "contract", "date", "deletion_terms")
"""Metadata with a meaning of its own, stored under these names whatever the input calls them."""
Reject: TypeAlias = Callable[[str, str], None]
"""Takes the place of a row that cannot be used, and why."""


@dataclass(frozen=True)
class Columns(Section):
    """Which columns of a table hold what.

    Attributes:
        text: the document's text.
        id: its name, unique in the corpus; without one documents are named by file and row number.
        source: where it comes from; without one all sources are unknown.
        folder_source: a file's first folder, below the one that was named, is the source of documents without one.
        licence: under which terms it may be used.
        contract: by which agreement it came.
        date: of the text or of its delivery; dates and times become ISO 8601 text.
        deletion_terms: when it has to go, or may be asked to.
        metadata: further columns to keep.

    A plain-text file has no columns: its name is its relative path, and its source and metadata are null.
    """

    text: str = "text"
    id: str | None = "id"
    source: str | None = None
    folder_source: bool = False
    licence: str | None = None
    contract: str | None = None
    date: str | None = None
    deletion_terms: str | None = None
    metadata: tuple[str, ...] = ()

    def governance(self) -> dict[str, str]:
        """The columns of :data:`GOVERNANCE` that the input has, by the name under which they are stored."""
        named = {name: getattr(self, name) for name in GOVERNANCE}
        return {name: column for name, column in named.items() if column is not None}

    def stored(self) -> tuple[str, ...]:
        """Names of all metadata as they are stored.

        Raises:
            InputError: a further column has the name of a governance column.
        """
        governance = self.governance()
        if taken := [name for name in self.metadata if name in governance and governance[name] != name]:
            raise InputError(
                f"metadata column {taken[0]!r} has the name under which column {governance[taken[0]]!r} is stored; "
                "rename it in the input, or leave one of them out"
            )
        return tuple(dict.fromkeys([*governance, *self.metadata]))

    def wanted(self) -> tuple[str, ...]:
        """All named columns, each once."""
        named = (self.text, self.id, self.source, *self.governance().values(), *self.metadata)
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


def read_documents(
    inputs: Inputs, columns: Columns | None = None, *, reject: Reject | None = None
) -> Iterator[Document]:
    """Read documents one at a time, in the order of ``inputs``.

    Args:
        inputs: paths or URLs of files (:data:`memsinks.corpus.inputs.SUPPORTED`; a ``.txt`` file is one document), of
            folders, or of folders written by ``Dataset.save_to_disk``; ``dataset:NAME:SPLIT``; or a dataset object.
        columns: the names of the columns; default :class:`Columns`.
        reject: told of each row that cannot be used, which is then left out; without it such a row is an error.

    Raises:
        InputError: a file, row or column cannot be used; the message names it. Also for a name that occurs twice.
    """
    columns = columns or Columns()
    columns.stored()  # refuses columns that do not go together
    first_seen: dict[str, str] = {}
    for table in find_tables(inputs):
        for document in table_documents(table, columns, table_rows(table, columns), reject):
            if document.name in first_seen:
                error = name_taken(document.name, document.where, first_seen[document.name])
                if reject is None:
                    raise error
                reject(document.where, str(error))
                continue
            first_seen[document.name] = document.where
            yield document


def name_taken(name: str, where: str, first: str) -> InputError:
    """The error of a document's name that occurs twice."""
    return InputError(
        f"{where}: the document name {name!r} was already used at {first}; names must be unique (or set the id column "
        "to none)"
    )


def table_rows(table: Table, columns: Columns) -> Iterator[Row]:
    """The rows of a table that has rows; a plain-text file is one, under the name of the text column."""
    wanted = columns.wanted()
    match table.kind:
        case "dataset":
            return read_dataset(table.dataset, table.label, wanted)
        case "json":
            assert table.place is not None
            return read_json(table.place)
        case "parquet":
            assert table.place is not None
            return read_parquet(table.place, wanted)
        case "arrow":
            assert table.place is not None
            return read_arrow(table.place, wanted)
        case "text":
            return iter([(table.label, 1, {})])


def table_documents(table: Table, columns: Columns, rows: Iterator[Row], reject: Reject | None) -> Iterator[Document]:
    """The documents that ``rows`` of a table are."""
    wanted, fields = columns.wanted(), _fields(columns)
    for where, number, row in rows:
        try:
            if isinstance(row, InputError):
                raise row
            if table.kind == "text":
                yield _plain(table, columns)
                continue
            if not all(column in row for column in wanted):
                require_columns(list(row), wanted, where)
            yield _document(row, columns, fields, where, table.name, number)
        except InputError as error:
            if reject is None:
                raise
            reject(where, str(error))


def _plain(table: Table, columns: Columns) -> Document:
    assert table.place is not None
    text = _text(read_text(table.place), table.label, "the file")
    return Document(table.name, _folder(table.name, columns), text, dict.fromkeys(columns.stored()), table.label)


def _folder(name: str, columns: Columns) -> str | None:
    folder, found, _ = name.partition("/")
    return folder if columns.folder_source and found else None


def _fields(columns: Columns) -> list[tuple[str, str, bool]]:
    """Of all metadata the name under which it is stored, its column, and whether it has to be a string."""
    governance = columns.governance()
    kept = governance | {column: column for column in columns.metadata}
    return [(key, kept[key], key in governance) for key in columns.stored()]


def _document(
    row: Mapping[str, Any], columns: Columns, fields: list[tuple[str, str, bool]], where: str, table: str, number: int
) -> Document:
    text = _text(row[columns.text], where, f"column {columns.text!r}")
    name = f"{table}:{number}"
    if columns.id is not None:
        named = _label(row[columns.id], where, columns.id)
        if not named:
            raise InputError(f"{where}: column {columns.id!r} is empty; every document needs a name")
        name = named
    source = None if columns.source is None else _label(row[columns.source], where, columns.source)
    metadata = {key: _scalar(row[column], where, column) for key, column, _ in fields}
    for key, _, is_text in fields:
        if is_text and metadata[key] is not None:
            metadata[key] = str(metadata[key])
    return Document(name, source or _folder(table, columns), text, metadata, where)


def _text(value: Any, where: str, what: str) -> str:
    if value is None:
        raise InputError(f"{where}: {what} is null; drop the row or give it a text")
    if not isinstance(value, str):
        raise InputError(f"{where}: {what} must be a string, not {type(value).__name__}")
    if not value.strip():
        raise InputError(f"{where}: {what} is empty or blank; drop the row or give it a text")
    if "\0" in value:
        raise InputError(
            f"{where}: {what} has a NUL character at {value.index(chr(0))}, as binary data and wrongly decoded text "
            "have; repair the text"
        )
    return _encodable(value, where, what)


def _label(value: Any, where: str, column: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"{where}: column {column!r} must be a string or an integer, not {type(value).__name__}")
    return _encodable(str(value), where, f"column {column!r}")


def _scalar(value: Any, where: str, column: str) -> Scalar:
    if isinstance(value, date | datetime):
        return value.isoformat()
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
