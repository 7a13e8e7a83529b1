"""Files on this machine, or behind any URL that fsspec knows (``s3://``, ``gs://``, ``hf://``, ``memory://``)."""

import hashlib
import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import fsspec
from pydantic import GetPydanticSchema
from pydantic_core import core_schema
from tyro.constructors import PrimitiveConstructorSpec

from memsinks.corpus.files import explain, is_full
from memsinks.errors import InputError, MemsinksError

_CHUNK_BYTES = 1 << 20


def place(text: Path | str) -> Path | str:
    """A URL as it is, anything else as a path."""
    return text if isinstance(text, str) and "://" in text else Path(text)


Place: TypeAlias = Annotated[
    Path | str,
    GetPydanticSchema(lambda _, schema: core_schema.no_info_after_validator_function(place, schema(str))),
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH|URL",
        instance_from_str=lambda arguments: place(arguments[0]),
        is_instance=lambda value: isinstance(value, Path | str),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A path on this machine, or a URL as a string; also as the type of an option or of a key in a run file."""


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
    with reaching(url):
        system, root = fsspec.core.url_to_fs(url)
        paths = sorted(system.find(root))
    protocol = url.split("://", 1)[0]
    found = []
    for path in paths:
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


@contextmanager
def reaching(url: str, into: Path | None = None) -> Iterator[None]:
    """Turn what the clients of storages raise into errors that name the URL and the remedy.

    Args:
        url: what the block reads or writes.
        into: where on this machine the block writes it; a full disk is then this one's.

    Raises:
        InputError: the block failed.
    """
    try:
        yield
    except MemsinksError:
        raise
    except Exception as error:  # every client has exceptions of its own
        raise InputError(_failure(url, error, into)) from error


def _failure(url: str, error: Exception, into: Path | None) -> str:
    if is_full(error):
        return explain(into or url, error)
    kind = type(error).__name__
    said = (str(error).strip() or kind).splitlines()[0]
    if isinstance(error, ImportError):
        return f"{url}: the package for this kind of URL is not installed ({said}); install it with pip"
    # Where no credentials are found, clients raise kinds of their own, which are no PermissionError.
    if isinstance(error, PermissionError) or "Credential" in kind:
        return f"{url}: no permission ({said}); check the credentials, and what they allow there"
    if isinstance(error, FileNotFoundError):
        return f"{url}: there is no such file or folder ({said}); check the URL"
    if isinstance(error, NotImplementedError):
        return f"{url}: this kind of storage cannot do that ({said}); choose another"
    return f"{url}: cannot be reached ({said}); check the URL, access, and its package"


def _ask(url: str, what: str) -> Any:
    with reaching(url):
        system, path = fsspec.core.url_to_fs(url)
        return getattr(system, what)(path)
