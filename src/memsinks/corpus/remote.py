"""A folder behind a URL: its files are listed, read and written, and every failure names the URL and the remedy."""

import hashlib
from pathlib import Path

import fsspec

from memsinks.corpus.storage import reaching

_CHUNK_BYTES = 1 << 20


class RemoteFolder:
    """A folder of any storage that fsspec knows.

    Every method raises :class:`InputError` where the storage refuses or cannot be reached.

    Attributes:
        url: of the folder, without a slash at its end.
    """

    def __init__(self, url: str) -> None:
        self.url = trimmed(url)
        with reaching(url):
            self._system, root = fsspec.core.url_to_fs(url)
        self._root = root.rstrip("/")

    def files(self) -> dict[str, int | None]:
        """Name, relative to the folder, and size of every file in it; ``""`` is a file in the folder's place."""
        with reaching(self.url):
            # A client may remember a listing from before.
            self._system.invalidate_cache()
            found = self._system.find(self._root, detail=True)
        # Some stores keep an empty object in the name of a folder, with a slash at its end.
        kept = {path: entry.get("size") for path, entry in found.items() if not path.endswith("/")}
        return {path[len(self._root) :].lstrip("/"): size for path, size in kept.items()}

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None if there is none."""
        with reaching(self.url_of(name)):
            try:
                return self._system.cat_file(self._path(name))
            except FileNotFoundError:
                return None

    def digest(self, name: str) -> str:
        """SHA-256 of a file as hexadecimal digits, read back from the storage."""
        state = hashlib.sha256()
        with reaching(self.url_of(name)), self._system.open(self._path(name), "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                state.update(chunk)
        return state.hexdigest()

    def get(self, name: str, into: Path) -> None:
        """Copy a file to this machine."""
        with reaching(self.url_of(name), into):
            self._system.get_file(self._path(name), str(into))

    def put(self, file: Path, name: str) -> None:
        """Copy a file from this machine, with the folders that it needs."""
        path = self._path(name)
        with reaching(self.url_of(name)):
            try:
                self._system.put_file(str(file), path)
            except FileNotFoundError:  # object stores have no folders, and some refuse to make one
                self._system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                self._system.put_file(str(file), path)

    def url_of(self, name: str) -> str:
        """The URL of a file."""
        return f"{self.url}/{name}"

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def trimmed(url: str) -> str:
    """A URL without slashes at its end, but for those that follow its protocol."""
    return url if url.endswith("://") else url.rstrip("/")
