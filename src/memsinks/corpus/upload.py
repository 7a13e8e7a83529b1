"""A finished corpus goes to a URL file by file, its manifest last: without it nothing is taken for a corpus."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memsinks.corpus import manifest as manifests
from memsinks.corpus.remote import RemoteFolder
from memsinks.errors import InputError


@dataclass(frozen=True)
class Upload:
    """The upload of one corpus; stopped and run again, it goes on.

    Attributes:
        url: of the new corpus.
        folder: the finished corpus on this machine.
        log: a file that goes with it, which no manifest names.
        begun: a file that is there once the upload has begun.
    """

    url: str
    folder: Path
    log: Path
    begun: Path

    def files(self) -> dict[str, dict[str, Any]]:
        """Size and hash of the files, by name."""
        return manifests.read_manifest(self.folder)["files"]

    def check(self) -> None:
        """Refuse a target that holds anything but what this upload put there.

        Raises:
            InputError: it does, or it cannot be reached.
        """
        self._present(RemoteFolder(self.url))

    def run(self, done: Callable[[], object]) -> None:
        """Upload what is not there yet; ``done`` is called after each file.

        A file of the right size is read back and hashed before it is passed over.

        Raises:
            InputError: see :meth:`check`, or a file cannot be written or does not arrive whole.
        """
        target = RemoteFolder(self.url)
        present = self._present(target)
        if manifests.NAME in present and target.read(manifests.NAME) == self._manifest():
            return  # stopped after its end
        self.begun.touch()
        files = self.files()
        for name, expected in files.items():
            if present.get(name) != expected["bytes"] or target.digest(name) != expected["sha256"]:
                target.put(self.folder / name, name)
            done()
        target.put(self.log, self.log.name)
        present = target.files()
        for name, expected in files.items():
            if present.get(name) != expected["bytes"]:
                raise InputError(
                    f"{target.url_of(name)}: {present.get(name) or 0} of {expected['bytes']} bytes arrived; "
                    "run the same command again"
                )
        target.put(self.folder / manifests.NAME, manifests.NAME)
        if target.read(manifests.NAME) != self._manifest():
            raise InputError(f"{target.url_of(manifests.NAME)}: did not arrive whole; run the same command again")

    def _present(self, target: RemoteFolder) -> dict[str, int | None]:
        present = target.files()
        if not present:
            return present
        foreign = set(present)
        if self.begun.exists() and self.folder.is_dir():
            foreign -= {*self.files(), self.log.name}
            # Not every storage lets a file appear at once: a part of the manifest is no corpus.
            if self._manifest().startswith(target.read(manifests.NAME) or b""):
                foreign.discard(manifests.NAME)
        if manifests.NAME in foreign:
            raise InputError(f"{self.url}: already holds a corpus; choose another output or remove it")
        if foreign:
            example = min(foreign) or "it is a file"
            raise InputError(
                f"{self.url}: already exists and is not an empty folder ({example}); choose another output or remove "
                "what is there"
            )
        return present

    def _manifest(self) -> bytes:
        return (self.folder / manifests.NAME).read_bytes()
