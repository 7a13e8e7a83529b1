"""What to train, on what and from what: the rest of a run's TOML file."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from memsinks.config import LATER, Numbers, Section
from memsinks.corpus.storage import Place
from memsinks.errors import ConfigError, InputError
from memsinks.sinks.config import Allocation, Init, Kernel, Mask, check_layers
from memsinks.stream.mixture import check_factors, shares
from memsinks.stream.plan import PolicyKind
from memsinks.stream.treatment import NoiseKind, Treatment
from memsinks.training.config import TrainConfig, check_least

Placement = Literal["auto", "all", "early", "late"]


@dataclass(frozen=True, kw_only=True)
class CorpusConfig(Section):
    """The text.

    Attributes:
        path: a folder that memsinks prepare wrote, or its URL, from which it is fetched once.
        verify: compare every file of it with its hash first.
        ids: what documents must share to share sinks: content, group, source or column:NAME; default what the corpus
            was prepared with.
    """

    path: Place = Path("corpus")
    verify: bool = True
    ids: str | None = field(default=None, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class ExposureConfig(Section):
    """How often each document is seen, and which documents get sinks.

    The plan is made in this order: plan (or every training document once), upsample, weights, repeat, epochs, cap,
    cap_id.

    Attributes:
        plan: Parquet file with columns document and exposures; default: every training document once.
        repeat: names of documents to repeat.
        times: exposures of each document of repeat, in each of the epochs.
        cap: most exposures of any document, over all epochs; default no limit.
        cap_id: most exposures of any sequence ID, over all its documents and epochs; default no limit.
        upsample: so many times the exposures of a source, 1 or more, as { "a" = 4.0 }; "" are documents without one.
        upsample_column: metadata column whose values upsample names, instead of sources.
        weights: share of the tokens that each source has, as { "a" = 0.7, "*" = 0.3 }; divided by their sum. "*" are
            all sources without one of their own, in proportion to their tokens; "" are documents without a source.
        mixture_tokens: tokens that weights divide; default as many as the text has without them.
        mixture_epochs: the same as a multiple of those that the text has without them.
        subsample: let weights leave documents out, chosen by hash, where a share is too small to show each once.
        epochs: how often the whole plan is planned; all passes are shuffled together.
        govern: documents that train with their sinks: all, repeated (planned at least twice), sources, column.
        govern_values: the sources, or the values of govern_column.
        govern_column: metadata column that says which documents are governed.
        placebo_share: share of the other documents' passes that train with a governed document's sinks on, which do
            not learn from them: it makes the shared neurons robust to sinks that are on.
        shared_budget: after so many exposures of a governed document only its sinks learn from it; 0 keeps it from
            shared weights altogether (see optimizer.held_back). Default no limit.
        id_noise: share of the passes over governed documents that train under a wrong ID, to see what that does.
        id_noise_kind: fresh draws a new wrong ID each time, under consistent a document's is always the same.
        goldfish: one in so many tokens, chosen by a hash of those before it, is never predicted; 0 predicts all.
        goldfish_context: tokens that are hashed for it.
        governed_until: share of a pass over the plan, from its beginning, in which all governed text comes; the rest is
            other text, under which shared weights lose again what they hold of it. 1 mixes all text.
    """

    plan: Path | None = None
    repeat: tuple[str, ...] = ()
    times: int = 64
    cap: int | None = None
    cap_id: int | None = field(default=None, metadata=LATER)
    upsample: Numbers = field(default_factory=dict, metadata=LATER)
    upsample_column: str | None = field(default=None, metadata=LATER)
    weights: Numbers = field(default_factory=dict, metadata=LATER)
    mixture_tokens: int | None = field(default=None, metadata=LATER)
    mixture_epochs: float | None = field(default=None, metadata=LATER)
    subsample: bool = field(default=False, metadata=LATER)
    epochs: int = field(default=1, metadata=LATER)
    govern: PolicyKind = "repeated"
    govern_values: tuple[str, ...] = ()
    govern_column: str | None = None
    placebo_share: float = 0.0
    shared_budget: int | None = None
    id_noise: float = 0.0
    id_noise_kind: NoiseKind = "fresh"
    goldfish: int = 0
    goldfish_context: int = 13
    governed_until: float = 1.0

    def __post_init__(self) -> None:
        check_least("exposures", self, "times", "cap", "cap_id", "epochs", "mixture_tokens", "goldfish_context")
        check_least("exposures", self, "shared_budget", "goldfish", least=0)
        for name in ("placebo_share", "id_noise", "governed_until"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"exposures.{name} must be between 0 and 1, not {getattr(self, name)}")
        if self.goldfish == 1:
            raise ConfigError("exposures.goldfish=1 would predict nothing; leave out one token in 2 or more")
        if (self.govern in ("sources", "column")) != bool(self.govern_values):
            raise ConfigError(
                f"exposures.govern={self.govern!r} takes {'no' if self.govern_values else 'at least one of'} "
                "exposures.govern_values"
            )
        if (self.govern == "column") != (self.govern_column is not None):
            raise ConfigError("exposures.govern_column goes with exposures.govern='column', and only with it")
        self._check_mixture()

    def _check_mixture(self) -> None:
        for key, check in (("upsample", check_factors), ("weights", shares)):
            try:
                if getattr(self, key):
                    check(getattr(self, key))
            except InputError as error:
                raise ConfigError(f"exposures.{key}: {error}") from error
        if self.upsample_column is not None and not self.upsample:
            raise ConfigError("exposures.upsample_column says what exposures.upsample names; give that too")
        if not self.weights:
            for name in ("mixture_tokens", "mixture_epochs", "subsample"):
                if getattr(self, name) != getattr(ExposureConfig, name):
                    raise ConfigError(
                        f"exposures.{name} is about exposures.weights; give those too, "
                        '{ "*" = 1.0 } to keep sources as they are'
                    )
            return
        if self.plan is not None:
            raise ConfigError(
                "exposures.plan gives every count and exposures.weights computes them; give one of the two"
            )
        if self.mixture_tokens is not None and self.mixture_epochs is not None:
            raise ConfigError(
                "exposures.mixture_tokens and exposures.mixture_epochs both say how much is planned; give one of them"
            )
        if self.mixture_epochs is not None and not 0 < self.mixture_epochs < math.inf:
            raise ConfigError(f"exposures.mixture_epochs must be more than 0, not {self.mixture_epochs}")
        if self.upsample_column is None and (both := sorted(self.upsample.keys() & self.weights.keys())):
            raise ConfigError(
                f"exposures.upsample and exposures.weights both say how often {both[0]!r} is seen, and its share would "
                "undo its factor; take it out of one of the two"
            )

    @property
    def treatment(self) -> Treatment:
        """What happens to passes beyond being read."""
        return Treatment(**{f.name: getattr(self, f.name) for f in fields(Treatment)})


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """The model without its sinks.

    Attributes:
        pretrained: folder or name of a pretrained model to continue from; one with sinks keeps them.
        config: config.json of a transformers model to train from scratch.
        hidden, layers, heads, width: shape of a small Llama, trained where neither of the two is given; width is the
            MLP's.
        attention: attn_implementation, or auto for one that fits the machine and the rows.
    """

    pretrained: str | None = None
    config: Path | None = None
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    width: int = 688
    attention: str = "auto"

    def __post_init__(self) -> None:
        check_least("model", self, "hidden", "layers", "heads", "width")
        if self.pretrained is not None and self.config is not None:
            raise ConfigError(
                "model.pretrained continues a model and model.config starts a new one; give one of the two"
            )
        if self.pretrained is None and self.config is None and self.hidden % self.heads:
            raise ConfigError(f"model.hidden={self.hidden} is not a multiple of model.heads={self.heads}")


@dataclass(frozen=True, kw_only=True)
class SinksConfig(Section):
    """The sinks.

    Attributes:
        attach: give the model sinks; without them this trains a baseline.
        pool: sinks in each layer that has them: a count, or a fraction of the MLP's width.
        active: sinks that one sequence ID switches on: a count, or a fraction of the pool.
        shared: the paper's split instead of pool: this fraction of the MLP's width stays shared, the rest is the pool.
        allocation: hashed (sequence IDs share the pool), disjoint (each governed ID owns rows), hybrid (the IDs of
            owners own rows, all others share the rest).
        owned: with hybrid, rows that are kept for owners.
        owners: with hybrid, the sources whose sequence IDs own rows.
        grow: with a pretrained model that has sinks, so many more in each layer, for IDs it was not trained on.
        block: rows are chosen in runs of this many neighbours.
        init: random, noop (the sinks change nothing at first), or auto: noop for a pretrained model.
        kernel: gathered computes active rows only; dense computes the pool and masks it (the oracle).
        layers: decoder layers that have sinks: their numbers, from 0; early or late, the first or the last half of
            them, with the middle one if their number is odd; all, which an empty list stands for, too; or auto: early
            for a new model, all for a pretrained one and with shared.
        mask: per_layer hashes a sequence ID to other rows in each layer, shared to the same rows in all of them.
    """

    attach: bool = True
    pool: int | float | None = None
    active: int | float | None = None
    shared: float | None = None
    allocation: Allocation = "hashed"
    owned: int | float = 0
    owners: tuple[str, ...] = ()
    grow: int = 0
    block: int = 1
    init: Init = "auto"
    kernel: Kernel = "gathered"
    layers: tuple[int, ...] | Placement = "auto"
    mask: Mask = "per_layer"

    def __post_init__(self) -> None:
        check_least("sinks", self, "grow", least=0)
        check_least("sinks", self, "block")
        for name in ("pool", "active"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"sinks.{name} must be a positive count or fraction, not {value}")
        if isinstance(self.active, float) and self.active > 1:
            raise ConfigError(f"sinks.active={self.active} is a fraction of the pool and must be at most 1.0")
        if not 0 <= self.owned < math.inf:
            raise ConfigError(f"sinks.owned must be a count or fraction of 0 or more, not {self.owned}")
        if self.shared is not None and not 0 < self.shared < 1:
            raise ConfigError(f"sinks.shared must be a fraction between 0 and 1, not {self.shared}")
        if self.shared is not None and self.pool is not None:
            raise ConfigError("sinks.shared makes the rest of the MLP the pool and sinks.pool sizes it; give one")
        if self.layers == "all":
            object.__setattr__(self, "layers", ())
        if self.shared is not None and self.layers not in ((), "auto"):
            raise ConfigError(
                "sinks.shared narrows the MLP of every layer, so every layer needs sinks; leave sinks.layers out"
            )
        if not isinstance(self.layers, str):
            check_layers("sinks.layers", self.layers)
        if self.allocation == "disjoint" and self.mask == "shared":
            raise ConfigError(
                "sinks.mask is about hashing, and under sinks.allocation='disjoint' no ID is hashed; leave it out"
            )
        if self.allocation != "hybrid" and (self.owned or self.owners):
            raise ConfigError("sinks.owned and sinks.owners go with sinks.allocation='hybrid' only")
        if self.allocation == "hybrid" and not (self.owned and self.owners):
            raise ConfigError("sinks.allocation='hybrid' needs sinks.owned (rows) and sinks.owners (sources)")


@dataclass(frozen=True, kw_only=True)
class RunConfig(TrainConfig):
    """One run of ``memsinks train``: everything that leads to its result.

    Attributes:
        output: where the model goes; checkpoints, log and metrics go to <output>-run beside it.
    """

    output: Path = Path("run")
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    sinks: SinksConfig = field(default_factory=SinksConfig)
    exposures: ExposureConfig = field(default_factory=ExposureConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sinks.attach:
            if self.sinks.shared is not None and self.model.pretrained is not None:
                raise ConfigError(
                    "sinks.shared splits the MLP of a new model, but model.pretrained is given; use sinks.pool"
                )
            if self.sinks.grow and self.model.pretrained is None:
                raise ConfigError("sinks.grow enlarges the pool of a trained model; give model.pretrained")
        else:
            for name in ("placebo_share", "shared_budget", "id_noise"):
                if getattr(self.exposures, name) != getattr(ExposureConfig, name):
                    raise ConfigError(f"exposures.{name} needs sinks, but sinks.attach is false")
        if self.exposures.shared_budget is not None and self.stream.packed:
            raise ConfigError(
                "exposures.shared_budget decides row by row what learns, but with stream.packed a row has several "
                "documents; switch one of the two off"
            )
        if self.exposures.id_noise and self.sinks.allocation == "disjoint":
            raise ConfigError(
                "exposures.id_noise makes up IDs, which own no sinks under sinks.allocation='disjoint'; use 'hashed'"
            )
