"""From what the user names (files, folders, saved datasets) to a list of tables in a fixed order."""

import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from memsinks.corpus import storage
from memsinks.corpus.storage import Place
from memsinks.errors import InputError

if TYPE_CHECKING:
    import datasets

Inputs: TypeAlias = "Path | str | Sequence[Path | str] | datasets.Dataset | datasets.IterableDataset"
"""What a corpus is read from: paths, URLs, names of datasets, or a dataset object."""
Kind: TypeAlias = Literal["json", "parquet", "arrow", "text", "dataset"]

DATASET = "dataset:"
"""``dataset:NAME:SPLIT`` or ``dataset:NAME:CONFIGURATION:SPLIT`` is loaded, streamed, by the datasets library."""
_SUFFIXES: dict[str, Kind] = {
    **{base + ext: "json" for base in (".jsonl", ".json-lines", ".json") for ext in ("", ".gz", ".zst")},
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
}
SUPPORTED = ", ".join(_SUFFIXES)


@dataclass(frozen=True)
class Table:
    """One file or dataset of documents.

    Attributes:
        kind: of the file.
        name: relative to the folder that the user named.
        label: what error messages call the table.
        place: path or URL; None for a dataset that exists in memory only, or is loaded by name.
        dataset: an open dataset.
    """

    kind: Kind
    name: str
    label: str
    place: Place | None = None
    dataset: Any = None

    def fingerprint(self) -> str | None:
        """What tells a dataset in memory from another; None where files, or a name, say what it is."""
        if self.kind != "dataset" or self.place is not None or self.label != "dataset":
            return None
        # An iterable dataset cannot be told from another, so no preparation goes on with it.
        return getattr(self.dataset, "_fingerprint", None) or uuid.uuid4().hex

    def files(self) -> Iterator[tuple[str, Place]]:
        """The files behind the table as ``(name, place)``; none for a dataset without files of its own."""
        if self.place is None:
            return
        if self.kind != "dataset":
            yield self.name, self.place
            return
        assert isinstance(self.place, Path)
        for file in sorted(p for p in self.place.rglob("*") if p.is_file()):
            # Hugging Face leaves caches of derived data (cache-*.arrow) beside the data.
            if not file.name.startswith("cache-"):
                yield f"{self.name}/{file.relative_to(self.place).as_posix()}", file


def find_tables(inputs: Inputs) -> list[Table]:
    """All tables that ``inputs`` stands for; folders are searched recursively, in sorted order.

    In a folder, files of other kinds and hidden ones are passed over.

    Raises:
        InputError: there are no inputs, a path does not exist or is of an unsupported kind, a folder holds no supported
            file, or a dataset cannot be loaded.
    """
    if is_a(inputs, "Dataset", "IterableDataset"):
        return [Table("dataset", "dataset", "dataset", dataset=inputs)]
    if isinstance(inputs, str | Path):
        inputs = [inputs]
    if is_a(inputs, "DatasetDict", "IterableDatasetDict"):
        raise InputError(f"a dataset with several splits ({', '.join(map(str, inputs))}) was given; choose one split")
    if not inputs:
        raise InputError("no input is named; give at least one file, folder or dataset")
    tables: list[Table] = []
    for item in inputs:
        if not isinstance(item, str | Path):
            raise InputError(f"an input must be a path or one datasets.Dataset, not {type(item).__name__}")
        if isinstance(item, str) and item.startswith(DATASET):
            tables.append(_named(item))
            continue
        place = storage.place(item)
        if not storage.exists(place):
            raise InputError(f"{place}: no such file or folder; check the path")
        if not storage.is_folder(place):
            tables.append(_file_table(place, storage.name_of(place)))
        elif found := _folder_tables(place):
            tables += found
        else:
            raise InputError(f"{place}: this folder holds no supported file; supported are {SUPPORTED}")
    return tables


def is_a(item: Any, *names: str) -> bool:
    """Whether it is of one of these classes of the datasets library, which is not imported to find out."""
    library = sys.modules.get("datasets")
    return library is not None and isinstance(item, tuple(getattr(library, name) for name in names))


def _named(item: str) -> Table:
    import datasets

    name, _, split = item.removeprefix(DATASET).rpartition(":")
    name, _, configuration = name.partition(":")
    if not name or not split:
        raise InputError(f"{item}: a dataset is named {DATASET}NAME:SPLIT or {DATASET}NAME:CONFIGURATION:SPLIT")
    try:
        dataset = datasets.load_dataset(name, configuration or None, split=split, streaming=True)
    except Exception as error:  # the library raises many kinds
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{item}: cannot be loaded ({first_line}); check the name, split and network") from error
    return Table("dataset", f"{name}:{split}", item, dataset=dataset)


def _folder_tables(folder: Place) -> list[Table]:
    if isinstance(folder, str):
        files = storage.remote_files(folder)
        return [_file_table(url, name) for name, url in files if _kind(name) is not None]
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
        import datasets

        try:
            dataset = datasets.load_from_disk(str(folder))
        except Exception as error:  # the library raises many kinds for a damaged folder
            raise InputError(f"{folder}: cannot be read as a saved dataset ({error}); save it again") from error
        name = root.name if relative == "." else relative
        yield Table("dataset", name or "dataset", str(folder), place=folder, dataset=dataset)
        return
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry, root)
        elif _kind(entry.name) is not None:
            yield _file_table(entry, entry.relative_to(root).as_posix())


def _file_table(place: Place, name: str) -> Table:
    kind = _kind(storage.name_of(place))
    if kind is None:
        raise InputError(f"{place}: unsupported kind of file; supported are {SUPPORTED}")
    return Table(kind, name, str(place), place=place)


def _kind(name: str) -> Kind | None:
    return next((kind for suffix, kind in _SUFFIXES.items() if name.lower().endswith(suffix)), None)
