"""What is wrong with a checkpoint and with what lies beside it."""

import glob
import hashlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from memsinks.checkpoint.export import RECORD as EXPORT
from memsinks.checkpoint.lineage import Lineage
from memsinks.checkpoint.run import NOT_VERIFIED
from memsinks.config import read_config
from memsinks.corpus import manifest, storage
from memsinks.errors import InputError, MemsinksError
from memsinks.ids import format_id, from_tensor
from memsinks.inspection.checkpoint import has_sinks, plain_parts, read_export, read_model_config
from memsinks.inspection.environment import Finding
from memsinks.removal.steps import unfinished
from memsinks.runs.config import RunConfig
from memsinks.runs.run import CONFIG, working_directory_of
from memsinks.sinks.excision import SinkFiles
from memsinks.sinks.files import load_allocation
from memsinks.training import checkpoints

_SHOWN = 3


def check_folder(folder: Path) -> Iterator[Finding]:
    """Look at a checkpoint and at what lies beside it.

    Raises:
        InputError: there is neither a checkpoint nor a removal that took it away half-way.
    """
    folder = folder.absolute()
    yield from _removals(folder)
    if not folder.is_dir():
        if unfinished(folder) is None:
            raise InputError(f"{folder}: no such folder; give one that holds a checkpoint")
        return
    yield from _plain(folder)
    if (folder / NOT_VERIFIED).is_file():
        yield _problem(
            "verification",
            f"{NOT_VERIFIED}: a removal made this checkpoint, and did not show what it had to",
            "do not use it; plan the removal again, or retrain without the text",
        )
    try:
        lineage = Lineage.read(folder)
    except MemsinksError as error:
        yield _problem("lineage", str(error), "without it removed text can be trained again")
        return
    files = None
    if has_sinks(folder):
        try:
            files = SinkFiles.open(folder)
            # The rest of what loading compares: the configuration and the table of both files.
            load_allocation(folder)
        except MemsinksError as error:
            yield _problem("sinks", str(error), "removals from this checkpoint would not be known to be whole")
            return
        yield Finding(name="sinks", kind="ok", says="as they were saved (SHA-256)")
        yield from _lineage(files, lineage)
    removed = _removed(files, lineage)
    yield from _resumable(folder, removed)
    yield from _exports(folder, lineage, removed)
    yield from _corpus(folder, lineage)


def _removals(folder: Path) -> Iterator[Finding]:
    work = unfinished(folder)
    if work is not None:
        yield _problem(
            "unfinished removal",
            f"{work.name}: a removal was stopped half-way",
            f"memsinks forget {folder} --resume, or --abandon",
        )
    for grave in sorted(folder.parent.glob(f".{glob.escape(folder.name)}.finished-removal-*")):
        yield _problem(
            "leftover", f"{grave.name}: what a removal took out, which was not deleted to the end", f"rm -r {grave}"
        )


