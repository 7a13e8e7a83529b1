"""``sinks.safetensors`` and ``sinks.json``: the removable part of a saved run.

``sinks.json`` holds the format's version, the sinks' configuration, the regions of the pool and the hash of the
tensors, so that a missing or altered part is noticed before anything is loaded. The tensors are the rows
(``layers.<index>.<parameter>``) and, unless it is that of a new pool, the allocation table (``allocation.*``).
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from memsinks.errors import CheckpointError, ConfigError
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.config import SinkConfig

FORMAT_VERSION = 4
"""Version 1 knew no allocation; its files are read as ``hashed``. Version 2 knew neither ``layers`` nor ``mask``, and
version 3 no removal. A pool is written as the oldest version from 2 on that holds it, and older code that does not know
the version says so."""
TENSORS, METADATA = "sinks.safetensors", "sinks.json"


def save_sinks(
    directory: Path, tensors: dict[str, Tensor], config: SinkConfig, model_type: str, table: AllocationTable
) -> None:
    """Write both files.

    Args:
        directory: of the plain checkpoint; it exists.
        tensors: ``layers.<index>.<parameter>`` -> values; the index is the decoder layer's.
        config: with resolved counts.
        model_type: the base model's family.
        table: which rows belong to whom.
    """
    if table.facts() != AllocationTable.initial(config).facts():
        tensors = tensors | table.tensors()
    tensors = {key: value.detach().contiguous().cpu() for key, value in tensors.items()}
    # The configuration addresses the rows, so it is under the hash too. One key: their order is not fixed.
    facts = config.facts()
    data = safetensors.torch.save(tensors, metadata={"config": json.dumps(facts)})
    metadata = described(config, model_type, table, hashlib.sha256(data).hexdigest(), len(data))
    # The metadata goes last: without it a half-written pair is not taken for a whole one.
    for name, content in ((TENSORS, data), (METADATA, metadata)):
        temporary = directory / f".{name}.tmp"
        temporary.write_bytes(content)
        temporary.replace(directory / name)


def described(config: SinkConfig, model_type: str, table: AllocationTable, sha256: str, size: int) -> bytes:
    """The content of ``sinks.json``.

    Args:
        config: with resolved counts.
        model_type: the base model's family.
        table: which rows belong to whom.
        sha256: of the tensors' file.
        size: of it, in bytes.
    """
    facts = config.facts()
    version = 2
    if facts.keys() & {"layers", "mask"}:
        version = 3
    if table.removed is not None:
        version = 4
    metadata = {
        "format": "memsinks-sinks",
        "format_version": version,
        "model_type": model_type,
        "config": facts,
        "allocation": table.facts(),
        "tensors": {"file": TENSORS, "sha256": sha256, "bytes": size},
    }
    return json.dumps(metadata, indent=2).encode() + b"\n"


def load_sinks(directory: Path) -> tuple[dict[str, Tensor], SinkConfig]:
    """Read both files.

    Returns:
        The tensors, with those of the allocation table if there is one
        (:meth:`~memsinks.sinks.allocation.AllocationTable.from_tensors` reads it); and the configuration.

    Raises:
        CheckpointError: one is missing, of an unknown version, or the tensors are not those that were saved.
    """
    metadata, config = read_metadata(directory)
    metadata_file, tensor_file = directory / METADATA, directory / TENSORS
    data = tensor_file.read_bytes()
    if hashlib.sha256(data).hexdigest() != metadata["tensors"]["sha256"]:
        raise CheckpointError(
            f"{tensor_file} was altered after it was saved (its hash is not the one in {METADATA}); restore it from a "
            "copy"
        )
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    if json.loads(header.get("__metadata__", {}).get("config", "{}")) != metadata["config"]:
        raise CheckpointError(
            f"the configuration in {metadata_file} is not the one that the sinks were saved with; restore it "
            "from a copy"
        )
    tensors = safetensors.torch.load(data)
    facts = AllocationTable.from_tensors(tensors, config).facts()
    if metadata["format_version"] != 1 and metadata.get("allocation") != facts:
        raise CheckpointError(f"the allocation in {metadata_file} is not that of {tensor_file}; restore it from a copy")
    return tensors, config


def read_metadata(directory: Path) -> tuple[dict[str, Any], SinkConfig]:
    """The content of ``sinks.json``, and the configuration in it.

    Raises:
        CheckpointError: one of the two files is missing, or this one cannot be read.
    """
    metadata_file, tensor_file = directory / METADATA, directory / TENSORS
    for file in (metadata_file, tensor_file):
        if not file.is_file():
            raise CheckpointError(
                f"{file} is missing: this is a plain checkpoint (sinks off); load it with transformers, or restore "
                "the file to load it with its sinks"
            )
    try:
        metadata = json.loads(metadata_file.read_text())
        if metadata["format_version"] not in range(1, FORMAT_VERSION + 1):
            raise CheckpointError(
                f"{metadata_file} has format version {metadata['format_version']}; this version of memsinks reads "
                f"1 to {FORMAT_VERSION}"
            )
        config = SinkConfig(**metadata["config"])
        sha256 = metadata["tensors"]["sha256"]
        if not isinstance(sha256, str):
            raise TypeError("tensors.sha256")
    except (ConfigError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{metadata_file} cannot be read ({error!r}); restore it from a copy") from error
    return metadata, config


def load_allocation(directory: Path) -> AllocationTable:
    """Read which rows belong to whom; where the tensors are wanted too, ``AllocationTable.from_tensors`` is cheaper.

    Raises:
        CheckpointError: as :func:`load_sinks`.
    """
    return AllocationTable.from_tensors(*load_sinks(directory))
