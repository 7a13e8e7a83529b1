"""Where this machine keeps corpora of URLs: fetched ones by the hash of their manifest, and those under way.

It is ``$MEMSINKS_CACHE``, else ``memsinks`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.
"""

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from memsinks.corpus import manifest as manifests
from memsinks.corpus.files import explain, file_digest
from memsinks.corpus.remote import RemoteFolder, trimmed
from memsinks.corpus.storage import name_of
from memsinks.errors import InputError

VARIABLE = "MEMSINKS_CACHE"
"""Environment variable that names the folder."""


def fetch(url: str, verify: bool = True) -> Path:
    """The folder on this machine of a corpus behind a URL, which is fetched unless it is there.

    Its manifest is read each time, and says which folder that is. Processes that ask for one corpus at once wait while
    one of them fetches it; a fetch that was stopped goes on.

    Args:
        url: of the corpus.
        verify: compare files that were fetched before with their hashes again; new ones always are.

    Raises:
        InputError: there is no whole corpus, a file is not what the manifest says, or the storage or the cache fails.
    """
    source = RemoteFolder(url)
    data = source.read(manifests.NAME)
    if data is None:
        raise InputError(
            f"{url}: not a prepared corpus (no {manifests.NAME}), or not uploaded to its end; make one with "
            "`memsinks prepare`, or run the command that uploads it again"
        )
    manifest = manifests.parse_manifest(data, source.url_of(manifests.NAME))
    final = _place_of(hashlib.sha256(data).hexdigest())
    try:
        if final.is_dir():
            if verify:
                _verify(final, manifest, url)
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        with _lock(final):
            if not final.is_dir():
                _download(source, manifest, data, final)
    except OSError as error:
        raise InputError(f"{url}: {explain(final, error)}, or name another folder in {VARIABLE}") from error
    return final


def keep(folder: Path) -> None:
    """Move a corpus of this machine to where :func:`fetch` would put it.

    Raises:
        InputError: it cannot be moved.
    """
    final = _place_of(file_digest(folder / manifests.NAME))
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _lock(final):
            if not final.is_dir():
                folder.replace(final)
    except OSError as error:
        raise InputError(explain(final, error)) from error


def preparing(url: str) -> Path:
    """Where a corpus that goes to ``url`` is prepared."""
    url = trimmed(url)
    return _root() / "preparing" / f"{name_of(url)}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def _root() -> Path:
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "memsinks"


def _place_of(digest: str) -> Path:
    return _root() / "corpora" / digest


def _lock(final: Path) -> FileLock:
    return FileLock(final.with_name(f".{final.name}.lock"))


def _download(source: RemoteFolder, manifest: dict[str, Any], data: bytes, final: Path) -> None:
    """Fetch what a stopped fetch did not leave, and let the folder appear; the caller holds the lock."""
    partial = final.with_name(f".{final.name}.partial")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        for name, expected in bars.track(manifest["files"].items(), description=f"fetching {source.url}"):
            path = partial / _checked(name, source.url)
            if manifests.is_intact(path, expected):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            source.get(name, path)
            if not manifests.is_intact(path, expected):
                raise InputError(
                    f"{source.url_of(name)}: damaged or replaced (its hash is not the one in {manifests.NAME}); "
                    "remove the corpus there and upload it again"
                )
    (partial / manifests.NAME).write_bytes(data)
    partial.replace(final)


def _checked(name: str, url: str) -> str:
    """The name of a file in a manifest, if it stays inside the corpus: the manifest may be anybody's."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InputError(f"{url}: its {manifests.NAME} names {name!r}, which is not inside the corpus; do not use it")
    return name


def _verify(final: Path, manifest: dict[str, Any], url: str) -> None:
    try:
        manifests.verify_files(final, manifest)
    except InputError as error:
        raise InputError(f"{error}; or remove {final}, and it is fetched again from {url}") from error
