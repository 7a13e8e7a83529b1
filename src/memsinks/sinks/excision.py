"""Rewrite ``sinks.safetensors`` without removed rows, from file to file: no tensor is loaded whole.

The result is the file that :func:`memsinks.save` would write, byte for byte, so a removal from a file and one from a
model in memory agree. Hashing the new file takes as long as writing it (:func:`excise`), so what names the hash is a
second step (:func:`describe`), and other work can be done in between.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from safetensors import safe_open
from torch import Tensor

from memsinks.errors import CheckpointError, ConfigError
from memsinks.sinks.allocation import PREFIX, AllocationTable
from memsinks.sinks.config import SinkConfig
from memsinks.sinks.files import METADATA, TENSORS, described, read_metadata
from memsinks.sinks.removal import kept_rows

_BLOCK = 512 << 10
"""Bytes read at a time; few enough to stay in a core's cache until they are written."""
_SIZES = {"I64": 8, "F64": 8, "F32": 4, "BF16": 2, "F16": 2, "BOOL": 1}
"""Bytes of a value, by type; the library writes tensors of types that come first here first, and then by name."""
_OTHERS = {"U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes of a value of types that sinks do not have, but other tensors may."""


@dataclass(frozen=True)
class Part:
    """A tensor in a safetensors file.

    Attributes:
        name: of the tensor.
        dtype: as safetensors names it.
        shape: of the tensor.
        start: of its bytes, in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        size = (_SIZES | _OTHERS)[self.dtype]
        for length in self.shape[1:]:
            size *= length
        return size

    @property
    def bytes(self) -> int:
        """Of all rows."""
        return self.row_bytes * (self.shape[0] if self.shape else 1)


@dataclass(frozen=True)
class SinkFiles:
    """The sinks of a checkpoint, as far as they can be known without loading rows.

    Attributes:
        folder: of the checkpoint.
        config: of the pool.
        table: which rows belong to whom, and what was removed.
        sha256: of ``sinks.safetensors``.
        model_type: the base model's family.
        parts: the tensors of rows, by name.
    """

    folder: Path
    config: SinkConfig
    table: AllocationTable
    sha256: str
    model_type: str
    parts: dict[str, Part]

    @classmethod
    def open(cls, folder: Path, *, verify: bool = True) -> "SinkFiles":
        """Read what :func:`memsinks.save` wrote; with ``verify``, after comparing the tensors with their hash.

        Raises:
            CheckpointError: a file is missing, of an unknown version or altered.
        """
        metadata, config = read_metadata(folder)
        file = folder / TENSORS
        if verify and _digest(file) != metadata["tensors"]["sha256"]:
            raise CheckpointError(
                f"{file} was altered after it was saved (its hash is not the one in {METADATA}); restore it from a copy"
            )
        parts = read_header(file)
        own = {name for name in parts if name.startswith(PREFIX)}
        with safe_open(file, "pt") as tensors:
            table = AllocationTable.from_tensors({name: tensors.get_tensor(name) for name in own}, config)
        rows = {name: part for name, part in parts.items() if name not in own}
        return cls(folder, config, table, metadata["tensors"]["sha256"], metadata["model_type"], rows)

    @property
    def path(self) -> Path:
        """The file of tensors."""
        return self.folder / TENSORS

    def layers(self) -> list[int]:
        """Numbers of the decoder layers with sinks, in order."""
        return sorted({int(name.split(".")[1]) for name in self.parts})

    def place(self, part: Part) -> int:
        """Number of a tensor's layer among those with sinks."""
        return self.layers().index(int(part.name.split(".")[1]))


def excise(files: SinkFiles, table: AllocationTable, output: Path) -> None:
    """Write ``sinks.safetensors`` without the rows that ``table`` does not have any more, and flush it to the disk.

    Args:
        files: the sinks before.
        table: that after the removal, see :func:`memsinks.sinks.removal.without`.
        output: a folder for the file; it exists.

    Raises:
        ConfigError: the table brings rows back.
        CheckpointError: the file before is shorter than its header says.
    """
    kept: dict[int, Tensor] = {}
    for place in range(len(files.layers())):
        rows = kept_rows(files.table, table, place)
        if len(rows) > files.table.rows_in(place) or len(rows) != table.rows_in(place):
            raise ConfigError("a removal takes rows away; this table has rows that the file lacks")
        kept[place] = rows
    small = {} if table.facts() == AllocationTable.initial(files.config).facts() else table.tensors()
    header, body = _split(safetensors.torch.save(small))
    shapes = {name: (part.dtype, [len(kept[files.place(part)]), *part.shape[1:]]) for name, part in files.parts.items()}
    shapes |= {name: (entry["dtype"], entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    ranks = list(_SIZES)
    order = sorted(shapes, key=lambda name: (ranks.index(shapes[name][0]), name))

    def content(source: BufferedReader) -> Iterator[bytes | memoryview]:
        yield _header(order, shapes, files.config)
        for name in order:
            if name in files.parts:
                part = files.parts[name]
                yield from _rows(source, part, kept[files.place(part)])
            else:
                first, last = header[name]["data_offsets"]
                yield body[first:last]

    with files.path.open("rb") as source:
        if hasattr(os, "posix_fadvise"):  # reads further ahead, where the file is not in memory
            os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        _write(output / TENSORS, content(source))


def describe(files: SinkFiles, table: AllocationTable, output: Path, sha256: str) -> None:
    """Write the ``sinks.json`` that belongs to what :func:`excise` wrote.

    Args:
        files: the sinks before.
        table: that after the removal.
        output: the folder.
        sha256: of the new ``sinks.safetensors``.
    """
    size = (output / TENSORS).stat().st_size
    (output / METADATA).write_bytes(described(files.config, files.model_type, table, sha256, size))


def row_digests(files: SinkFiles, part: Part, rows: Tensor, besides: bytes | None = None) -> Iterator[bytes]:
    """SHA-256 of the bytes of rows of a tensor, by their positions; rows that are ``besides`` are passed over."""
    with files.path.open("rb") as source:
        for row in rows.tolist():
            source.seek(part.start + row * part.row_bytes)
            if (data := source.read(part.row_bytes)) != besides:
                yield hashlib.sha256(data).digest()


def read_header(file: Path) -> dict[str, Part]:
    """The tensors of a safetensors file.

    Raises:
        CheckpointError: it is none.
    """
    try:
        with file.open("rb") as source:
            size = int.from_bytes(source.read(8), "little")
            if not 0 < size <= 100 << 20:
                raise ValueError("its header is too long")
            header = json.loads(source.read(size))
        header.pop("__metadata__", None)
        return {
            name: Part(name, entry["dtype"], tuple(entry["shape"]), 8 + size + entry["data_offsets"][0])
            for name, entry in header.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); restore it from a copy") from error


def _write(file: Path, content: Iterable[bytes | memoryview]) -> None:
    with file.open("wb") as out:
        for data in content:
            out.write(data)
        out.flush()
        os.fsync(out.fileno())


def _rows(source: BufferedReader, part: Part, kept: Tensor) -> Iterator[memoryview]:
    """The bytes of some rows of a tensor, in blocks, each of which holds until the next is asked for."""
    if not part.bytes:
        return
    places, step = kept.numpy(), max(1, _BLOCK // part.row_bytes)
    block = np.empty((min(step, part.shape[0]), part.row_bytes), np.uint8)
    for first in range(0, part.shape[0], step):
        rows = block[: part.shape[0] - first]
        low, high = np.searchsorted(places, (first, first + len(rows)))
        if low == high:
            continue
        source.seek(part.start + first * part.row_bytes)
        if source.readinto(rows.data.cast("B")) != rows.nbytes:
            raise CheckpointError(f"{source.name} is shorter than its header says; restore it from a copy")
        kept_here = rows if high - low == len(rows) else rows[places[low:high] - first]
        yield kept_here.data.cast("B")


def _header(order: list[str], shapes: dict[str, Any], config: SinkConfig) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"config": json.dumps(config.facts())}}
    offset = 0
    for name in order:
        dtype, shape = shapes[name]
        part = Part(name, dtype, tuple(shape), 0)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + part.bytes]}
        offset += part.bytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :]


def _digest(file: Path) -> str:
    with file.open("rb", buffering=0) as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
