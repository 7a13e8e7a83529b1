"""What else holds the text of a request, or what was learned of it: inside the run's folders, where it is purged, and
outside, where it is listed.

The run's folders are the checkpoint's and, beside it, the one with its resume checkpoints and logs.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from memsinks.checkpoint.export import RECORD as EXPORT
from memsinks.checkpoint.lineage import LINEAGE
from memsinks.corpus.files import is_full
from memsinks.errors import InputError
from memsinks.ids import format_id
from memsinks.removal.scope import Scope
from memsinks.removal.subject import Subject
from memsinks.runs.run import CONFIG, working_directory_of
from memsinks.sinks.files import TENSORS
from memsinks.training import checkpoints

ADAPTER = "adapter_config.json"
_TEXTS = {".csv", ".html", ".json", ".jsonl", ".log", ".md", ".toml", ".txt"}
_QUOTE, _QUOTES, _LARGEST = 60, 500, 64 << 20
"""Characters that count as a quotation, documents that are looked for, and bytes of a file that is searched."""


@dataclass(frozen=True, kw_only=True)
class Residue:
    """A file or folder.

    Attributes:
        path: inside the run's folders relative to the parent of the checkpoint, outside as it was found.
        what: it is.
        holds: weights that learned from the text, or the text.
        action: purge, or list.
        remedy: what an operator has to do, where it is only listed.
    """

    path: str
    what: str
    holds: Literal["weights", "text"]
    action: Literal["purge", "list"]
    remedy: str = ""


def find_residue(subject: Subject, scope: Scope) -> Iterator[Residue]:
    """Everything that is known to hold some of it."""
    home = subject.folder.resolve().parent
    tree = [subject.folder.resolve(), working_directory_of(subject.folder.resolve())]
    for folder in checkpoints.checkpoints(tree[1]):
        yield _purge(home, folder, "resume checkpoint: weights and moments of removed sinks")
    for folder in tree:
        yield from _exports(scope, folder, home, inside=True)
        yield from _adapters(folder, home, inside=True)
        yield from _quotes(subject, scope, folder, home)
    yield Residue(
        path=str(subject.corpus.place),
        what="the corpus: tokens of the text",
        holds="text",
        action="list",
        remedy="remove the text from it where the request covers storage; training refuses it from now on",
    )
    if subject.corpus.path != subject.corpus.place:
        yield Residue(
            path=str(subject.corpus.path),
            what="cached copy of the corpus",
            holds="text",
            action="list",
            remedy="remove it",
        )
    yield from relatives(subject, scope)


def purge(residue: Residue, home: Path) -> None:
    """Remove a file or folder inside the run's folders; one that is gone already is fine.

    Raises:
        InputError: it cannot be removed.
    """
    path = home / residue.path
    if not path.resolve().is_relative_to(home.resolve()):
        raise InputError(f"{path}: is not inside the run's folders, so it is not removed; plan again")
    try:
        if path.is_dir() and not path.is_symlink():
            checkpoints.remove(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        hint = "" if not is_full(error) else "; the disk is full"
        raise InputError(f"{path}: cannot be removed ({error}){hint}; remove it by hand") from error


def quotations(subject: Subject, chosen: np.ndarray) -> list[str]:
    """A passage of each chosen document, long enough to be known by: from its middle, with blanks as they are."""
    found = []
    for i in np.flatnonzero(chosen)[:_QUOTES].tolist():
        text = subject.corpus.text(i).strip()
        start = max(0, (len(text) - _QUOTE) // 2)
        if len(text) >= _QUOTE:
            found.append(text[start : start + _QUOTE])
    return found


def _purge(home: Path, path: Path, what: str, holds: Literal["weights", "text"] = "weights") -> Residue:
    return Residue(path=path.relative_to(home).as_posix(), what=what, holds=holds, action="purge")


def _quotes(subject: Subject, scope: Scope, folder: Path, home: Path) -> Iterator[Residue]:
    passages = quotations(subject, scope.documents | scope.also)
    # As JSON and HTML write them too.
    ascii_only = (True, False)
    wanted = {json.dumps(text, ensure_ascii=kind)[1:-1] for text in passages for kind in ascii_only} | set(passages)
    for path in sorted(folder.rglob("*")):
        if path.suffix not in _TEXTS or not path.is_file() or path.stat().st_size > _LARGEST:
            continue
        content = path.read_text("utf-8", errors="replace")
        if any(passage in content for passage in wanted):
            yield _purge(home, path, "quotes the text", "text")


def _exports(scope: Scope, folder: Path, home: Path, *, inside: bool) -> Iterator[Residue]:
    """Stock checkpoints with sinks of the request folded in."""
    for record in sorted(folder.rglob(f"*{EXPORT}")) if folder.is_dir() else []:
        yield from _export(scope, record, home, inside=inside)


def _export(scope: Scope, record: Path, home: Path, *, inside: bool) -> Iterator[Residue]:
    """A folder with its record inside, or a GGUF file with it beside."""
    try:
        content = json.loads(record.read_text())
        mode, ids = content["mode"], set(content["ids"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    gone = {format_id(int(i)) for i in scope.ids}
    if mode == "off" or (mode in ("chosen", "placebo") and not ids & gone):
        return
    what, remedy = f"export with sinks {mode} folded in", "remove it and what was copied from it"
    found = record.parent if record.name == EXPORT else record.with_name(record.name.removesuffix(f".{EXPORT}"))
    if inside:
        yield _purge(home, found, what)
    else:
        yield Residue(path=str(found), what=what, holds="weights", action="list", remedy=remedy)


def _adapters(folder: Path, home: Path, *, inside: bool) -> Iterator[Residue]:
    for config in sorted(folder.rglob(ADAPTER)) if folder.is_dir() else []:
        what = "adapter: trained on this model, it may hold governed text"
        if inside:
            yield _purge(home, config.parent, what)
        else:
            path = str(config.parent)
            yield Residue(path=path, what=what, holds="weights", action="list", remedy="train it anew")


def relatives(subject: Subject, scope: Scope) -> Iterator[Residue]:
    """Beside the checkpoint: exports, adapters, and other checkpoints that were trained on the same text."""
    home = subject.folder.resolve().parent
    own = {subject.folder.resolve(), working_directory_of(subject.folder.resolve())}
    for record in sorted(home.glob(f"*.{EXPORT}")):
        yield from _export(scope, record, home, inside=False)
    corpus = subject.corpus.hash
    for folder in sorted(path for path in home.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if folder in own:
            continue
        yield from _exports(scope, folder, home, inside=False)
        if (folder / ADAPTER).is_file():
            yield from _adapters(folder, home, inside=False)
        if _trained_on(folder, corpus):
            has_sinks = (folder / TENSORS).is_file()
            yield Residue(
                path=str(folder),
                what="another checkpoint trained on this corpus",
                holds="weights",
                action="list",
                remedy="run memsinks forget on it too" if has_sinks else "it has no sinks; retrain it without the text",
            )


def _trained_on(folder: Path, corpus: str) -> bool:
    for name in (LINEAGE, "run.json"):
        try:
            if corpus in (folder / name).read_text() and (folder / CONFIG).is_file():
                return True
        except (OSError, UnicodeDecodeError):
            continue
    return False
