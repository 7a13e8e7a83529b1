"""From what the user names (files, folders, saved datasets) to a list of tables in a fixed order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import datasets

from memsinks.errors import InputError

Inputs: TypeAlias = Path | str | Sequence[Path | str] | datasets.Dataset | datasets.IterableDataset
"""What a corpus is read from: paths, or a dataset object."""

_SUFFIXES: dict[str, Literal["jsonl", "parquet", "text"]] = {
    **{base + ext: "jsonl" for base in (".jsonl", ".json-lines") for ext in ("", ".gz", ".zst")},
    ".parquet": "parquet",
    ".txt": "text",
}
SUPPORTED = ", ".join(_SUFFIXES)


@dataclass(frozen=True)
class Table:
    """One file or dataset of documents.

    ``name`` is relative to the folder that the user named; ``label`` is what error messages call the table.
    """

    kind: Literal["jsonl", "parquet", "text", "dataset"]
    name: str
    label: str
    path: Path | None = None
    dataset: Any = None

    def files(self) -> Iterator[tuple[str, Path]]:
        """The files behind the table as ``(name, path)``; none for a dataset that exists in memory only."""
        if self.path is None:
            return
        if self.kind != "dataset":
            yield self.name, self.path
            return
        for file in sorted(p for p in self.path.rglob("*") if p.is_file()):
            # Hugging Face leaves caches of derived data (cache-*.arrow) beside the data.
            if not file.name.startswith("cache-"):
                yield f"{self.name}/{file.relative_to(self.path).as_posix()}", file


def find_tables(inputs: Inputs) -> list[Table]:
    """All tables that ``inputs`` stands for; folders are searched recursively, in sorted order.

    In a folder, files of other kinds and hidden ones are passed over.

    Raises:
        InputError: a path does not exist or is of an unsupported kind, or a folder holds no supported file.
    """
    if isinstance(inputs, datasets.Dataset | datasets.IterableDataset):
        return [Table("dataset", "dataset", "dataset", dataset=inputs)]
    if isinstance(inputs, datasets.DatasetDict | datasets.IterableDatasetDict):
        raise InputError(f"a dataset with several splits ({', '.join(inputs)}) was given; choose one split")
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    tables: list[Table] = []
    for item in inputs:
        if not isinstance(item, str | Path):
            raise InputError(f"an input must be a path or one datasets.Dataset, not {type(item).__name__}")
        path = Path(item)
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; check the path")
        if not path.is_dir():
            tables.append(_file_table(path, path.name))
        elif found := _folder_tables(path):
            tables += found
        else:
            raise InputError(f"{path}: this folder holds no supported file; supported are {SUPPORTED}")
    return tables


def _folder_tables(folder: Path) -> list[Table]:
    try:
        return list(_walk(folder, folder))
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be read ({error.strerror})") from error


def _walk(folder: Path, root: Path) -> Iterator[Table]:
    relative = folder.relative_to(root).as_posix()
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(p.name for p in folder.iterdir() if p.is_dir())
        raise InputError(f"{folder}: a saved dataset with several splits; name one of the folders {', '.join(splits)}")
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        try:
            dataset = datasets.load_from_disk(str(folder))
        except Exception as error:  # the library raises many kinds for a damaged folder
            raise InputError(f"{folder}: cannot be read as a saved dataset ({error}); save it again") from error
        name = root.name if relative == "." else relative
        yield Table("dataset", name or "dataset", str(folder), path=folder, dataset=dataset)
        return
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry, root)
        elif _kind(entry) is not None:
            yield _file_table(entry, entry.relative_to(root).as_posix())


def _file_table(path: Path, name: str) -> Table:
    kind = _kind(path)
    if kind is None:
        raise InputError(f"{path}: unsupported kind of file; supported are {SUPPORTED}")
    return Table(kind, name, str(path), path=path)


def _kind(path: Path) -> Literal["jsonl", "parquet", "text"] | None:
    name = path.name.lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)
