"""Memory of one device in a training step, by part, and what it sends.

The constants are what transformers' Llama and torch's autograd keep for the backward pass, read off the code (torch
2.13, transformers 5.23) and compared with real peaks (``benchmarks/estimate_peak.py``). The formulas are in
``docs/estimate.md``.
"""

from dataclasses import dataclass
from typing import Literal

from memsinks.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a run is laid out.

    Attributes:
        rows: in a micro-batch of one device.
        row_tokens: tokens of a row.
        accumulation: micro-batches of one device in an optimiser step.
        devices: that train together.
        device_type: "cpu" or "cuda".
        strategy: ddp keeps the model on each device, fsdp2 shards it.
        bf16: autocast; weights stay fp32.
        gradient_checkpointing: decoder layers are computed again in the backward pass.
        attention: eager keeps the scores, sdpa does not.
        packed: rows hold several documents, so attention takes an explicit mask.
        dense_gradients: the sinks' gradients are dense.
        governed_share: share of tokens that train with sinks on.
        ids: distinct sequence IDs with sinks on in a micro-batch of one device; a mean, so it may be fractional.

    Raises:
        ConfigError: a number is out of range, or several devices have no strategy.
    """

    rows: int
    row_tokens: int
    accumulation: int = 1
    devices: int = 1
    device_type: str = "cuda"
    strategy: Literal["none", "ddp", "fsdp2"] = "none"
    bf16: bool = True
    gradient_checkpointing: bool = False
    attention: Literal["eager", "sdpa"] = "sdpa"
    packed: bool = False
    dense_gradients: bool = False
    governed_share: float = 1.0
    ids: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rows", "row_tokens", "accumulation", "devices"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.governed_share <= 1 or self.ids < 0:
            raise ConfigError(
                f"governed_share must be between 0 and 1 and ids 0 or more, not {self.governed_share} and {self.ids}"
            )
        if self.strategy == "none" and self.devices > 1:
            raise ConfigError(f"{self.devices} devices need a strategy: ddp or fsdp2")

    @property
    def tokens(self) -> int:
        """Of a micro-batch of one device."""
        return self.rows * self.row_tokens


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a model with sinks, counted on the model itself.

    Attributes:
        query, key: width of the query, and of the key and value, projections.
        width: shared MLP neurons.
        shared: parameters of the plain model.
        matrices: parameters of matrices that are multiplied, without the output layer.
        output: parameters of the output layer.
        embeddings: parameters of embeddings and output layer, tied ones once.
        largest: numbers of the largest matrix.
        pool, active: sinks of a layer, and those of one ID.
        disjoint: no two IDs share a row.
        sink_layers: layers with sinks.
        sink_matrices: up, down and gate.
        sink_parameters: the same with biases.
        sinks: parameters of all pools.
    """

    layers: int
    hidden: int
    heads: int
    query: int
    key: int
    width: int
    gated: bool
    vocabulary: int
    shared: int
    matrices: int
    output: int
    embeddings: int
    largest: int
    pool: int
    active: int
    kernel: str
    disjoint: bool
    sink_layers: int
    sink_matrices: int
    sink_parameters: int
    sinks: int

    @property
    def row_numbers(self) -> float:
        """Numbers of one row of the pool, over all layers with sinks."""
        return self.sinks / self.pool if self.pool else 0.0

    @property
    def step_bytes(self) -> float:
        """Step counts of all rows (int64)."""
        return 8.0 * self.sink_layers * self.sink_parameters * self.pool


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one device, by part; not all parts live at the same time.

    Attributes:
        weights: fp32, with sinks.
        moments: of AdamW, with the sinks' step counts.
        gradients_shared: of a whole step.
        gradients_sinks: of a whole step.
        weight_copies: bf16 copies by autocast; under fsdp2, gathered weights and the gradients of a layer.
        buckets: that ddp reduces gradients in.
        activations: kept for the backward pass at the end of the forward pass, without sinks and logits.
        one_layer: all activations of one layer with sinks, which checkpointing makes again.
        sinks: kept for the backward pass by all layers' sinks.
        logits: output layer and loss.
        optimizer: temporaries of the step.
        end_of_forward, start_of_backward, within_backward, step: what lives at each moment.
    """

    weights: float
    moments: float
    gradients_shared: float
    gradients_sinks: float
    weight_copies: float
    buckets: float
    activations: float
    one_layer: float
    sinks: float
    logits: float
    optimizer: float
    end_of_forward: float
    start_of_backward: float
    within_backward: float
    step: float

    @property
    def peak(self) -> float:
        """The largest of the four moments."""
        return max(self.end_of_forward, self.start_of_backward, self.within_backward, self.step)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes that one device sends in an optimiser step."""

    shared: float
    sinks: float


def touched_rows(shape: Shape, ids: float) -> float:
    """Expected rows of a layer's pool that ``ids`` distinct IDs select between them."""
    if not shape.pool:
        return 0.0
    if shape.disjoint:
        return min(float(shape.pool), ids * shape.active)
    return shape.pool * (1 - (1 - shape.active / shape.pool) ** ids)


