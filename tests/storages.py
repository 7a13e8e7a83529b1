"""A storage whose every access is seen, and which fails or stops where a test wants it to."""

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import fsspec
from fsspec.implementations.local import LocalFileSystem

PROTOCOL = "watched"


def does_nothing(action: str, name: str) -> None:
    """What a storage does that does not fail."""


class WatchedFileSystem(LocalFileSystem):
    """Files of this machine behind ``watched://``; each copy is made in two halves, with ``between`` called in between.

    Attributes:
        journal: ``(action, name)`` of each file that was put, got or read.
        between: called with both; what it raises, the storage raises, and after "cut" the second half never comes.
    """

    protocol = PROTOCOL
    journal: ClassVar[list[tuple[str, str]]] = []
    between: ClassVar[Callable[[str, str], Literal["cut"] | None]] = staticmethod(does_nothing)

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix(f"{PROTOCOL}://"))

    def put_file(self, path1, path2, **kwargs):
        self._copy("put", Path(path1), Path(path2), Path(path2).name)

    def get_file(self, path1, path2, **kwargs):
        self._copy("get", Path(path1), Path(path2), Path(path1).name)

    def _open(self, path, mode="rb", **kwargs):
        self.journal.append(("read", Path(path).name))
        return super()._open(path, mode, **kwargs)

    def _copy(self, action: str, source: Path, target: Path, name: str) -> None:
        data = source.read_bytes()
        target.write_bytes(data[: len(data) // 2])
        if type(self).between(action, name) == "cut":
            return
        target.write_bytes(data)
        self.journal.append((action, name))


fsspec.register_implementation(PROTOCOL, WatchedFileSystem, clobber=True)


def raises(error: Exception, action: str, name: str) -> Callable[[str, str], None]:
    """For :attr:`WatchedFileSystem.between`: one file cannot be copied."""

    def fail(*arguments: str) -> None:
        if arguments == (action, name):
            raise error

    return fail


def done(action: str) -> list[str]:
    """Names of the files with which this was done."""
    return [name for found, name in WatchedFileSystem.journal if found == action]


def content(folder: Path, *without: str) -> dict[str, bytes]:
    """Every file below a folder."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if name not in without}
