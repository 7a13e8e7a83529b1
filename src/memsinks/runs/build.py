"""From a run's configuration to its corpus, its plan of exposures and its model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM

from memsinks.checkpoint.lineage import Lineage
from memsinks.checkpoint.run import load
from memsinks.corpus import Corpus
from memsinks.errors import ConfigError, InputError
from memsinks.runs.config import RunConfig
from memsinks.runs.exposures import check_passes, planned_exposures
from memsinks.sinks.attach import attach
from memsinks.sinks.capacity import grow, register
from memsinks.sinks.config import Allocation, SinkConfig, mlp_width
from memsinks.sinks.files import METADATA, load_sinks
from memsinks.stream import ExposurePlan, GovernedPolicy, governed
from memsinks.training.attention import Choice, choose_attention
from memsinks.training.exposures import ExposureCounter
from memsinks.training.model import small_llama
from memsinks.training.run import TrainText, bf16_pays

POOL, ACTIVE = 4.0, 0.1
"""Sinks where the configuration does not say: a multiple of the MLP's width, and a fraction of the pool."""


@dataclass(frozen=True)
class Blueprint:
    """A run before its model is built.

    Attributes:
        config: of the run.
        text: what it trains on.
        owners: ``uint64 [n]``, sequence IDs that own rows, in the order of their documents.
        model_config: transformers configuration, at the shared width.
        sinks: the pool with counts, before it grows, or None.
        attention: implementation, and why.
    """

    config: RunConfig
    text: TrainText
    owners: np.ndarray
    model_config: Any
    sinks: SinkConfig | None
    attention: Choice


def plan_run(config: RunConfig) -> Blueprint:
    """Open the corpus, plan the exposures and settle the model's shape; nothing large is built.

    Raises:
        InputError: the corpus, the plan or a model's files cannot be used.
        ConfigError: settings do not fit each other, the corpus or the model.
    """
    corpus = Corpus.open(config.corpus.path, verify=config.corpus.verify, ids=config.corpus.ids)
    text = _text(config, corpus)
    allocation = _kept_sinks(config).allocation if brings_sinks(config) else config.sinks.allocation
    owners = _owners(config, text, allocation)
    model_config, sinks = plan_model(config, corpus, len(owners))
    if model_config.vocab_size < len(corpus.tokenizer):
        raise ConfigError(
            f"the model knows {model_config.vocab_size} tokens but the corpus uses {len(corpus.tokenizer)}; "
            "prepare the corpus with the model's own tokenizer (--tokenizer)"
        )
    bf16 = bf16_pays() if config.precision.bf16 is None else config.precision.bf16
    attention = choose_attention(
        model_config,
        device_type="cuda" if torch.cuda.is_available() else "cpu",
        packed=config.stream.packed,
        max_length=config.stream.max_length,
        requested=config.model.attention,
        dtype=torch.bfloat16 if bf16 else torch.float32,
    )
    return Blueprint(config, text, owners, model_config, sinks, attention)


def plan_model(config: RunConfig, corpus: Corpus | None = None, owners: int = 0) -> tuple[Any, SinkConfig | None]:
    """The configuration of a run's model at its shared width, and its sinks.

    Args:
        config: of the run.
        corpus: of the run; only the small default model needs it, for its vocabulary.
        owners: IDs that will own rows.

    Raises:
        InputError: the model's files cannot be used.
        ConfigError: settings do not fit the model, or the default model has no corpus.
    """
    model_config = _model_config(config, corpus)
    if not config.sinks.attach:
        return model_config, None
    if brings_sinks(config):
        return model_config, _kept_sinks(config)
    if config.sinks.grow:
        raise ConfigError(f"sinks.grow: {config.model.pretrained} has no sinks to grow; use sinks.pool")
    return _new_sinks(config, model_config, owners)


