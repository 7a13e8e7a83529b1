"""``README.md``: what a checkpoint is, in words, for people who find it.

The card is made of the files beside it, so that a removal can write it anew. A card that somebody else wrote, or that
was edited so that its mark is gone, is never replaced.
"""

import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memsinks.checkpoint.lineage import Lineage
from memsinks.corpus import Corpus
from memsinks.errors import CheckpointError
from memsinks.sinks.allocation import AllocationTable
from memsinks.sinks.config import SinkConfig

CARD = "README.md"
RUN, RECORD = "run.toml", "run.json"
"""The run's settings and its record, of which a card takes what governed which text."""
_MARK = "<!-- memsinks-card 1 -->"
_WITH_SOURCES = "<!-- memsinks-card 1, with sources -->"
_POLICIES = {
    "all": "all text",
    "repeated": "documents that were planned at least twice",
    "sources": "documents of sources that the run names",
    "column": "documents that a metadata column marks",
}


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a card says.

    Attributes:
        config: of the pool, with resolved counts; None for a model that never had sinks.
        table: which rows belong to whom.
        govern: the policy of the last training, by its name in a run file; None if it is not known.
        governed: documents that it governed, if that is known.
        lineage: of the checkpoint, if there is one.
        sources: names of the sources whose text has sinks; None says nothing about them.
        folded: the mode whose sinks are in an export's weights, and how many IDs it names; None for a checkpoint.
        attenuated: of the folded sinks, those of how many IDs are scaled, and by what.
    """

    config: SinkConfig | None = None
    table: AllocationTable | None = None
    govern: str | None = None
    governed: int | None = None
    lineage: Lineage | None = None
    sources: Sequence[str] | None = None
    folded: tuple[str, int] | None = None
    attenuated: tuple[tuple[int, float], ...] = ()


def run_facts(folder: Path) -> dict[str, Any]:
    """What the files of a run say: ``govern``, ``governed`` and ``lineage`` of :class:`CardFacts`.

    Raises:
        CheckpointError: a file is there and cannot be read.
    """
    found: dict[str, Any] = {"lineage": Lineage.read(folder)}
    try:
        if (folder / RUN).is_file():
            found["govern"] = tomllib.loads((folder / RUN).read_text("utf-8"))["exposures"]["govern"]
        if (folder / RECORD).is_file():
            found["governed"] = json.loads((folder / RECORD).read_text("utf-8"))["governed_documents"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: {RUN} or {RECORD} cannot be read ({error!r}); restore it from a copy"
        ) from error
    return found


def trained_sources(corpus: Corpus, lineage: Lineage) -> list[str]:
    """Names of the corpus's sources of which some text trained with its sinks and was not removed, sorted."""
    chosen = np.isin(corpus.sequence_ids, lineage.trained_ids()) & ~corpus.is_validation
    named = (corpus.sources[i] for i in np.flatnonzero(chosen).tolist())
    return sorted({name for name in named if name is not None})


def is_ours(file: Path) -> bool:
    """Whether a file is a card that :func:`write_card` wrote."""
    return _mark(file) is not None


def names_sources(file: Path) -> bool:
    """Whether a card of ours names sources."""
    return _mark(file) == _WITH_SOURCES


def write_card(folder: Path, facts: CardFacts, *, instead_of: Path | None = None) -> bool:
    """Write the card, unless there is one that is not ours.

    Args:
        folder: to write to.
        facts: what it says.
        instead_of: the card that it will replace, where that is in another folder; default the one in ``folder``.

    Returns:
        Whether it was written.
    """
    old = folder / CARD if instead_of is None else instead_of
    if old.exists() and not is_ours(old):
        return False
    # Not into the old one, which may be another name of a file elsewhere.
    temporary = folder / f".{CARD}.tmp"
    temporary.write_text(render(facts), "utf-8")
    temporary.replace(folder / CARD)
    return True


def render(facts: CardFacts) -> str:
    """The card as Markdown with a block of metadata for the Hub."""
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags:",
        *(f"- {tag}" for tag in _tags(facts)),
        "---",
        _MARK if facts.sources is None else _WITH_SOURCES,
        "",
        *_body(facts),
    ]
    return "\n".join(lines) + "\n"


def _tags(facts: CardFacts) -> list[str]:
    kind = [] if facts.config is None else ["memorization-sinks"]
    return ["memsinks", *kind, *(["sinks-folded-in"] if _is_folded(facts) else [])]


def _body(facts: CardFacts) -> Iterator[str]:
    if facts.config is None:
        yield "# A language model without sinks"
        yield ""
        yield "It was trained by memsinks without memorization sinks. Nothing that it learned can be removed from it."
        return
    yield "# A language model with a memory that can be removed"
    yield ""
    yield from _sinks(facts, facts.config)
    yield from _text(facts)
    yield from _loading(facts)
    yield from _removal(facts)


