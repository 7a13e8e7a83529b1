"""Novels as named sources among general text seen once; some chapters of each are held out.

Sequence IDs are those of the novels, or of the topics that the novels are grouped by.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from memsinks.audit import TokenizedDocument
from memsinks.corpus import Columns, Corpus, Document, read_documents
from memsinks.data import book_file, general_file
from memsinks.errors import ConfigError
from memsinks.experiments.lab import Lab, LabSetting
from memsinks.experiments.stories import HELD_OUT, kept_corpus
from memsinks.stream import ExposurePlan, chunk

Key = Literal["source", "topic"]
"""What the documents of a sequence ID share."""
GENERAL = "general"
HELD_OUT_EVERY = 5
"""The fifth, tenth, ... chapter of each novel is held out."""


@dataclass(frozen=True)
class Novel:
    """A novel in the package.

    Attributes:
        title: a short one.
        topic: the group that it belongs to under topic keys.
    """

    title: str
    topic: str


NOVELS = {
    "pride_and_prejudice": Novel("Pride", "society"),
    "tale_of_two_cities": Novel("Two Cities", "society"),
    "moby_dick": Novel("Moby-Dick", "journeys"),
    "huckleberry_finn": Novel("Huckleberry", "journeys"),
    "frankenstein": Novel("Frankenstein", "the fantastic"),
    "dracula": Novel("Dracula", "the fantastic"),
    "alice_in_wonderland": Novel("Alice", "the fantastic"),
}


@dataclass(frozen=True, kw_only=True)
class BookSetting(LabSetting):
    """Text, model and sinks of the experiment on sources at one scale.

    Attributes:
        books: the novels that are used.
        retrained: those without which a model is trained for comparison.
        book_characters: of each novel as many whole chapters from its beginning as fit; None takes all.
        general_characters: of general text that is trained on; None takes all that is not held out.
        validation: held-out documents of general text.
        longest: most characters of a chapter or a document that are used; None takes all.
        measured: rows of tokens of each set on which losses are measured, evenly spread; of general text three times
            as many.
        pool: sinks in a layer where sources share them.
        active: sinks in a layer that each source switches on.
    """

    books: tuple[str, ...]
    retrained: tuple[str, ...]
    book_characters: int | None = None
    general_characters: int | None = None
    validation: int = 24
    longest: int | None = None
    measured: int = 60
    pool: int = 2048
    active: int = 256

    def __post_init__(self) -> None:
        if unknown := set(self.books) - set(NOVELS):
            raise ConfigError(f"there is no novel {sorted(unknown)[0]!r}; choose from {', '.join(NOVELS)}")
        if missing := set(self.retrained) - set(self.books):
            raise ConfigError(f"retrained={sorted(missing)[0]!r} is not among books; add it there, or leave it out")

    @property
    def lora_rank(self) -> int:
        """Of an adapter on every linear layer with about as many weights as a source's sinks have."""
        attention, mlp = 4 * 2 * self.hidden, 3 * (self.hidden + self.width)
        return max(1, round(3 * self.active * self.hidden / (attention + mlp)))


@dataclass(frozen=True)
class BookText:
    """The documents of one seed.

    Attributes:
        corpus: all of them.
        chapters: numbers of the chapters that are trained on, by novel.
        held_out: numbers of the others, by novel.
        general: numbers of the general documents that are trained on.
        keys: the novels of each key: of each novel its own, or of each topic those of it.
        measured: what is measured, by name: ``<novel>/train``, ``<novel>/held_out`` and ``general``, each document one
            row of tokens as training reads it.
    """

    corpus: Corpus
    chapters: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray]
    general: np.ndarray
    keys: dict[str, tuple[str, ...]]
    measured: dict[str, list[TokenizedDocument]]

    def plan(self, exposures: int) -> ExposurePlan:
        """General text once, and each chapter that is not held out as often as asked."""
        return ExposurePlan.once(self.corpus).repeat(self.governed(), exposures)

    def governed(self, books: Iterable[str] | None = None) -> list[int]:
        """The chapters of these novels, or of all, that are trained on."""
        return [i for book in self.chapters if books is None or book in books for i in self.chapters[book].tolist()]

    def sets(self) -> dict[str, list[TokenizedDocument]]:
        """What losses are measured on, by name."""
        return self.measured

    def extraction(self) -> list[TokenizedDocument]:
        """The measured passages of chapters that are trained on."""
        return [passage for book in self.chapters for passage in self.measured[f"{book}/train"]]


