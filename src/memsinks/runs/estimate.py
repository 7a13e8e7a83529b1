"""What a training run takes, before it starts: parameters, FLOPs, memory by part, traffic and disk.

Arithmetic on configurations; ``docs/estimate.md`` has the formulas, their sources and a hand count. Units are bytes,
FLOPs (2 for each multiply-add) and seconds throughout.
"""

import copy
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from memsinks.errors import ConfigError
from memsinks.runs.config import RunConfig
from memsinks.runs.memory import Geometry, Memory, Shape, Traffic, memory_of, touched_rows, traffic_of
from memsinks.runs.peak import peak_flops
from memsinks.sinks.attach import attach, sinks_of
from memsinks.sinks.config import SinkConfig, mlp_width
from memsinks.sinks.families import family_of
from memsinks.training.run import bf16_pays

DOCUMENT_TOKENS = 512
"""Tokens of a document in packed rows, where nobody says."""
UTILISATION = {"cuda": 0.35, "cpu": 0.5}
"""Assumed share of the peak that a run reaches; not measured."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Numbers that are learnt.

    Attributes:
        shared: of the plain checkpoint.
        sinks: of the pools of all layers.
        active: that one token uses with its sinks on.
    """

    shared: int
    sinks: int
    active: int


@dataclass(frozen=True, kw_only=True)
class Flops:
    """FLOPs per token, averaged over tokens with sinks on and off.

    Attributes:
        layers: matrices of the decoder layers, forward.
        scores: attention scores and their product with the values, forward, over the whole row.
        sinks: forward.
        output: the output layer, forward.
        recomputed: forward again in the backward pass, under gradient checkpointing.
    """

    layers: float
    scores: float
    sinks: float
    output: float
    recomputed: float

    @property
    def forward(self) -> float:
        """Forward pass."""
        return self.layers + self.scores + self.sinks + self.output

    @property
    def backward(self) -> float:
        """Backward pass, without what is recomputed."""
        return 2 * self.forward

    @property
    def model(self) -> float:
        """Forward and backward: what MFU is measured by."""
        return self.forward + self.backward

    @property
    def total(self) -> float:
        """All that is computed."""
        return self.model + self.recomputed


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run takes.

    Attributes:
        geometry: what was estimated.
        parameters: numbers that are learnt.
        flops: per token.
        tokens: of the whole run.
        memory: of one device.
        traffic: of one device and optimiser step.
        checkpoint: bytes on disk of one checkpoint to resume from.
        touched_rows: expected rows of a layer's pool that an optimiser step changes, over all devices.
        peak_flops: FLOP/s of one device, or None if unknown.
        utilisation: the share of it that is assumed to be reached.
    """

    geometry: Geometry
    parameters: Parameters
    flops: Flops
    tokens: int
    memory: Memory
    traffic: Traffic
    checkpoint: float
    touched_rows: float
    peak_flops: float | None
    utilisation: float | None

    @property
    def total_flops(self) -> float:
        """FLOPs of the whole run."""
        return self.flops.total * self.tokens

    @property
    def seconds(self) -> float | None:
        """Expected time of training, or None without a rate."""
        if not self.peak_flops or not self.utilisation:
            return None
        return self.total_flops / (self.peak_flops * self.utilisation * self.geometry.devices)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        derived = {"total_flops": self.total_flops, "seconds": self.seconds}
        flops = {name: getattr(self.flops, name) for name in ("forward", "backward", "model", "total")}
        result = asdict(self) | derived
        result["flops"] |= flops
        result["memory"] |= {"peak": self.memory.peak}
        return result


def estimate(
    model_config: Any,
    sink_config: SinkConfig | None,
    geometry: Geometry,
    *,
    tokens: int,
    peak: float | None = None,
    utilisation: float | None = None,
) -> Estimate:
    """Estimate a run.

    Args:
        model_config: transformers configuration, at the width of the shared MLP.
        sink_config: the pool, or None for a model without sinks.
        geometry: batch, devices and precision.
        tokens: of the whole run, padding included.
        peak: FLOP/s of one device.
        utilisation: share of ``peak`` that is reached, in (0, 1].

    Raises:
        ConfigError: a number is out of range.
        UnsupportedModelError: the model's family is not supported, with sinks or without.
    """
    if tokens < 0 or (utilisation is not None and not 0 < utilisation <= 1) or (peak is not None and not peak > 0):
        raise ConfigError("tokens must be 0 or more, peak positive, and utilisation above 0 and at most 1")
    shape, parameters = _measure(model_config, sink_config)
    g = geometry
    share = g.governed_share if shape.pool else 0.0
    computed = shape.pool if shape.kernel == "dense" else shape.active
    forward = {
        "layers": 2.0 * shape.matrices,
        "scores": 4.0 * shape.layers * g.row_tokens * shape.query,
        "sinks": 2.0 * share * shape.sink_layers * shape.sink_matrices * computed * shape.hidden,
    }
    recomputed = sum(forward.values()) if g.gradient_checkpointing else 0.0
    union = touched_rows(shape, g.ids * g.accumulation * g.devices)
    return Estimate(
        geometry=g,
        parameters=parameters,
        flops=Flops(**forward, output=2.0 * shape.output, recomputed=recomputed),
        tokens=tokens,
        memory=memory_of(shape, g),
        traffic=traffic_of(shape, g),
        checkpoint=12.0 * (shape.shared + shape.sinks) + shape.step_bytes,
        touched_rows=union,
        peak_flops=peak,
        utilisation=utilisation,
    )


def estimate_run(
    config: RunConfig,
    model_config: Any,
    sink_config: SinkConfig | None,
    *,
    devices: int,
    device_type: str,
    planned_tokens: int,
    governed_share: float,
    document_tokens: float | None = None,
) -> Estimate:
    """Estimate what ``memsinks train`` would do with a run file.

    Args:
        config: the run file.
        model_config: transformers configuration of the model without sinks, at its shared width.
        sink_config: the pool, or None.
        devices: processes that train together.
        device_type: "cpu" or "cuda".
        planned_tokens: of the whole run.
        governed_share: share of tokens that train with sinks on, in [0, 1].
        document_tokens: mean tokens of a document in packed rows; default :data:`DOCUMENT_TOKENS`.

    Raises:
        ConfigError: a number is out of range.
    """
    schedule, row = config.schedule, config.stream.max_length
    several: Literal["none", "ddp"] = "ddp" if devices > 1 else "none"
    strategy = several if config.parallel.strategy == "auto" else config.parallel.strategy
    rows = schedule.micro_batch_size or -(-schedule.batch_size // max(devices, 1))
    document = min(row, document_tokens or DOCUMENT_TOKENS) if config.stream.packed else row
    bf16 = bf16_pays() if config.precision.bf16 is None else config.precision.bf16
    geometry = Geometry(
        rows=rows,
        row_tokens=row,
        accumulation=-(-schedule.batch_size // (rows * max(devices, 1))),
        devices=devices,
        device_type=device_type,
        strategy=strategy,
        bf16=bf16,
        gradient_checkpointing=config.precision.gradient_checkpointing,
        attention="eager" if config.model.attention == "eager" else "sdpa",
        packed=config.stream.packed,
        dense_gradients=config.parallel.sinks == "dense",
        governed_share=governed_share,
        ids=rows * row * governed_share / document,
    )
    peak = peak_flops(torch.device(device_type), torch.bfloat16 if bf16 else torch.float32)
    return estimate(
        model_config,
        sink_config,
        geometry,
        tokens=planned_tokens,
        peak=peak,
        utilisation=None if peak is None else UTILISATION.get(device_type),
    )


def _measure(model_config: Any, sink_config: SinkConfig | None) -> tuple[Shape, Parameters]:
    """Count a model that is built without storage."""
    with torch.device("meta"):
        # from_config and attach may write to the configuration.
        model: Any = AutoModelForCausalLM.from_config(copy.deepcopy(model_config))
    shared = sum(p.numel() for p in model.parameters())
    head = model.get_output_embeddings()
    embeddings = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding)}
    linear = [m for m in model.modules() if isinstance(m, nn.Linear | Conv1D) and m is not head]
    config = model.config
    resolved = None
    sinks = []
    if sink_config is not None:
        resolved = attach(model, sink_config).sink_config
        sinks = list(sinks_of(model))
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    rows = list(sinks[0].parameters()) if sinks else []
    shape = Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=heads,
        query=heads * size,
        key=(getattr(config, "num_key_value_heads", None) or heads) * size,
        width=mlp_width(config),
        gated=family_of(config).gate is not None,
        vocabulary=config.vocab_size,
        shared=shared,
        matrices=sum(m.weight.numel() for m in linear),
        output=head.weight.numel(),
        embeddings=sum(({id(head.weight): head.weight.numel()} | embeddings).values()),
        largest=max(p.numel() for p in matrices),
        pool=0 if resolved is None else int(resolved.pool),
        active=0 if resolved is None else int(resolved.active),
        kernel="gathered" if resolved is None else resolved.kernel,
        disjoint=resolved is not None and resolved.allocation == "disjoint",
        sink_layers=len(sinks),
        sink_matrices=sum(p.shape[1] > 1 for p in rows),
        sink_parameters=len(rows),
        sinks=sum(p.numel() for layer in sinks for p in layer.parameters()),
    )
    active = round(shape.row_numbers * shape.active)
    return shape, Parameters(shared=shared, sinks=shape.sinks, active=shared + active)
