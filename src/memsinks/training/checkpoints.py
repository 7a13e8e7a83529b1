"""Checkpoints to resume from: each appears whole or not at all, and says so by a list of hashes.

A checkpoint is written under another name, sealed with ``checkpoint.json`` (the hash and size of every file), and
renamed. One that was altered, or cut short by a failing disk, is noticed before anything of it is used.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from memsinks.corpus.files import file_digest
from memsinks.errors import CheckpointError

SEAL = "checkpoint.json"
PREFIX = "checkpoint-"
STAGING = ".writing"
_REPLACED = f"{STAGING}-replaced-"


def seal(folder: Path, facts: dict[str, object]) -> None:
    """Write ``checkpoint.json`` into a finished checkpoint.

    Args:
        folder: of the checkpoint.
        facts: what else to note, such as the step and the hash of the configuration.
    """
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    content = {"format": "memsinks-checkpoint", "format_version": 1, **facts, "files": files}
    content["sha256"] = _digest(content)
    with (folder / SEAL).open("w") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def publish(staged: Path, folder: Path) -> None:
    """Give a sealed checkpoint its name; one of the same step, from before a resume, makes way.

    The old one goes last: after a crash in between, :func:`newest` finds it again.
    """
    aside = folder.with_name(_REPLACED + folder.name)
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    staged.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def verify(folder: Path) -> dict[str, object]:
    """The content of ``checkpoint.json``, after comparing every file with it.

    Raises:
        CheckpointError: a file is missing or was altered, or the checkpoint was never finished.
    """
    try:
        content = json.loads((folder / SEAL).read_text())
        sealed = content.pop("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder} was not finished, or its {SEAL} cannot be read ({error})") from error
    if sealed != _digest(content):
        raise CheckpointError(f"{folder / SEAL} was altered after it was saved")
    for name, expected in content["files"].items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path} is missing")
        if path.stat().st_size != expected["bytes"] or file_digest(path) != expected["sha256"]:
            raise CheckpointError(f"{path} was altered after it was saved (its hash is not the one in {SEAL})")
    return content


def world_size(folder: Path) -> int:
    """How many ranks wrote a checkpoint."""
    return int(json.loads((folder / SEAL).read_text())["world_size"])


def checkpoints(directory: Path) -> list[Path]:
    """The checkpoints in a directory, newest step first."""
    found = [p for p in directory.glob(f"{PREFIX}*") if p.is_dir()]
    # One that made way for another, which did not come.
    found += [p for p in directory.glob(f"{_REPLACED}*") if p.is_dir() and not _named(p).exists()]
    return sorted((p for p in found if _named(p).name.removeprefix(PREFIX).isdecimal()), key=_step, reverse=True)


def newest(directory: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint, or None, and why newer ones were passed over."""
    problems = []
    for folder in checkpoints(directory):
        try:
            verify(folder)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            if folder != _named(folder):
                folder = folder.rename(_named(folder))
            return folder, problems
    return None, problems


def rotate(directory: Path, keep: int, protect: Path | None = None) -> None:
    """Remove all checkpoints but the ``keep`` newest, and what an interrupted save or removal left behind.

    Args:
        directory: of the checkpoints.
        keep: how many stay.
        protect: one more that stays.
    """
    for leftover in _leftovers(directory):
        shutil.rmtree(leftover, ignore_errors=True)
    for folder in checkpoints(directory)[keep:]:
        if protect is None or folder.resolve() != protect.resolve():
            remove(folder)


def remove(folder: Path) -> None:
    """Remove a checkpoint; it loses its name first, so that a half-removed one is not taken for one."""
    grave = folder.with_name(f"{STAGING}-removing-{folder.name}")
    shutil.rmtree(grave, ignore_errors=True)
    folder.rename(grave)
    shutil.rmtree(grave)


def _leftovers(directory: Path) -> Iterator[Path]:
    whole = checkpoints(directory)
    return (p for p in directory.glob(f"{STAGING}*") if p.is_dir() and p not in whole)


def _named(folder: Path) -> Path:
    return folder.with_name(folder.name.removeprefix(_REPLACED))


def _step(folder: Path) -> int:
    return int(_named(folder).name.removeprefix(PREFIX))


def _digest(content: dict[str, object]) -> str:
    # By way of text, as it will be read: JSON knows no tuples, and only strings for keys.
    canonical = json.dumps(json.loads(json.dumps(content)), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
