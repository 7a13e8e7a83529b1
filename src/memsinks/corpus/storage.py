"""Input files on this machine, or behind any URL that fsspec knows (``s3://``, ``gs://``, ``hf://``, ``memory://``)."""

import hashlib
import hmac
from pathlib import Path
from typing import Any, TypeAlias

import fsspec

from memsinks.errors import InputError

Place: TypeAlias = Path | str
"""A path on this machine, or a URL."""
_CHUNK_BYTES = 1 << 20


def place(text: Path | str) -> Place:
    """A URL as it is, anything else as a path."""
    return text if isinstance(text, str) and "://" in text else Path(text)


def name_of(item: Place) -> str:
    """The last part of a path or URL."""
    return item.name if isinstance(item, Path) else item.rstrip("/").rsplit("/", 1)[-1]


def open_bytes(item: Place) -> Any:
    """The file as a readable binary stream."""
    return item.open("rb") if isinstance(item, Path) else fsspec.open(item, "rb").open()


def exists(item: Place) -> bool:
    """Whether there is a file or folder."""
    return item.exists() if isinstance(item, Path) else bool(_ask(item, "exists"))


def is_folder(item: Place) -> bool:
    """Whether it is a folder."""
    return item.is_dir() if isinstance(item, Path) else bool(_ask(item, "isdir"))


def size(item: Place) -> int:
    """Bytes of a file."""
    return item.stat().st_size if isinstance(item, Path) else int(_ask(item, "size"))


def state(item: Place) -> Any:
    """What changes when a file is written anew, as JSON: its size and times, or what its storage tells of it."""
    if isinstance(item, Path):
        status = item.stat()
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    return str(_ask(item, "ukey"))


def remote_files(url: str) -> list[tuple[str, str]]:
    """All files under a remote folder as (name relative to it, URL), in the order of their names; hidden ones not."""
    system, root = fsspec.core.url_to_fs(url)
    protocol = url.split("://", 1)[0]
    found = []
    for path in sorted(system.find(root)):
        relative = path[len(root) :].lstrip("/")
        if not any(part.startswith(".") for part in relative.split("/")):
            found.append((relative, f"{protocol}://{path.lstrip('/') if protocol != 'file' else path}"))
    return found


def digest(item: Place, key: bytes | None = None) -> str:
    """SHA-256 of a file as hexadecimal digits; with a key, HMAC-SHA256."""
    total = hashlib.sha256() if key is None else hmac.new(key, digestmod="sha256")
    with open_bytes(item) as file:
        while chunk := file.read(_CHUNK_BYTES):
            total.update(chunk)
    return total.hexdigest()


def _ask(url: str, what: str) -> Any:
    try:
        system, path = fsspec.core.url_to_fs(url)
        return getattr(system, what)(path)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{url}: cannot be reached ({error}); check the URL, access, and its package") from error
