"""The story settings of the paper: natural stories repeated among others seen once, or canaries appended to them.

TS-Repetition and TS-Canary of arXiv 2507.09937, section 4. A canary is a run of random tokens; the story that
carries it is repeated with it, and the two parts are measured apart.
"""

import shutil
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from memsinks.audit import TokenizedDocument, tokenized
from memsinks.corpus import Columns, Corpus, Document, PrepareConfig, prepare, read_documents
from memsinks.data import story_file
from memsinks.errors import ConfigError
from memsinks.experiments import canaries
from memsinks.experiments.lab import Lab, LabSetting
from memsinks.experiments.texts import streamed_documents
from memsinks.stream import ExposurePlan

HELD_OUT = "held_out"


@dataclass(frozen=True, kw_only=True)
class StorySetting(LabSetting):
    """Text, model and schedule of a story experiment at one scale.

    Attributes:
        source: ``shipped`` for the 15,004 stories in the package, else a dataset of the Hugging Face Hub with a column
            ``text``, which needs a network.
        once: stories seen once; None takes all that are left.
        repeated: stories that are repeated.
        validation: held-out stories.
        longest: most characters of a story that is used; None takes all.
        canary_tokens: random tokens appended to each repeated story; 0 for none.
        posthoc_steps: of unlearning after training; learned masks take two and a half times as many.
    """

    source: str = "shipped"
    once: int | None = None
    repeated: int = 100
    validation: int = 1000
    longest: int | None = None
    canary_tokens: int = 0
    posthoc_steps: int = 40


@dataclass(frozen=True)
class StoryText:
    """The stories of one seed.

    Attributes:
        corpus: all of them.
        repeated, once, validation: their numbers, by role.
        story_tokens: tokens of each repeated story before its canary begins; its length where it has none.
    """

    corpus: Corpus
    repeated: np.ndarray
    once: np.ndarray
    validation: np.ndarray
    story_tokens: np.ndarray

    def documents(self, indices: np.ndarray) -> list[TokenizedDocument]:
        """Stories, for measuring."""
        return tokenized(self.corpus, indices)

    def plan(self, exposures: int) -> ExposurePlan:
        """Every other story once, and each repeated one as often as asked."""
        return ExposurePlan.once(self.corpus).repeat(self.repeated.tolist(), exposures)

    def sets(self) -> dict[str, list[TokenizedDocument]]:
        """What is measured: repeated and held-out stories, some seen once, and where there are canaries both parts."""
        found = {
            "repeated": self.documents(self.repeated),
            "validation": self.documents(self.validation),
            "seen_once": self.documents(self.once[:100]),
        }
        if (self.story_tokens < self.corpus.lengths[self.repeated]).any():
            whole = list(zip(found["repeated"], self.story_tokens.tolist(), strict=True))
            found["story"] = [TokenizedDocument(d.name, d.tokens[:n], d.sequence_id) for d, n in whole]
            found["canary"] = [TokenizedDocument(d.name, d.tokens, d.sequence_id, n) for d, n in whole]
        return found

    def extraction(self) -> list[TokenizedDocument]:
        """What extraction is tried on: the repeated stories, or their canaries, given the story before each."""
        sets = self.sets()
        return sets["canary"] if "canary" in sets else sets["repeated"]


class StoryLab(Lab[StorySetting, StoryText]):
    """Stories, and the arms trained on them."""

    def __init__(self, setting: StorySetting, seed: int, directory: Path, *, progress: bool = True) -> None:
        text = story_text(setting, seed, directory / "corpus", progress=progress)
        super().__init__(setting, text, seed, directory, progress=progress)


