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
    return parse_manifest(path.read_bytes(), path)


def parse_manifest(data: bytes, place: Path | str) -> dict[str, Any]:
    """The content of a manifest; ``place`` is where it was read.

    Raises:
        InputError: it is not one of this format and version.
    """
    try:
        manifest = json.loads(data)
    except ValueError as error:
        raise InputError(f"{place}: damaged ({error}); prepare the corpus again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{place}: not the manifest of a corpus; expected format {FORMAT!r}")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{place}: format version {manifest.get('format_version')} is not supported, only {FORMAT_VERSION}; "
            "prepare the corpus again with this version of memsinks"
        )
    return manifest


def is_intact(path: Path, expected: dict[str, Any]) -> bool:
    """Whether there is a file with the size and hash that a manifest has for it."""
    return path.is_file() and path.stat().st_size == expected["bytes"] and file_digest(path) == expected["sha256"]


def verify_files(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare every file with its size and hash in the manifest.

    Raises:
        InputError: a file is missing or was altered.
    """
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: this file of the corpus is missing; restore it or prepare the corpus again")
        if not is_intact(path, expected):
            raise InputError(
                f"{path}: altered since the corpus was prepared (its hash is not the one in {NAME}); "
                "restore it or prepare the corpus again"
            )