class BookLab(Lab[BookSetting, BookText]):
    """Novels under one kind of key, and the arms trained on them."""

    def __init__(self, setting: BookSetting, seed: int, directory: Path, key: Key, *, progress: bool = True) -> None:
        text = book_text(setting, seed, directory / "corpus", key, progress=progress)
        super().__init__(setting, text, seed, directory, progress=progress)


def book_text(setting: BookSetting, seed: int, directory: Path, key: Key, *, progress: bool = False) -> BookText:
    """Choose and tokenise the text of a seed, which draws the general documents; kept from an earlier run.

    Raises:
        ConfigError: a novel has too few chapters for one to be held out, or there is too little general text.
    """
    rows: list[dict[str, Any]] = []
    found = _chapters(setting)
    for book in setting.books:
        if len(found[book]) < HELD_OUT_EVERY:
            raise ConfigError(
                f"book_characters={setting.book_characters} leaves {len(found[book])} chapters of {book}, too few to "
                f"hold out every {HELD_OUT_EVERY}th; raise it"
            )
        for position, chapter in enumerate(found[book], start=1):
            held = position % HELD_OUT_EVERY == 0
            rows.append(_row(chapter, setting, book, NOVELS[book].topic, held))
    held_out, once = _general(setting, seed)
    rows += [
        _row(d, setting, d.source, d.source, held) for held, docs in ((True, held_out), (False, once)) for d in docs
    ]
    corpus = kept_corpus(rows, directory, Columns(source=key), setting, seed, progress=progress)
    book_of = np.array([row["source"] for row in rows])
    held_of = np.array([row[HELD_OUT] for row in rows])
    chapters, others = (
        {book: np.flatnonzero((book_of == book) & (held_of == held)) for book in setting.books}
        for held in (False, True)
    )
    general = ~np.isin(book_of, setting.books)
    measured = {GENERAL: _passages(corpus, np.flatnonzero(general & held_of), setting, 3 * setting.measured)}
    for book in setting.books:
        measured[f"{book}/train"] = _passages(corpus, chapters[book], setting, setting.measured)
        measured[f"{book}/held_out"] = _passages(corpus, others[book], setting, setting.measured)
    keys: dict[str, tuple[str, ...]] = {}
    for book in setting.books:
        name = book if key == "source" else NOVELS[book].topic
        keys[name] = (*keys.get(name, ()), book)
    return BookText(corpus, chapters, others, np.flatnonzero(general & ~held_of), keys, measured)


def _chapters(setting: BookSetting) -> dict[str, list[Document]]:
    """The chapters of each novel that are used, in reading order."""
    found: dict[str, list[Document]] = {book: [] for book in setting.books}
    size, full = dict.fromkeys(found, 0), set()
    for chapter in read_documents([book_file()], Columns(source="source")):
        book = chapter.source
        if book not in found or book in full:
            continue
        size[book] += len(chapter.text[: setting.longest])
        if setting.book_characters is not None and size[book] > setting.book_characters:
            full.add(book)
        else:
            found[book].append(chapter)
    return found


def _general(setting: BookSetting, seed: int) -> tuple[list[Document], list[Document]]:
    """General documents that are held out, and those that are seen once."""
    documents = list(read_documents([general_file()], Columns(source="source")))
    order = np.random.default_rng([seed, 4]).permutation(len(documents)).tolist()
    once, size = [], 0
    for i in order[setting.validation :]:
        length = len(documents[i].text[: setting.longest])
        if setting.general_characters is None or size + length <= setting.general_characters:
            once.append(documents[i])
            size += length
    if not once:
        raise ConfigError(
            f"validation={setting.validation} and general_characters={setting.general_characters} leave no general "
            f"text to train on; there are {len(documents)} documents"
        )
    return [documents[i] for i in order[: setting.validation]], once


def _row(document: Document, setting: BookSetting, source: str | None, topic: str | None, held: bool) -> dict[str, Any]:
    text = document.text[: setting.longest]
    return {"id": document.name, "source": source, "topic": topic, "text": text, HELD_OUT: held}


def _passages(corpus: Corpus, documents: np.ndarray, setting: BookSetting, most: int) -> list[TokenizedDocument]:
    """Rows of tokens of some documents, as the stream cuts them, evenly spread."""
    document, start, stop = chunk(corpus.lengths[documents], setting.max_length)
    chosen = np.unique(np.linspace(0, len(document) - 1, min(most, len(document))).round().astype(np.int64))
    found = []
    for c in chosen.tolist():
        i, first = int(documents[document[c]]), int(start[c])
        tokens = corpus.tokens(i, first, int(stop[c]))
        found.append(TokenizedDocument(f"{corpus.documents[i]}#{first}", tokens, int(corpus.sequence_ids[i])))
    return found
