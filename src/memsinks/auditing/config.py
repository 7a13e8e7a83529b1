"""How to audit; one dataclass a section."""

from dataclasses import dataclass, field

from memsinks.auditing.config_capability import CapabilityConfig
from memsinks.auditing.config_extraction import ExtractionConfig
from memsinks.auditing.config_facts import FactsConfig
from memsinks.auditing.config_membership import MembershipConfig
from memsinks.auditing.config_persistence import PersistenceConfig
from memsinks.auditing.config_recovery import RecoveryConfig
from memsinks.config import Section
from memsinks.errors import ConfigError
from memsinks.training.config import check_least


@dataclass(frozen=True, kw_only=True)
class TextConfig(Section):
    """What is measured.

    Attributes:
        documents: most documents of the target, of each surviving source and of each held-out one.
        unseen: most held-out documents that the target is compared with.
        max_length: most tokens that are scored together, at best as many as in training; fewer where one of the models
            sees fewer.
        quote: show the target's words in the report; else they are told by hash.
    """

    documents: int = 100
    unseen: int = 300
    max_length: int = 256
    quote: bool = False

    def __post_init__(self) -> None:
        check_least("text", self, "documents", "unseen")
        check_least("text", self, "max_length", least=2)


@dataclass(frozen=True, kw_only=True)
class AuditConfig(Section):
    """All settings of an audit; its results are those of this.

    Attributes:
        seed: of every choice at random.
        text: what is measured.
        extraction: how text is brought out.
        recovery: how hard the text is tried to be brought back.
        facts: cloze items on names and rare words.
        persistence: further training on unrelated text.
        capability: held-out text, what the model writes, and tasks.
        membership: attacks on membership.
    """

    seed: int = 0
    text: TextConfig = field(default_factory=TextConfig)
    extraction: ExtractionConfig = field(default_factory=ExtractionConfig)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)
    facts: FactsConfig = field(default_factory=FactsConfig)
    persistence: PersistenceConfig = field(default_factory=PersistenceConfig)
    capability: CapabilityConfig = field(default_factory=CapabilityConfig)
    membership: MembershipConfig = field(default_factory=MembershipConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be at least 0 and below 2**63, not {self.seed}")