def _plain(folder: Path) -> Iterator[Finding]:
    try:
        config = read_model_config(folder)
        parts = plain_parts(folder)
    except MemsinksError as error:
        yield _problem("plain model", str(error), "no loader can read it")
        return
    yield Finding(name="plain model", kind="ok", says=f"{len(parts)} tensors, all there")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json")):
        yield Finding(name="tokenizer", kind="note", says="there is none in the folder")
        return
    try:
        tokens = len(AutoTokenizer.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield _problem("tokenizer", f"cannot be read ({str(error).splitlines()[0]})", "restore its files from a copy")
        return
    if tokens > config.vocab_size:
        yield _problem(
            "tokenizer",
            f"it has {tokens:,} tokens and the model knows {config.vocab_size:,}",
            "put the model's own tokenizer there; the others' tokens fail or are wrong",
        )
    else:
        yield Finding(name="tokenizer", kind="ok", says=f"{tokens:,} tokens of {config.vocab_size:,}")


def _lineage(files: SinkFiles, lineage: Lineage | None) -> Iterator[Finding]:
    if lineage is None:
        yield Finding(
            name="lineage",
            kind="note",
            says="there is none, so it is not known which text trained with sinks; memsinks train writes one",
        )
        return
    table = files.table
    gone = np.empty(0, dtype=np.uint64) if table.removed is None else from_tensor(table.removed.ids)
    known = np.unique(lineage.removed["sequence_id"].to_numpy())
    unknown, untaken = np.setdiff1d(gone, known), np.setdiff1d(known, gone)
    problems = False
    if len(unknown):
        problems = True
        yield _problem(
            "lineage",
            f"{_ids(unknown)} removed from the sinks but not in the lineage",
            "their text would be trained again under other IDs; remove with memsinks forget, which writes both",
        )
    # When everything goes, so do IDs that only chose rows; the table names owners alone.
    if len(untaken) and not any(removal.everything for removal in lineage.removals):
        problems = True
        yield _problem(
            "lineage",
            f"{_ids(untaken)} removed according to the lineage, and the sinks do not know",
            "the sinks are from before the removal; restore those from after it, or remove again",
        )
    owners = np.intersect1d(from_tensor(table.owner_ids), np.union1d(gone, known))
    if len(owners):
        problems = True
        yield _problem(
            "owners", f"{_ids(owners)} removed and among the owners of rows", "restore the sinks from after the removal"
        )
    if not problems:
        trained, removals = len(lineage.trained_ids()), len(lineage.removals)
        yield Finding(
            name="lineage",
            kind="ok",
            says=f"agrees with the sinks: {trained:,} trained IDs, {len(known):,} removed in {removals} removals",
        )


def _removed(files: SinkFiles | None, lineage: Lineage | None) -> np.ndarray:
    found = [np.empty(0, dtype=np.uint64)]
    if lineage is not None:
        found.append(lineage.removed["sequence_id"].to_numpy())
    if files is not None and files.table.removed is not None:
        found.append(from_tensor(files.table.removed.ids))
    return np.unique(np.concatenate(found))


def _resumable(folder: Path, removed: np.ndarray) -> Iterator[Finding]:
    """Checkpoints to resume from whose sinks do not know what the model's know."""
    if not len(removed):
        return
    for old in checkpoints.checkpoints(working_directory_of(folder)):
        try:
            missing = np.setdiff1d(removed, _removed(SinkFiles.open(old, verify=False), None))
        except MemsinksError as error:
            yield _problem("resume checkpoint", f"{old}: {error}", f"rm -r {old}")
            continue
        if len(missing):
            yield _problem(
                "resume checkpoint",
                f"{old}: from before a removal; it has the sinks of {_ids(missing)} removed since",
                f"rm -r {old}",
            )


def _exports(folder: Path, lineage: Lineage | None, removed: np.ndarray) -> Iterator[Finding]:
    """Exports in the folder and beside it that hold sinks of removed IDs."""
    if not len(removed):
        return
    gone = {format_id(i) for i in removed.tolist()}
    removals = () if lineage is None else lineage.removals
    beside = [path for path in folder.parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    places = {
        record.parent for path in beside for record in (path / EXPORT, *path.glob(f"*/{EXPORT}")) if record.is_file()
    }
    for place in sorted(places):
        try:
            record = read_export(place)
        except MemsinksError as error:
            yield _problem("export", str(error), "if it was made of this checkpoint before a removal, delete it")
            continue
        assert record is not None
        inside = gone & set(record["ids"])
        if "sinks_sha256" in record:
            before = record["sinks_sha256"] in {removal.before for removal in removals}
        else:
            made = (place / EXPORT).stat().st_mtime
            before = any(made < datetime.fromisoformat(removal.time).timestamp() for removal in removals)
        # An export of all sinks names no IDs.
        if inside or (record["mode"] == "all" and before):
            what = f"{len(inside):,} removed IDs" if inside else "all sinks, removed ones among them,"
            yield _problem(
                "export", f"{place}: has {what} folded into its weights", f"rm -r {place}, and what was copied from it"
            )


def _corpus(folder: Path, lineage: Lineage | None) -> Iterator[Finding]:
    if not (folder / CONFIG).is_file():
        return
    try:
        place = read_config(RunConfig, folder / CONFIG).corpus.path
        listed = place / manifest.NAME if isinstance(place, Path) else f"{place.rstrip('/')}/{manifest.NAME}"
        if not storage.exists(listed):
            yield _problem(
                "corpus",
                f"{place}: not there, and {CONFIG} names it",
                "give memsinks forget and evaluate the corpus where it is now (--corpus), unchanged",
            )
            return
        with storage.open_bytes(listed) as file:
            found = hashlib.sha256(file.read()).hexdigest()
    except (MemsinksError, OSError) as error:
        yield _problem("corpus", f"cannot be looked at ({error})", f"see corpus.path in {CONFIG}")
        return
    if lineage is not None and lineage.stages and found != lineage.stages[-1].corpus:
        yield _problem(
            "corpus",
            f"{place}: not the one that the model was trained on ({found[:12]}, not {lineage.stages[-1].corpus[:12]})",
            "removals need that corpus, unchanged: restore it, or give it with --corpus",
        )
    else:
        yield Finding(name="corpus", kind="ok", says=f"{place}: there, and the one that the model was trained on")


def _problem(name: str, says: str, remedy: str) -> Finding:
    return Finding(name=name, kind="problem", says=says, remedy=remedy)


def _ids(ids: np.ndarray) -> str:
    shown = ", ".join(format_id(i) for i in ids[:_SHOWN].tolist())
    more = f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
    return f"ID{'s' if len(ids) > 1 else ''} {shown}{more}"
