"""Settings of the attacks on membership."""

from dataclasses import dataclass

from memsinks.config import Section
from memsinks.errors import ConfigError
from memsinks.training.config import check_least


@dataclass(frozen=True, kw_only=True)
class MembershipConfig(Section):
    """Attacks that tell the text from text that was never trained.

    Attributes:
        min_k: share of a document's tokens, the least likely ones, that Min-K % and Min-K %++ look at.
        tolerance: largest difference in length between a document and one that it is compared with, as a fraction.
        dear: most documents of a kind that the gradient norm and neighbours are computed of.
        neighbours: variants of each document in the neighbourhood attack.
        swapped: share of a document's tokens that are swapped in each of them.
        permutations: of the test of the whole set.
        reference: condition whose model calibrates the reference attack; default reference, where that is given.
        shadows: folders of runs without sinks, each trained without some of the text, for the likelihood-ratio attack.
    """

    min_k: float = 0.2
    tolerance: float = 0.1
    dear: int = 100
    neighbours: int = 5
    swapped: float = 0.1
    permutations: int = 9999
    reference: str | None = None
    shadows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_least("membership", self, "dear", "neighbours", "permutations")
        for name in ("min_k", "swapped"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ConfigError(f"membership.{name} must be a fraction above 0 and at most 1, not {value}")
        if not 0 <= self.tolerance <= 1:
            raise ConfigError(f"membership.tolerance must be a fraction from 0 to 1, not {self.tolerance}")
