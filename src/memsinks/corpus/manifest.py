"""``manifest.json``: what a corpus folder holds, and the hash of every file in it."""

import json
from pathlib import Path
from typing import Any

from memsinks.corpus.files import file_digest
from memsinks.errors import InputError

NAME = "manifest.json"
FORMAT = "memsinks-corpus"
FORMAT_VERSION = 1


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write ``content`` and the size and hash of every file now in ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    table = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in files
    }
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **content, "files": table}
    (folder / NAME).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a corpus folder.

    Raises:
        InputError: there is none, or it is not one of this format and version.
    """
    path = folder / NAME
    if not path.is_file():
        raise InputError(f"{folder}: not a prepared corpus (no {NAME}); make one with `memsinks prepare`")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); prepare the corpus again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path}: not the manifest of a corpus; expected format {FORMAT!r}")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {manifest.get('format_version')} is not supported, only {FORMAT_VERSION}; "
            "prepare the corpus again with this version of memsinks"
        )
    return manifest


def verify_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare every file with its size and hash in the manifest.

    Raises:
        InputError: a file is missing or was altered.
    """
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: this file of the corpus is missing; restore it or prepare the corpus again")
        if path.stat().st_size != expected["bytes"] or file_digest(path) != expected["sha256"]:
            raise InputError(
                f"{path}: altered since the corpus was prepared (its hash is not the one in {NAME}); "
                "restore it or prepare the corpus again"
            )