def brings_sinks(config: RunConfig) -> bool:
    """Whether the pretrained model has sinks of its own."""
    return config.model.pretrained is not None and (Path(config.model.pretrained) / METADATA).is_file()


def build_model(blueprint: Blueprint) -> Any:
    """The model of a run, with its sinks, before any training; the same on every rank.

    Raises:
        InputError: a pretrained model cannot be loaded.
        ConfigError: the pool is too small for its owners.
    """
    config, pretrained = blueprint.config, blueprint.config.model.pretrained
    torch.manual_seed(config.seed)
    options: dict[str, Any] = {"attn_implementation": blueprint.attention.name, "dtype": torch.float32}
    if blueprint.sinks is not None and brings_sinks(config):
        assert pretrained is not None
        model = load(pretrained, **options)
        if config.sinks.grow:
            grow(model, config.sinks.grow, trained=_trained(Path(pretrained)))
    else:
        if pretrained is not None:
            try:
                model = AutoModelForCausalLM.from_pretrained(pretrained, **options)
            # transformers raises a RuntimeError for weights of another shape than the configuration's.
            except (OSError, ValueError, RuntimeError, SafetensorError) as error:
                raise InputError(f"model.pretrained: cannot load {pretrained!r}: {_first_line(error)}") from error
        else:
            model = AutoModelForCausalLM.from_config(blueprint.model_config, **options)
        if blueprint.sinks is not None:
            attach(model, blueprint.sinks)
    if len(blueprint.owners):
        try:
            register(model, blueprint.owners)
        except ConfigError as error:
            raise ConfigError(f"{'sinks.grow' if brings_sinks(config) else 'sinks.owned'}: {error}") from error
    return model


def _text(config: RunConfig, corpus: Corpus) -> TrainText:
    exposures = config.exposures
    wanted = planned_exposures(config, corpus)
    plan = _without_removed(config, corpus, wanted)
    policy = GovernedPolicy(exposures.govern, exposures.govern_values, exposures.govern_column)
    text = TrainText(
        corpus=corpus,
        plan=plan,
        governed=governed(corpus, plan, policy),
        treatment=exposures.treatment,
        refused=wanted.total - plan.total,
    )
    check_passes(config, text)
    return text


def _owners(config: RunConfig, text: TrainText, allocation: Allocation) -> np.ndarray:
    """Sequence IDs that own rows, each once, in the order of their first documents."""
    corpus, sinks = text.corpus, config.sinks
    chosen = text.governed & (text.plan.counts > 0)
    if not sinks.attach or allocation == "hashed" or (allocation == "hybrid" and not sinks.owners):
        chosen = np.zeros_like(chosen)
    elif allocation == "hybrid":
        chosen &= governed(corpus, text.plan, GovernedPolicy("sources", sinks.owners))
    ids = corpus.sequence_ids[chosen]
    _, first = np.unique(ids, return_index=True)
    return ids[np.sort(first)]


def _without_removed(config: RunConfig, corpus: Corpus, plan: ExposurePlan) -> ExposurePlan:
    """The plan without text that was removed from the pretrained model.

    Raises:
        InputError: nothing is left.
    """
    lineage = Lineage.read(Path(config.model.pretrained)) if config.model.pretrained and brings_sinks(config) else None
    if lineage is None or not lineage.removals:
        return plan
    refused = lineage.refuses(corpus.sequence_ids, corpus.content_ids)
    left = ExposurePlan(corpus, np.where(refused, 0, plan.counts))
    if plan.total and not left.total:
        raise InputError(
            f"{corpus.place}: all planned text was removed from {config.model.pretrained}, and must not be trained "
            "into it again; give other text"
        )
    return left


