"""How to train a model further, to see whether removed text reappears."""

from dataclasses import dataclass

from memsinks.config import Section
from memsinks.errors import ConfigError
from memsinks.training.config import check_least


@dataclass(frozen=True, kw_only=True)
class PersistenceConfig(Section):
    """Further training on unrelated text.

    Attributes:
        steps: of supervised fine-tuning, and of preference tuning.
        rows: texts, or pairs, in a step.
        length: tokens of a text; those of a pair are half prompt, half continuation.
        learning_rate: of supervised fine-tuning.
        preference_learning_rate: of preference tuning.
        beta: of preference tuning: how dear it is to leave the model from before.
        documents: most unseen documents that the target is compared with.
        prefix: tokens given before the text has to go on by itself.
        suffix: tokens that have to come out.
    """

    steps: int = 30
    rows: int = 8
    length: int = 96
    learning_rate: float = 2e-4
    preference_learning_rate: float = 2e-5
    beta: float = 0.1
    documents: int = 60
    prefix: int = 50
    suffix: int = 50

    def __post_init__(self) -> None:
        check_least("persistence", self, "steps", "rows", "prefix", "suffix")
        check_least("persistence", self, "documents", least=2)
        check_least("persistence", self, "length", least=8)
        for name in ("learning_rate", "preference_learning_rate", "beta"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"persistence.{name} must be above 0, not {getattr(self, name)}")
