"""The files of a directory and their hashes, and files that appear whole or not at all."""

import contextlib
import hashlib
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from memsinks.errors import InputError


def digests(directory: Path, *, besides: Path | None = None) -> dict[str, str]:
    """SHA-256 of every file of a directory, as hexadecimal digits, by its POSIX name below the directory, sorted.

    Files and folders whose names begin with a dot are left out. Memory does not grow with the files.

    Args:
        directory: the directory.
        besides: a file in it to leave out.

    Raises:
        InputError: something in it is not a plain file, such as a symbolic link, or cannot be read.
    """
    files, refused = list_files(directory, besides=besides)
    for name, reason in refused.items():
        raise InputError(
            f"{directory / name}: {reason}; a certificate covers plain files only, so replace or remove it"
        )
    # Hashing releases the interpreter's lock.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(files, threads.map(digest, files.values()), strict=True))


def digest(path: Path) -> str:
    """SHA-256 of one file, as hexadecimal digits.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def list_files(directory: Path, *, besides: Path | None = None) -> tuple[dict[str, Path], dict[str, str]]:
    """What :func:`digests` covers: plain files by name, and why other entries are refused, by name; both sorted.

    Raises:
        InputError: the directory, or a folder in it, cannot be read.
    """
    left_out = None if besides is None else besides.resolve()
    files: dict[str, Path] = {}
    refused: dict[str, str] = {}
    folders = [("", directory)]
    while folders:
        prefix, folder = folders.pop()
        try:
            with os.scandir(folder) as scanned:
                entries = [entry for entry in scanned if not entry.name.startswith(".")]
        except OSError as error:
            raise InputError(f"{folder}: cannot be read as a folder ({error.strerror})") from error
        for entry in entries:
            name, path = prefix + entry.name, folder / entry.name
            if entry.is_symlink():
                refused[name] = "a symbolic link"
            elif not is_portable(entry.name):
                refused[name] = "a name with a backslash, a control character or bytes that are not UTF-8"
            elif entry.is_dir():
                folders.append((f"{name}/", path))
            elif not entry.is_file():
                refused[name] = "neither a file nor a folder"
            elif left_out is None or path.resolve() != left_out:
                files[name] = path
    return dict(sorted(files.items())), dict(sorted(refused.items()))


def is_portable(name: str) -> bool:
    """Whether a name is the same path in JSON and on every system."""
    surrogates = any("\ud800" <= character <= "\udfff" for character in name)
    return not surrogates and "\\" not in name and all(ord(c) >= 32 and ord(c) != 127 for c in name)


def write_whole(file: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file under a temporary name beside it, and rename it.

    Args:
        file: the file; one that exists is replaced.
        data: its content.
        mode: its permissions, less those that the process withholds (umask).

    Raises:
        InputError: it cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as written:
            written.write(data)
            written.flush()
            os.fsync(written.fileno())
        temporary.replace(file)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise InputError(
            f"{file}: cannot be written ({error.strerror}); check that its folder exists, is writable and has room"
        ) from error


def check_new(file: Path) -> None:
    """Raise :class:`InputError` if a file exists already, or its folder does not."""
    if file.exists() or file.is_symlink():
        raise InputError(f"{file}: exists already and is not replaced; choose another name")
    if not file.parent.is_dir():
        raise InputError(f"{file}: there is no folder {file.parent}; make it first")