def _model_config(config: RunConfig, corpus: Corpus | None) -> Any:
    model = config.model
    name = model.pretrained or model.config
    if name is None:
        if corpus is None:
            raise ConfigError(
                f"{config.corpus.path}: no such corpus, and the default model takes its vocabulary from it"
            )
        return small_llama(
            corpus.tokenizer,
            hidden=model.hidden,
            layers=model.layers,
            heads=model.heads,
            width=model.width,
            max_length=config.stream.max_length,
        )
    key = "model.pretrained" if model.pretrained else "model.config"
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{key}: cannot load the configuration of {str(name)!r}: {_first_line(error)}") from error


def _new_sinks(config: RunConfig, model_config: Any, owners: int) -> tuple[Any, SinkConfig]:
    """The configuration at the shared width, and the pool with counts."""
    chosen = config.sinks
    options: dict[str, Any] = {
        "seed": config.seed,
        "block": chosen.block,
        "init": chosen.init,
        "kernel": chosen.kernel,
        "allocation": chosen.allocation,
        "owned": chosen.owned,
        "layers": _layers(config, model_config.num_hidden_layers),
        "mask": chosen.mask,
    }
    if chosen.init == "auto":
        options["init"] = "noop" if config.model.pretrained else "random"
    if chosen.shared is not None:
        fraction = 0.3 if chosen.active is None else chosen.active
        if not isinstance(fraction, float):
            raise ConfigError(f"sinks.active={fraction}: with sinks.shared it is a fraction of the pool")
        return SinkConfig.partition(model_config, shared=chosen.shared, active=fraction, **options)
    pool, active = chosen.pool, chosen.active
    if chosen.allocation == "disjoint" and pool is None:
        if active is None:
            active = max(1, round(ACTIVE * mlp_width(model_config) / chosen.block)) * chosen.block
        if not isinstance(active, int):
            raise ConfigError(
                f"sinks.active={active}: without sinks.pool it is the number of rows that each ID owns, a whole number"
            )
        pool = active * max(owners, 1)
    sinks = SinkConfig(pool=POOL if pool is None else pool, active=ACTIVE if active is None else active, **options)
    sinks = sinks.resolve(mlp_width(model_config))
    # Refuses layers that the model lacks, before anything is built.
    sinks.layer_numbers(model_config.num_hidden_layers)
    needed = owners * int(sinks.active)
    if sinks.allocation == "disjoint" and needed > int(sinks.pool):
        raise ConfigError(
            f"sinks.pool={sinks.pool}: {owners} governed IDs own {sinks.active} rows each; make it {needed}, or "
            "leave it out"
        )
    return model_config, sinks


def _layers(config: RunConfig, count: int) -> tuple[int, ...]:
    """Numbers of the layers with sinks among ``count``; none stands for all."""
    chosen, half = config.sinks.layers, count - count // 2
    if chosen == "auto":
        chosen = () if config.model.pretrained or config.sinks.shared is not None else "early"
    if chosen == "early":
        return tuple(range(half))
    return tuple(range(count - half, count)) if isinstance(chosen, str) else chosen


def _kept_sinks(config: RunConfig) -> SinkConfig:
    """The sinks that a pretrained model brings."""
    assert config.model.pretrained is not None
    kept, defaults = load_sinks(Path(config.model.pretrained))[1], type(config.sinks)()
    for name in ("pool", "active", "shared", "block", "allocation", "owned", "init", "kernel", "layers", "mask"):
        if getattr(config.sinks, name) not in (getattr(defaults, name), getattr(kept, name, None)):
            raise ConfigError(
                f"sinks.{name}: {config.model.pretrained} has sinks already, and they stay as they are; leave the key "
                "out, or add rows with sinks.grow"
            )
    return kept


def _trained(folder: Path) -> np.ndarray:
    """Sequence IDs of the last training, and of those before it that had sinks."""
    counter = ExposureCounter()
    counter.load(folder)
    last = np.array(list(counter.counts), dtype=np.uint64)
    lineage = Lineage.read(folder)
    return np.unique(last) if lineage is None else np.union1d(last, lineage.trained["sequence_id"].to_numpy())


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
