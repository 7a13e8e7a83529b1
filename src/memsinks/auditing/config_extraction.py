"""How extraction is measured."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memsinks.config import Section
from memsinks.errors import ConfigError
from memsinks.training.config import check_least

if TYPE_CHECKING:
    from memsinks.audit.coordinate_gradient import SearchBudget
    from memsinks.audit.forced import Sampling


@dataclass(frozen=True, kw_only=True)
class CompressionConfig(Section):
    """How prompts are searched for.

    Attributes:
        documents: documents of each set whose text is searched for; 0 leaves the search out.
        tokens: from a document's beginning that a prompt has to bring out.
        lengths: tokens of prompts that are searched for, each fewer than those of the text.
        steps: replacements made in a prompt at most, for each text and length.
        candidates: replacements tried in a step.
        promising: tokens for each place that the gradient proposes.
    """

    documents: int = 3
    tokens: int = 20
    lengths: tuple[int, ...] = (4, 8)
    steps: int = 20
    candidates: int = 20
    promising: int = 64

    def __post_init__(self) -> None:
        where = "extraction.compression"
        check_least(where, self, "documents", least=0)
        check_least(where, self, "tokens", least=2)
        check_least(where, self, "steps", "candidates", "promising")
        if not self.lengths or min(self.lengths) < 1 or max(self.lengths) >= self.tokens:
            raise ConfigError(
                f"{where}.lengths must be at least 1 and below {where}.tokens ({self.tokens}), not {list(self.lengths)}"
            )

    @property
    def budget(self) -> "SearchBudget":
        """Of a search."""
        from memsinks.audit.coordinate_gradient import SearchBudget

        return SearchBudget(steps=self.steps, candidates=self.candidates, promising=self.promising)


@dataclass(frozen=True, kw_only=True)
class ExtractionConfig(Section):
    """How extraction is measured.

    Attributes:
        prefixes: tokens given to the model; all but the greedy measures use the longest.
        suffix: tokens compared; fewer where texts are short.
        temperature: at which chances of samples are computed.
        top_k: most likely tokens that samples are drawn from; 0 draws from all.
        draws: samples after which an even chance counts; the verdict takes the most.
        similarity: edit similarity from which a text counts as approximately extracted.
        places: other places in a document that prompts are drawn from.
        few: tokens of a truncated prompt.
        beams: of beam search.
        samples: continuations drawn of each document at the high temperature.
        hot: the high temperature.
        unseen: most unseen documents for all but the greedy measures, which read each document once.
        compression: search for prompts.
    """

    prefixes: tuple[int, ...] = (16, 32, 50)
    suffix: int = 50
    temperature: float = 1.0
    top_k: int = 40
    draws: tuple[int, ...] = (1, 10, 100, 1000)
    similarity: float = 0.9
    places: int = 4
    few: int = 8
    beams: int = 4
    samples: int = 4
    hot: float = 1.2
    unseen: int = 60
    compression: CompressionConfig = field(default_factory=CompressionConfig)

    def __post_init__(self) -> None:
        check_least("extraction", self, "top_k", least=0)
        check_least("extraction", self, "suffix", "places", "few", "samples", "unseen")
        check_least("extraction", self, "beams", least=2)
        for name in ("prefixes", "draws"):
            values = getattr(self, name)
            if not values or min(values) < 1 or len(set(values)) < len(values):
                raise ConfigError(f"extraction.{name} must be distinct and at least 1, not {list(values)}")
        for name in ("temperature", "hot"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"extraction.{name} must be above 0, not {getattr(self, name)}")
        if not 0 < self.similarity <= 1:
            raise ConfigError(f"extraction.similarity must be above 0 and at most 1, not {self.similarity}")

    @property
    def prefix(self) -> int:
        """The longest."""
        return max(self.prefixes)

    @property
    def drawn_from(self) -> str:
        """What samples are drawn from, for people."""
        return f"top-{self.top_k}" if self.top_k else "all tokens"

    @property
    def sampling(self) -> "Sampling":
        """Of the chances."""
        from memsinks.audit.forced import Sampling

        return Sampling(temperature=self.temperature, top_k=self.top_k or None)

    @property
    def hot_sampling(self) -> "Sampling":
        """At the high temperature, from the same number of tokens."""
        from memsinks.audit.forced import Sampling

        return Sampling(temperature=self.hot, top_k=self.top_k or None)