def _sinks(facts: CardFacts, config: SinkConfig) -> Iterator[str]:
    layers = f"{len(config.layers)} of its layers" if config.layers else "every layer"
    yield "## The pool"
    yield ""
    yield (
        f"Beside its ordinary neurons, the MLP of {layers} was trained with a pool of {config.pool:,} further neurons, "
        f"its sinks. Governed text switched on {config.active:,} of them by the ID of the text, and a sink "
        "learned only from text that switched it on."
    )
    yield ""
    yield {
        "hashed": "Allocation `hashed`: IDs choose from one pool, so that two of them can share sinks.",
        "disjoint": "Allocation `disjoint`: each ID owns its sinks, and no other has them.",
        "hybrid": "Allocation `hybrid`: some IDs own their sinks, the others choose from a shared part.",
    }[config.allocation]
    yield ""


def _text(facts: CardFacts) -> Iterator[str]:
    yield "## Which text trained with sinks"
    yield ""
    if facts.govern is None:
        yield "The files that this card was made of do not say which text did."
    else:
        how_many = "" if facts.governed is None else f": {_count(facts.governed, 'document')}"
        policy = _POLICIES.get(facts.govern, facts.govern)
        yield f"Policy `{facts.govern}` in the last training: {policy}{how_many}. Other text trained with sinks off."
    if facts.lineage is not None:
        trained, tokens = len(facts.lineage.trained_ids()), sum(stage.tokens for stage in facts.lineage.stages)
        yield ""
        yield (
            f"{_count(len(facts.lineage.stages), 'training')} over {tokens:,} tokens; {_count(trained, 'sequence ID')} "
            "trained with sinks and can still be removed."
        )
    if facts.sources is not None:
        yield ""
        yield "Sources with text among these:" if facts.sources else "None of this text has a source."
        yield ""
        yield from (f"- `{' '.join(name.split())}`" for name in facts.sources)
    yield ""


def _loading(facts: CardFacts) -> Iterator[str]:
    yield "## Sinks off, and on"
    yield ""
    if facts.folded is None:
        yield (
            "*Sinks off* means the model without its sinks. Any ordinary loader gets that: `config.json` and "
            "`model.safetensors` are a stock checkpoint, and the sinks lie in files that it does not read. If "
            "`sinks.safetensors` is not among the files here, only sinks off can be had."
        )
        yield ""
        yield "```python"
        yield "from transformers import AutoModelForCausalLM"
        yield ""
        yield "plain = AutoModelForCausalLM.from_pretrained(folder)  # sinks off"
        yield ""
        yield "import memsinks"
        yield ""
        yield "model = memsinks.load(folder)  # with its sinks; the folder is on this machine"
        yield "model(input_ids, sequence_ids=ids)  # those of these IDs are on"
        yield "```"
        yield ""
        yield "Sinks that are on harm other text: measure that before serving with some on."
    elif not _is_folded(facts):
        yield "This is an export with sinks off: a stock checkpoint without any sinks. Any ordinary loader reads it."
    else:
        mode, ids = facts.folded
        which = f"those of {_count(ids, 'ID')}" if mode == "chosen" else f"mode `{mode}`"
        yield (
            f"This is an export with sinks folded into its MLPs ({which}). They are ordinary weights here: they are on "
            "for every text, in every loader, and cannot be removed from this copy. A removal from the original "
            "leaves them here: make the export anew after one."
        )
        for count, factor in facts.attenuated:
            yield ""
            yield (
                f"The output of the sinks of {_count(count, 'ID')} is scaled by {factor:g} here. That is an "
                "attenuation, not a removal: what they hold is in this copy, and the original still has them as they "
                "were."
            )
    yield ""


def _removal(facts: CardFacts) -> Iterator[str]:
    yield "## Removal"
    yield ""
    yield (
        "`memsinks forget` takes the sinks of an ID out of the files for good, and leaves the shared weights as they "
        "are, bit for bit. That takes away what its sinks held."
    )
    yield ""
    yield "It cannot:"
    yield ""
    yield "- take away what shared weights learned from the text: sinks hold the verbatim memory, and not all of that;"
    yield "- take away what a pretrained model knew before it had sinks;"
    yield "- reach text that trained with sinks off, or copies, exports and adapters that were made earlier."
    yield ""
    removals = () if facts.lineage is None else facts.lineage.removals
    if removals:
        yield "Removals so far:"
        yield ""
        for removal in removals:
            what = "all sinks" if removal.everything else f"the sinks of {_count(removal.ids, 'ID')}"
            yield f"- `{removal.id}`, {removal.time}: {what}, {_count(removal.documents, 'document')}"
    elif facts.table is not None and facts.table.removed is not None:
        yield f"Removed so far: the sinks of {_count(len(facts.table.removed.ids), 'ID')}."
    else:
        yield "Removals so far: none."


def _is_folded(facts: CardFacts) -> bool:
    return facts.folded is not None and facts.folded[0] != "off"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _mark(file: Path) -> str | None:
    try:
        with file.open(encoding="utf-8") as text:
            head = text.read(4096)
    except (OSError, UnicodeDecodeError):
        return None
    return next((mark for mark in (_MARK, _WITH_SOURCES) if mark in head), None)
