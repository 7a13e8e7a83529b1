"""How the section ``recovery`` attacks a model."""

from dataclasses import dataclass

from memsinks.config import Section
from memsinks.errors import ConfigError
from memsinks.training.config import check_least


@dataclass(frozen=True, kw_only=True)
class RecoveryConfig(Section):
    """How hard the text is tried to be brought back.

    Attributes:
        documents: most documents of the target that are relearned, the most exposed first, and as many in each control
            set; fewer where held-out text does not go round.
        controls: control sets that are relearned beside the target, drawn from text that was never trained.
        steps: of AdamW in relearning.
        rate: learning rate of relearning.
        rows: most documents in a step of relearning.
        relearned: share of unseen text's loss before training, to which the loss of text must fall to count as
            relearned.
        unseen: most unseen documents beside which the target is read under coarser weights, probes and other sinks.
        prefix: tokens before a passage that is to be reproduced word for word.
        suffix: tokens of that passage.
        bits: widths of integers that weights are rounded to; 8 with a scale for each output, fewer with one a group.
        group: weights of an output that share a scale below 8 bits.
        prune: fractions of each matrix's weights that are set to zero, the smallest first.
        layers: most decoder layers that are probed, evenly spaced.
        decoder_steps: of AdamW in fitting the small decoder to hidden states.
        decoder_rate: learning rate of that.
        tries: sinks of others that are tried on each document, of survivors and at random each.
    """

    documents: int = 24
    controls: int = 6
    steps: int = 8
    rate: float = 1e-4
    rows: int = 8
    relearned: float = 0.9
    unseen: int = 48
    prefix: int = 32
    suffix: int = 32
    bits: tuple[int, ...] = (8, 4)
    group: int = 64
    prune: tuple[float, ...] = (0.1, 0.3, 0.5)
    layers: int = 8
    decoder_steps: int = 100
    decoder_rate: float = 1e-3
    tries: int = 4

    def __post_init__(self) -> None:
        check_least(
            "recovery",
            self,
            "documents",
            "steps",
            "rows",
            "prefix",
            "suffix",
            "group",
            "layers",
            "decoder_steps",
            "tries",
        )
        check_least("recovery", self, "controls", least=3)
        check_least("recovery", self, "unseen", least=8)
        for name in ("rate", "decoder_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"recovery.{name} must be above 0, not {getattr(self, name)}")
        if not 0 < self.relearned < 1:
            raise ConfigError(f"recovery.relearned must lie between 0 and 1, not {self.relearned}")
        for bits in self.bits:
            if not 2 <= bits <= 8:
                raise ConfigError(f"recovery.bits must lie between 2 and 8, not {bits}")
        for fraction in self.prune:
            if not 0 < fraction < 1:
                raise ConfigError(f"recovery.prune must lie between 0 and 1, not {fraction}")