def story_text(setting: StorySetting, seed: int, directory: Path, *, progress: bool = False) -> StoryText:
    """Choose and tokenise the stories of a seed; kept from an earlier run with the same choice.

    Raises:
        ConfigError: there are too few stories for the setting.
        InputError: the stories cannot be read.
    """
    stories = _stories(setting)
    random = np.random.default_rng([seed, 3])
    clean = np.array([d.metadata.get("set") != "resplit" for d in stories])
    # About 3.6 characters make a token.
    room = 3 * (setting.max_length - setting.canary_tokens)
    short = np.array([8 * setting.prefix < len(d.text) < room for d in stories])
    candidates = random.permutation(np.flatnonzero(clean & short))
    if len(candidates) < setting.repeated:
        raise ConfigError(f"only {len(candidates)} stories can be repeated; ask for fewer, or for longer rows")
    repeated = candidates[: setting.repeated]
    rest = random.permutation(np.setdiff1d(np.flatnonzero(clean), repeated))
    validation, others = rest[: setting.validation], rest[setting.validation :]
    others = random.permutation(np.concatenate([others, np.flatnonzero(~clean)]))
    once = others if setting.once is None else others[: setting.once]
    if len(validation) < setting.validation or (setting.once is not None and len(once) < setting.once):
        raise ConfigError(f"{len(stories)} stories are too few for this setting; ask for fewer")
    rows = [
        *(_row(stories[i]) for i in (*repeated, *once)),
        *(_row(stories[i], held_out=True) for i in validation),
    ]
    if setting.canary_tokens:
        corpus = _with_canaries(rows, directory, setting, seed, progress=progress)
        story_tokens = [_common_start(corpus, i, stories[story].text) for i, story in enumerate(repeated)]
    else:
        corpus = kept_corpus(rows, directory, Columns(), setting, seed, progress=progress)
        story_tokens = corpus.lengths[: len(repeated)].tolist()
    numbers = np.arange(len(rows))
    roles = np.split(numbers, [len(repeated), len(repeated) + len(once)])
    long = corpus.lengths[roles[0]] > setting.max_length
    if long.any():
        raise ConfigError(f"{int(long.sum())} repeated stories have more than {setting.max_length} tokens")
    return StoryText(corpus, roles[0], roles[1], roles[2], np.array(story_tokens))


def _stories(setting: StorySetting) -> list[Document]:
    if setting.source == "shipped":
        columns = Columns(source="source", metadata=("set",))
        found = list(read_documents([story_file()], columns))
    else:
        wanted = 4 * (setting.repeated + setting.validation + (setting.once or 0))
        unique = {d.text: d for d in islice(streamed_documents(setting.source), wanted)}
        found = list(unique.values())
    return [d for d in found if setting.longest is None or len(d.text) <= setting.longest]


def _row(story: Document, *, held_out: bool = False) -> dict[str, Any]:
    return {"id": story.name, "text": story.text, HELD_OUT: held_out}


def _with_canaries(
    rows: list[dict[str, Any]], directory: Path, setting: StorySetting, seed: int, *, progress: bool
) -> Corpus:
    """The corpus with a canary behind each of the first rows, which are repeated."""
    training = (row["text"] for row in rows if not row[HELD_OUT])
    with canaries.vocabulary(training, setting.tokenizer, setting.vocabulary) as tokenizer:
        random = np.random.default_rng([seed, 4])
        drawn = canaries.draw(tokenizer, setting.repeated, setting.canary_tokens, random)
        for row, canary in zip(rows, drawn, strict=False):
            row["text"] += canary
        setting = replace(setting, tokenizer=tokenizer)
        return kept_corpus(rows, directory, Columns(), setting, seed, progress=progress)


def kept_corpus(
    rows: list[dict[str, Any]], directory: Path, columns: Columns, setting: LabSetting, seed: int, *, progress: bool
) -> Corpus:
    """The corpus of ``rows``, whose column ``held_out`` says what is held out; kept if it was made of the same."""
    if directory.exists():
        found = Corpus.open(directory)
        wanted = [(row["id"], None if columns.source is None else row[columns.source], row[HELD_OUT]) for row in rows]
        # The first text stands for all: names alone do not tell one canary from another.
        first = found.tokenizer.decode(found.tokens(0), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        same = list(zip(found.documents, found.sources, found.is_validation.tolist(), strict=True)) == wanted
        if same and first == rows[0]["text"]:
            return found
        shutil.rmtree(directory)
    config = PrepareConfig(
        columns=columns,
        identity="content" if columns.source is None else "source",
        groups=None,
        vocab_size=setting.vocabulary,
        tokenizer=setting.tokenizer,
        validation_column=HELD_OUT,
        seed=seed,
    )
    return prepare(datasets.Dataset.from_list(rows), directory, config, progress=progress)


def _common_start(corpus: Corpus, index: int, story: str) -> int:
    """Tokens at the beginning that are the story's, whatever the tokenizer makes of the seam."""
    whole = corpus.tokens(index)
    text = corpus.tokenizer(story, add_special_tokens=False)["input_ids"]
    begin = int(len(whole) > 0 and whole[0] == corpus.tokenizer.bos_token_id)
    count = 0
    while count < len(text) and begin + count < len(whole) and int(whole[begin + count]) == text[count]:
        count += 1
    return begin + count
