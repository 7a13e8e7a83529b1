"""What a removal has to show, fixed before it is carried out."""

from dataclasses import dataclass

from memsinks.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Limits of the verification.

    Attributes:
        recall: nats per token by which the removed text may be easier than text that was never trained, whatever was
            held of it.
        share: the same as a share of what was held of it: the difference that its sinks made before.
        extraction: by which the share of removed documents that come out word for word may exceed that of documents
            that were never trained.
        survivors: nats per token by which the text of a surviving source may become harder with its own sinks.
        measured: most documents of a kind that are measured.
        prefix: tokens that are given in extraction.
        suffix: tokens that are compared.
        samples: continuations that an attacker may draw at temperature 1.
    """

    recall: float = 0.1
    share: float = 0.15
    extraction: float = 0.05
    survivors: float = 0.1
    measured: int = 100
    prefix: int = 50
    suffix: int = 50
    samples: int = 100

    def __post_init__(self) -> None:
        for name in ("recall", "share", "extraction", "survivors"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}; a threshold is 0 or more")
        for name, least in (("measured", 2), ("prefix", 1), ("suffix", 1), ("samples", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {least}")