def memory_of(shape: Shape, g: Geometry) -> Memory:
    """Memory of one device; formulas in ``docs/estimate.md``."""
    s, n = shape, g.tokens
    shards = g.devices if g.strategy == "fsdp2" else 1
    dense = g.dense_gradients or s.kernel == "dense"
    weights = 4.0 * (s.shared + s.sinks) / shards
    moments = 2 * weights + s.step_bytes / shards
    gradients = 4.0 * s.shared / shards
    own_rows = g.accumulation * g.ids * s.active
    # COO gradients of micro-batches are concatenated, so a row counts once for each; the union of all devices' rows is
    # received on top.
    union = touched_rows(s, g.ids * g.accumulation * g.devices) / shards if g.devices > 1 else 0.0
    sink_gradients = 4.0 * s.sinks / shards if dense else 4 * s.row_numbers * (own_rows + union)

    layer = n * _layer_bytes(s, g)
    sinks = _sink_bytes(s, g) if s.pool else 0.0
    kept = 4.0 * n * s.hidden if g.gradient_checkpointing else layer
    after = n * s.hidden * (8 + (2 if g.bf16 else 4))
    mask = n * g.row_tokens * (4 if g.attention == "eager" else int(g.packed))
    activations = s.layers * kept + after + mask
    all_sinks = 0.0 if g.gradient_checkpointing else s.sink_layers * sinks
    copies, copies_left = _weight_copies(s, g)
    buckets = gradients if g.strategy == "ddp" else 0.0
    temporaries = gradients if g.device_type != "cpu" else 8.0 * s.largest
    if g.devices > 1 and not dense:
        # What a device sends: its own rows, each once, of all layers.
        temporaries += 4 * s.row_numbers * touched_rows(s, g.ids * g.accumulation)
    if s.pool:
        temporaries += 5 * 4 * s.hidden * (s.pool if dense else min(own_rows + union, s.pool))

    always = weights + moments + buckets
    before = gradients + sink_gradients if g.accumulation > 1 else 0.0
    one_layer = layer + sinks
    return Memory(
        weights=weights,
        moments=moments,
        gradients_shared=gradients,
        gradients_sinks=sink_gradients,
        weight_copies=copies,
        buckets=buckets,
        activations=activations,
        one_layer=one_layer,
        sinks=all_sinks,
        logits=12.0 * n * s.vocabulary,
        optimizer=temporaries,
        end_of_forward=always + before + copies + activations + all_sinks + (10 if g.bf16 else 8) * n * s.vocabulary,
        start_of_backward=always + before + copies_left + activations + all_sinks + 12 * n * s.vocabulary,
        within_backward=always
        + gradients
        + sink_gradients
        + (copies_left + activations + one_layer if g.gradient_checkpointing else one_layer),
        step=always + gradients + sink_gradients + temporaries,
    )


def traffic_of(shape: Shape, g: Geometry) -> Traffic:
    """Traffic of one device in an optimiser step; formulas in ``docs/estimate.md``."""
    away = (g.devices - 1) / g.devices
    number = 2 if g.bf16 else 4
    step_ids = g.ids * g.accumulation
    if g.strategy == "fsdp2":
        # Shared weights are gathered in forward and backward, and their gradients scattered, in each micro-batch. Sink
        # rows come from their owners in each forward pass, and their gradients go back once a step.
        shared = 3 * number * g.accumulation * shape.shared
        fetches = g.accumulation * (2 if g.gradient_checkpointing else 1)
        row_bytes = number * fetches * touched_rows(shape, g.ids) + 4 * touched_rows(shape, step_ids)
    else:
        shared = 8 * shape.shared
        dense = g.dense_gradients or shape.kernel == "dense"
        row_bytes = 8 * (shape.pool if dense else touched_rows(shape, step_ids * g.devices))
    return Traffic(shared=away * shared, sinks=away * shape.row_numbers * row_bytes)


def _layer_bytes(s: Shape, g: Geometry) -> float:
    """What one decoder layer keeps for the backward pass, per token."""
    number = 2 if g.bf16 else 4
    # Each norm keeps its input and the normalised input in fp32. Autocast casts the norm's output for every product
    # that reads it; without autocast the products share it.
    norms = 16 * s.hidden + ((6 + (4 if s.gated else 2)) * s.hidden if g.bf16 else 8 * s.hidden)
    eager = g.attention == "eager"
    key = s.query if eager or g.packed else s.key
    attention = 2 * number * (s.query + key)
    # The eager softmax is fp32; autocast makes a bf16 copy for the product with the values.
    scores = s.heads * (g.row_tokens * (6 if g.bf16 else 4) if eager else 4)
    return norms + attention + scores + number * s.width * (4 if s.gated else 2)


def _sink_bytes(s: Shape, g: Geometry) -> float:
    """What one layer's sinks keep for the backward pass."""
    number, n = 2 if g.bf16 else 4, g.tokens * g.governed_share
    products = 2 * (s.sink_matrices - 1)
    if s.kernel == "dense":
        return n * (number * (s.hidden + (products + 1) * s.pool) + 4 * s.pool)
    fetched = number * g.ids * s.sink_matrices * s.active * s.hidden
    return number * n * (s.hidden + products * s.active) + fetched


def _weight_copies(s: Shape, g: Geometry) -> tuple[float, float]:
    """Copies of weights at the end of the forward pass, and in the backward pass."""
    number = 2.0 if g.bf16 else 4.0
    if g.strategy == "fsdp2":
        # The layer at work, the next one, and the gradient of one; embeddings stay gathered.
        gathered = number * (3 * s.matrices / s.layers + s.embeddings)
        return gathered, gathered
    if not g.bf16:
        return 0.0, 0.0
    copies = number * (s.matrices + s.output + (s.sinks if s.kernel == "dense" else 0))
    # Autocast's cache goes when the forward pass ends; autograd keeps what it saved, which checkpointing did not.
    return copies, number * s.output if g.gradient_checkpointing else copies
