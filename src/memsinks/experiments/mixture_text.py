"""Text of the large-mixture experiment: general text with few stories in it, and plans of equally many rows.

Setting of arXiv 2507.09937, section 5.2: a domain of which there is little is shown several times among general text.
The budget is one of rows, a row being a chunk of a document: every plan has as many, so every arm has as many optimiser
steps, and where stories take fewer of them general text takes the rest.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from memsinks.audit import TokenizedDocument, tokenized
from memsinks.corpus import Columns, Corpus, Document, PrepareConfig, load_tokenizer, prepare, read_documents
from memsinks.corpus.split import text_hash
from memsinks.data import general_file, story_file
from memsinks.errors import ConfigError, InputError
from memsinks.experiments.lab import Lab, LabSetting
from memsinks.experiments.results import write_json
from memsinks.experiments.stories import HELD_OUT
from memsinks.experiments.texts import passages, streamed_documents
from memsinks.stream import ExposurePlan, chunk

DOMAIN, GENERAL = "stories", "general"
"""Sources of the two kinds of text in the corpus."""
SHIPPED = "shipped"
CHARACTERS_A_TOKEN = 5
"""More than tokenizers make of English: so much general text is read for each token of the budget."""


@dataclass(frozen=True, kw_only=True)
class MixtureSetting(LabSetting):
    """Text, model and schedule of a mixture at one scale; ``exposures`` is that of the heavily upsampled arms.

    Attributes:
        moderate: exposures of each story under moderate upsampling.
        tokens: training tokens of a heavily upsampled arm, stories and general text together. They give the number of
            rows, which all arms share.
        stories, validation: stories trained on, and held out.
        longest: most characters of a story; None takes those that fit a row.
        held_out: one in so many general documents is held out, whole.
        passage: general documents are cut into passages of at most so many characters, each a document of the corpus
            with an ID of its own.
        measured: held-out general passages that are measured, at most.
        story_source, general_source: ``shipped``, or a dataset as :func:`streamed_documents` takes it.
        pool, active: sinks of the arms that share a pool: a multiple of the MLP's width, and a fraction of the pool.
        own: sinks of a story in a layer, in the arms in which no two stories share any.
    """

    exposures: int = 64
    moderate: int = 8
    tokens: int = 1_800_000
    stories: int = 100
    validation: int = 300
    longest: int | None = None
    held_out: int = 12
    passage: int = 4000
    measured: int = 128
    story_source: str = SHIPPED
    general_source: str = SHIPPED
    pool: float = 4.0
    active: float = 0.125
    own: int = 64


_CHOICE = (
    "tokens", "stories", "validation", "longest", "held_out", "passage", "story_source", "general_source", "vocabulary",
    "tokenizer", "max_length", "prefix",
)  # fmt: skip
"""Settings that decide what is in the corpus."""


@dataclass(frozen=True)
class MixtureText:
    """The text of one seed.

    Attributes:
        corpus: all of it.
        domain, validation: numbers of the stories trained on, and held out.
        general, general_validation: numbers of the general passages trained on, in the order in which plans take them,
            and of those that are measured.
        sizes: rows that each document of the corpus takes.
        rows: of every plan.
        moderate: exposures of each story under moderate upsampling.
    """

    corpus: Corpus
    domain: np.ndarray
    validation: np.ndarray
    general: np.ndarray
    general_validation: np.ndarray
    sizes: np.ndarray
    rows: int
    moderate: int

    def plan(self, exposures: int) -> ExposurePlan:
        """Each story so often, and general passages in all other rows; those that run out are gone through again.

        Raises:
            ConfigError: the stories alone take more rows than there are.
        """
        room = self.rows - exposures * int(self.sizes[self.domain].sum())
        if room < 0:
            raise ConfigError(f"stories seen {exposures} times take more than the {self.rows} rows of every arm")
        counts = np.zeros(len(self.corpus), dtype=np.int64)
        counts[self.domain] = exposures
        counts[self.general] = times_to_fill(self.sizes[self.general], room)
        return ExposurePlan(self.corpus, counts)

    def accounting(self, plan: ExposurePlan) -> dict[str, float]:
        """What a plan shows: exposures of a story, tokens of either kind, and passes over the general text."""
        seen, general = plan.counts * self.corpus.lengths, int(self.corpus.lengths[self.general].sum())
        return {
            "exposures": float(plan.counts[self.domain].mean()),
            "domain_tokens": float(seen[self.domain].sum()),
            "general_tokens": float(seen[self.general].sum()),
            "general_passes": float(seen[self.general].sum() / general),
        }

    def sets(self) -> dict[str, list[TokenizedDocument]]:
        """What is measured: stories of the training text and held-out ones, and held-out general passages."""
        return {
            "repeated": tokenized(self.corpus, self.domain),
            "validation": tokenized(self.corpus, self.validation),
            "general": tokenized(self.corpus, self.general_validation),
        }

    def extraction(self) -> list[TokenizedDocument]:
        """What extraction is tried on: the stories of the training text."""
        return tokenized(self.corpus, self.domain)


class MixtureLab(Lab[MixtureSetting, MixtureText]):
    """A mixture, and the arms trained on it."""

    def __init__(self, setting: MixtureSetting, seed: int, directory: Path, *, progress: bool = True) -> None:
        if setting.architecture is not None and not Path(setting.architecture).is_file():
            raise InputError(
                f"{setting.architecture}: no such file; the recipes belong to a clone of the repository: run this "
                "from its root"
            )
        text = mixture_text(setting, seed, directory / "corpus", progress=progress)
        super().__init__(setting, text, seed, directory, progress=progress)


def mixture_text(setting: MixtureSetting, seed: int, directory: Path, *, progress: bool = False) -> MixtureText:
    """Choose and tokenise the text of a seed; kept from an earlier run with the same choice.

    Raises:
        ConfigError: there is too little text for the setting, or its numbers do not fit together.
        InputError: text cannot be read.
    """
    corpus = _corpus(setting, seed, directory, progress)
    random = np.random.default_rng([seed, 6])
    of_domain = np.array([source == DOMAIN for source in corpus.sources])
    domain, validation = (np.flatnonzero(of_domain & held) for held in (~corpus.is_validation, corpus.is_validation))
    general = random.permutation(np.flatnonzero(~of_domain & ~corpus.is_validation))
    held_out = random.permutation(np.flatnonzero(~of_domain & corpus.is_validation))[: setting.measured]
    document, _, _ = chunk(corpus.lengths, setting.max_length)
    sizes = np.bincount(document, minlength=len(corpus))
    left = setting.tokens - setting.exposures * int(corpus.lengths[domain].sum())
    rows_a_token = sizes[general].sum() / corpus.lengths[general].sum()
    rows = setting.exposures * int(sizes[domain].sum()) + round(left * rows_a_token)
    # Whole batches only: every row of every plan is then seen exactly once.
    rows -= rows % setting.batch_size
    if left <= 0 or rows <= 0:
        raise ConfigError(
            f"{setting.stories} stories seen {setting.exposures} times have {setting.tokens - left} tokens, which "
            f"leaves no room in {setting.tokens}; give more tokens, or fewer stories or exposures"
        )
    return MixtureText(corpus, domain, validation, general, np.sort(held_out), sizes, rows, setting.moderate)


def times_to_fill(sizes: np.ndarray, room: int) -> np.ndarray:
    """How often each item is taken so that the sizes add up to ``room`` exactly: ``int64``, as long as ``sizes``.

    All items are taken equally often, but for the last, partial pass: it takes as many leading items as fit, and later
    ones that fill what is left.

    Raises:
        ConfigError: no choice of items fills the room.
    """
    passes, rest = divmod(room, int(sizes.sum()))
    counts = np.full(len(sizes), passes, dtype=np.int64)
    ends = np.cumsum(sizes)
    leading = int(np.searchsorted(ends, rest, side="right"))
    while leading >= 0:
        filling = _adding_up(sizes[leading:], rest - int(ends[leading - 1] if leading else 0))
        if filling is not None:
            counts[:leading] += 1
            counts[leading + filling] += 1
            return counts
        leading -= 1
    raise ConfigError(f"no choice of general passages takes {rest} rows; make passages shorter")


def _adding_up(sizes: np.ndarray, total: int) -> np.ndarray | None:
    """Items, as early as they come, whose sizes add up to ``total``; None if there are none."""
    reached: dict[int, tuple[int, int]] = {0: (0, -1)}
    for item, size in enumerate(sizes.tolist()):
        if total in reached:
            break
        for before in list(reached):
            if before + size <= total:
                reached.setdefault(before + size, (before, item))
    if total not in reached:
        return None
    items = []
    while total:
        total, item = reached[total]
        items.append(item)
    return np.array(items, dtype=np.int64)


def _corpus(setting: MixtureSetting, seed: int, directory: Path, progress: bool) -> Corpus:
    note, text = directory.with_name("corpus.json"), directory.with_name("text.jsonl")
    choice = {name: getattr(setting, name) for name in _CHOICE} | {"seed": seed}
    if directory.exists():
        if note.is_file() and json.loads(note.read_text()) == choice:
            return Corpus.open(directory)
        shutil.rmtree(directory)
    if setting.tokenizer is not None:
        load_tokenizer(setting.tokenizer)  # A name that cannot be loaded is told before gigabytes of text are.
    # Text goes through a file: `prepare` reads its input several times, and this much is not held in memory.
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with text.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in _rows(setting, seed))
    except OSError as error:
        raise InputError(
            f"{text}: cannot be written ({error.strerror}); make room, or choose another folder"
        ) from error
    config = PrepareConfig(
        groups=None,
        columns=Columns(source="source"),
        vocab_size=setting.vocabulary,
        tokenizer=setting.tokenizer,
        validation_column=HELD_OUT,
        seed=seed,
    )
    corpus = prepare(text, directory, config, progress=progress)
    write_json(note, choice)
    text.unlink()
    return corpus


def _rows(setting: MixtureSetting, seed: int) -> Iterator[dict[str, Any]]:
    """The documents of the corpus, stories first, no text twice."""
    random = np.random.default_rng([seed, 5])
    seen: set[bytes] = set()

    def is_new(text: str) -> bool:
        known = len(seen)
        seen.add(text_hash(text))
        return len(seen) > known

    longest = 3 * setting.max_length if setting.longest is None else setting.longest
    # Held-out stories are chosen as those trained on are: their losses are to differ by memory alone.
    stories = [d for d in _stories(setting) if 8 * setting.prefix < len(d.text) <= longest and is_new(d.text)]
    wanted = setting.stories + setting.validation
    if len(stories) < wanted:
        raise ConfigError(f"{wanted} stories were asked for, but {len(stories)} have a fitting length; ask for fewer")
    for number, i in enumerate(random.permutation(len(stories))[:wanted].tolist()):
        yield _row(DOMAIN, stories[i].name, stories[i].text, number >= setting.stories)
    first, number, characters = int(random.integers(setting.held_out)), 0, 0
    for document in _general(setting):
        held = number % setting.held_out == first
        number += 1
        for part, text in enumerate(passages(document.text, setting.passage)):
            if text.strip() and is_new(text):
                yield _row(GENERAL, f"{document.name}/{part}", text, held)
                characters += 0 if held else len(text)
        if characters >= CHARACTERS_A_TOKEN * setting.tokens and number >= setting.held_out:
            return
    if number < setting.held_out:
        raise ConfigError(f"{number} general documents are too few to hold out one in {setting.held_out}")


def _row(source: str, name: str, text: str, held_out: bool) -> dict[str, Any]:
    return {"id": f"{source}/{name}", "source": source, "text": text, HELD_OUT: held_out}


def _stories(setting: MixtureSetting) -> list[Document]:
    if setting.story_source == SHIPPED:
        found = read_documents([story_file()], Columns(source="source", metadata=("set",)))
        return [d for d in found if d.metadata["set"] == "clean"]
    return list(islice(streamed_documents(setting.story_source), 4 * (setting.stories + setting.validation)))


def _general(setting: MixtureSetting) -> Iterator[Document]:
    if setting.general_source == SHIPPED:
        return read_documents([general_file()], Columns(source="source"))
    return streamed_documents(setting.general_source)
