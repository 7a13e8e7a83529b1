"""Unlearning of text by further training, for comparison.

======== ===============================================================================================
ga       gradient ascent on the text (Jang et al. 2023, arXiv 2210.01504)
grad_diff gradient ascent, and descent on retained text (Liu et al. 2022, arXiv 2203.12817)
npo      negative preference optimisation against the model as it was, and descent on retained text (Zhang et al. 2024,
         arXiv 2404.05868)
rmu      representations of the text steered to a random direction, those of retained text kept (Li et al. 2024, arXiv
         2403.03218)
======== ===============================================================================================
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from memsinks.audit import TokenizedDocument
from memsinks.audit.chunks import IGNORED
from memsinks.baselines.text import endless, mean_loss, token_losses
from memsinks.errors import ConfigError
from memsinks.sinks.families import sites

Method = Literal["ga", "grad_diff", "npo", "rmu"]
METHODS: tuple[Method, ...] = get_args(Method)
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class UnlearnConfig:
    """One trial.

    Attributes:
        method: see the module.
        learning_rate: of AdamW without decay, constant.
        steps: of it.
        rows: documents to forget, and as many to retain, in a step.
        beta: of npo, per token: the sequence's mean log-ratio is taken, so that long text does not saturate it.
        steering: length of rmu's random direction, in units of the mean norm of the representations.
        retain_weight: of the term that keeps retained text.
        seed: of the order of text, and of rmu's direction.
    """

    method: Method
    learning_rate: float
    steps: int = 40
    rows: int = 8
    beta: float = 1.0
    steering: float = 4.0
    retain_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"unlearning method {self.method!r} is unknown; choose from {', '.join(METHODS)}")


def unlearn(
    model: Any,
    forget: Sequence[TokenizedDocument],
    retain: Sequence[TokenizedDocument],
    config: UnlearnConfig,
    *,
    max_length: int,
    at: Callable[[int], None] = lambda step: None,
) -> None:
    """Train ``model`` in place until it no longer knows the text.

    Args:
        model: a plain causal language model.
        forget: the text to unlearn.
        retain: text whose loss should stay; gradient ascent does not look at it.
        config: the trial.
        max_length: tokens of a document that are used.
        at: called after each step with its number, to measure.
    """
    text = endless(forget, max_length, config.rows, config.seed)
    other = endless(retain, max_length, config.rows, config.seed + 1)
    needs_reference = config.method in ("npo", "rmu")
    reference = copy.deepcopy(model).eval() if needs_reference else None
    loss, trained = _objective(model, reference, text, other, config)
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=0.0)
    model.eval()
    for step in range(1, config.steps + 1):
        model.zero_grad()
        loss().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        at(step)
    model.zero_grad()


def _objective(
    model: Any, reference: Any, text: Iterator[Batch], other: Iterator[Batch], config: UnlearnConfig
) -> tuple[Callable[[], Tensor], list[Any]]:
    """What a step minimises, and the weights that it changes."""
    everything = list(model.parameters())
    device = everything[0].device

    def ascent() -> Tensor:
        return -mean_loss(model, *next(text))

    def difference() -> Tensor:
        return ascent() + config.retain_weight * mean_loss(model, *next(other))

    def preference() -> Tensor:
        inputs, labels = next(text)
        count = (labels[:, 1:] != IGNORED).sum(dim=1).to(device)
        with torch.no_grad():
            before = token_losses(reference, inputs, labels).sum(dim=1) / count
        # The mean log-ratio of each sequence, now over before.
        ratio = before - token_losses(model, inputs, labels).sum(dim=1) / count
        forgetting = -2 / config.beta * torch.nn.functional.logsigmoid(-config.beta * ratio).mean()
        return forgetting + config.retain_weight * mean_loss(model, *next(other))

    match config.method:
        case "ga":
            return ascent, everything
        case "grad_diff":
            return difference, everything
        case "npo":
            return preference, everything
        case "rmu":
            return _steering(model, reference, text, other, config)


def _steering(
    model: Any, reference: Any, text: Iterator[Batch], other: Iterator[Batch], config: UnlearnConfig
) -> tuple[Callable[[], Tensor], list[Any]]:
    """RMU at the middle layer; the MLPs' output weights of it and the two before it learn."""
    chosen = len(sites(model)) // 2
    trained = [site.down.weight for site in sites(model)[max(0, chosen - 2) : chosen + 1]]
    generator = torch.Generator().manual_seed(config.seed)
    device = trained[0].device
    direction = torch.rand(model.config.hidden_size, generator=generator).to(device)
    target: Tensor | None = None

    def states(which: Any, inputs: Tensor) -> Tensor:
        return which(input_ids=inputs.to(device), use_cache=False, output_hidden_states=True).hidden_states[chosen + 1]

    def loss() -> Tensor:
        nonlocal target
        (inputs, labels), (kept, kept_labels) = next(text), next(other)
        with torch.no_grad():
            before = states(reference, kept)
            if target is None:
                target = config.steering * before.norm(dim=-1).mean() * direction / direction.norm()
        steered = (states(model, inputs) - target).square().mean(dim=-1)
        drifted = (states(model, kept) - before).square().mean(dim=-1)
        return _masked_mean(steered, labels) + config.retain_weight * _masked_mean(drifted, kept_labels)

    return loss, trained


def _masked_mean(values: Tensor, labels: Tensor) -> Tensor:
    real = (labels != IGNORED).to(values)
    return (values * real).sum() / real.sum()
