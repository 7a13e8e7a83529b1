"""Hashes of files, and an output folder that appears whole or not at all."""

import errno
import hashlib
import hmac
import os
import shutil
import uuid
from collections.abc import Container, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from memsinks.errors import InputError

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def file_digest(path: Path, key: bytes | None = None) -> str:
    """SHA-256 of a file as hexadecimal digits; with a key, HMAC-SHA256."""
    state = hashlib.sha256() if key is None else hmac.new(key, digestmod="sha256")
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    return state.hexdigest()


def folder_digests(
    folder: Path, *, known: Mapping[str, str] | None = None, besides: Container[str] = ()
) -> dict[str, str]:
    """SHA-256 of every file in a folder and those inside it, by name; several files are hashed at once.

    Names that begin with a dot are left out.

    Args:
        folder: the folder.
        known: hashes of some files, which are not read again.
        besides: names to leave out.
    """
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    found = {name: (known or {}).get(name, "") for name in files if name not in besides}
    missing = [name for name, digest in found.items() if not digest]
    # Hashing releases the interpreter's lock.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        found.update(zip(missing, threads.map(lambda name: file_digest(files[name]), missing), strict=True))
    return found


def check_output(output: Path) -> None:
    """Raise :class:`InputError` if ``output`` is a file, or a folder that is not empty."""
    if output.is_dir() and not any(output.iterdir()):
        return
    if output.exists() or output.is_symlink():
        raise InputError(f"{output}: already exists and is not an empty folder; choose another output or remove it")


@contextmanager
def new_directory(output: Path) -> Iterator[Path]:
    """A temporary folder beside ``output`` that takes its name when the block ends well, and else is removed.

    Raises:
        InputError: the folder cannot be written; a full disk is named as such.
    """
    check_output(output)
    with appearing(output, output) as folder:
        yield folder


@contextmanager
def appearing(final: Path, blamed: Path) -> Iterator[Path]:
    """A temporary folder beside ``final`` that takes its place when the block ends well, and else is removed.

    Where another process was quicker its folder stays; both wrote the same.

    Raises:
        InputError: it cannot be written; ``blamed`` is what the message names.
    """
    temporary = final.parent / f".{final.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if final.is_dir() and any(final.iterdir()):
            shutil.rmtree(temporary)
        else:
            temporary.replace(final)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        # The tokenizers library reports a failed write as a bare Exception with the operating system's words in it.
        if isinstance(error, OSError) or "(os error " in str(error):
            raise InputError(explain(blamed, error)) from error
        raise


def append_text(file: Path, text: str) -> None:
    """Add text to the end of a file.

    Raises:
        InputError: it cannot be written; a full disk is named as such.
    """
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise InputError(explain(file, error)) from error


def is_full(error: BaseException) -> bool:
    """Whether it tells of a disk, quota or file that has no room left."""
    code = getattr(error, "errno", None)
    return code in _NO_SPACE or any(f"(os error {number})" in str(error) for number in _NO_SPACE)


def explain(output: Path | str, error: BaseException) -> str:
    """Why an output could not be written, and what to do."""
    if is_full(error):
        return f"{output}: no space left to write it ({error}); free space or choose another disk, then run again"
    return f"{output}: cannot be written ({error}); check that its folder exists and may be written to"
