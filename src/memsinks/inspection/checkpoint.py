"""What a checkpoint is, from the headers of its files; no tensor is loaded."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from transformers import AutoConfig

from memsinks.checkpoint.export import RECORD as EXPORT
from memsinks.checkpoint.lineage import LINEAGE, Lineage, Removal, Stage
from memsinks.checkpoint.run import NOT_VERIFIED
from memsinks.errors import CheckpointError, InputError, UnsupportedModelError
from memsinks.runs.run import CONFIG
from memsinks.sinks.config import mlp_width
from memsinks.sinks.excision import Part, SinkFiles, read_header
from memsinks.sinks.files import METADATA, TENSORS

Kind = Literal["run", "checkpoint with sinks", "export", "plain checkpoint"]


@dataclass(frozen=True, kw_only=True)
class Model:
    """The plain model.

    Attributes:
        architecture: class in transformers.
        family: transformers' name of it.
        layers: decoder layers.
        hidden: width of the model.
        shared: hidden units of an MLP; None for a family that takes no sinks.
        vocabulary: tokens that it knows.
        parameters: in its files, tied weights once.
    """

    architecture: str
    family: str
    layers: int
    hidden: int
    shared: int | None
    vocabulary: int
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The sinks.

    Attributes:
        pool, active: rows in each layer, and of an ID.
        allocation, mask, seed, block: as configured.
        owners: IDs that own rows.
        rows: for each layer with sinks, by its number, rows that are there.
        removed_rows: for each, rows that were removed.
        removed_ids: IDs that never have sinks again.
        parameters: of all rows.
    """

    pool: int
    active: int
    allocation: str
    mask: str
    seed: int
    block: int
    owners: int
    rows: dict[int, int]
    removed_rows: dict[int, int]
    removed_ids: int
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """A checkpoint.

    Attributes:
        folder: of it.
        kind: a run has a run file; an export has its record.
        model: the plain model.
        pool: its sinks, if it has any.
        exported: mode and number of IDs whose sinks are in an export's weights.
        trained: IDs that trained with sinks and were not removed; None without a lineage.
        removed: IDs in the lineage that were removed.
        trainings, removals: of the lineage, the first one first.
        files: bytes, by name.
        verified: the sinks were compared with their hash.
        not_verified: a removal made it whose verification did not pass.
    """

    folder: Path
    kind: Kind
    model: Model
    pool: Pool | None
    exported: tuple[str, int] | None
    trained: int | None
    removed: int | None
    trainings: tuple[Stage, ...]
    removals: tuple[Removal, ...]
    files: dict[str, int]
    verified: bool
    not_verified: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"format": "memsinks-inspect", "format_version": 1, **asdict(self), "folder": str(self.folder)}


def describe(folder: Path, *, verify: bool = False) -> Description:
    """Describe what is in a folder.

    Args:
        folder: a run, a checkpoint with sinks, a plain checkpoint or an export.
        verify: compare the sinks with their hash, which reads all of them.

    Raises:
        InputError: it is none of these.
        CheckpointError: a file of it is missing, cannot be read or was altered.
    """
    model_config = read_model_config(folder)
    plain = plain_parts(folder)
    files = SinkFiles.open(folder, verify=verify) if has_sinks(folder) else None
    lineage = Lineage.read(folder)
    exported = read_export(folder)
    has_run = (folder / CONFIG).is_file() or (folder / LINEAGE).is_file()
    kind: Kind = (
        "export" if exported else "run" if has_run else "plain checkpoint" if files is None else "checkpoint with sinks"
    )
    return Description(
        folder=folder,
        kind=kind,
        model=_model(model_config, plain),
        pool=None if files is None else _pool(files),
        exported=None if exported is None else (exported["mode"], len(exported["ids"])),
        trained=None if lineage is None else len(lineage.trained_ids()),
        removed=None if lineage is None else len(set(lineage.removed["sequence_id"].to_pylist())),
        trainings=() if lineage is None else lineage.stages,
        removals=() if lineage is None else lineage.removals,
        files={
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
        verified=verify and files is not None,
        not_verified=(folder / NOT_VERIFIED).is_file(),
    )


def has_sinks(folder: Path) -> bool:
    """Whether either file of sinks is there; :meth:`SinkFiles.open` says if the other is missing."""
    return (folder / METADATA).is_file() or (folder / TENSORS).is_file()


def read_model_config(folder: Path) -> Any:
    """The configuration of the plain model.

    Raises:
        InputError: the folder holds no checkpoint.
        CheckpointError: the configuration cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that holds a checkpoint")
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: holds no checkpoint (no config.json); give the folder that holds one")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{folder}: config.json cannot be read ({str(error).splitlines()[0]}); restore it from a copy"
        ) from error


def plain_parts(folder: Path) -> dict[str, tuple[Path, Part]]:
    """The plain model's tensors by name, each with its file.

    Raises:
        CheckpointError: there are none, or a file cannot be read or ends early.
    """
    found = {}
    for file in sorted(folder.glob("model*.safetensors")):
        size = file.stat().st_size
        for name, part in read_header(file).items():
            if part.start + part.bytes > size:
                raise CheckpointError(f"{file} ends in the middle of {name}; restore it from a copy")
            found[name] = (file, part)
    if not found:
        raise CheckpointError(f"{folder} has no model.safetensors; restore it from a copy")
    return found


def read_export(folder: Path) -> dict[str, Any] | None:
    """The record of an export; None if the folder is none.

    Raises:
        CheckpointError: it cannot be read.
    """
    file = folder / EXPORT
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text("utf-8"))
        if content["format_version"] != 1:
            raise ValueError(f"format version {content['format_version']}, and this version of memsinks reads 1")
        if not isinstance(content["mode"], str) or not isinstance(content["ids"], list):
            raise TypeError("mode or ids")
        return content
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); export again") from error


def _model(config: Any, parts: dict[str, tuple[Path, Part]]) -> Model:
    try:
        shared = mlp_width(config)
    except UnsupportedModelError:
        shared = None
    return Model(
        architecture=(config.architectures or ["unknown"])[0],
        family=config.model_type,
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        shared=shared,
        vocabulary=config.vocab_size,
        parameters=sum(math.prod(part.shape) for _, part in parts.values()),
    )


def _pool(files: SinkFiles) -> Pool:
    config, table = files.config, files.table
    layers = files.layers()
    gone = table.removed
    return Pool(
        pool=int(config.pool),
        active=int(config.active),
        allocation=config.allocation,
        mask=config.mask,
        seed=config.seed,
        block=config.block,
        owners=len(table.owner_ids),
        rows={number: table.rows_in(place) for place, number in enumerate(layers)},
        removed_rows={n: 0 if gone is None else gone.removed_rows(place) for place, n in enumerate(layers)},
        removed_ids=0 if gone is None else len(gone.ids),
        parameters=sum(math.prod(part.shape) for part in files.parts.values()),
    )
