"""How to ask for facts."""

from dataclasses import dataclass

from memsinks.config import Section
from memsinks.training.config import check_least


@dataclass(frozen=True, kw_only=True)
class FactsConfig(Section):
    """Cloze items on names and rare words that only the audited text has.

    Attributes:
        items: most items of one kind, of the target and of unseen text each.
        choices: candidates of an item, the right one among them.
        context: most tokens that an item gives.
    """

    items: int = 50
    choices: int = 10
    context: int = 40

    def __post_init__(self) -> None:
        check_least("facts", self, "items")
        check_least("facts", self, "choices", least=2)
        check_least("facts", self, "context", least=8)
