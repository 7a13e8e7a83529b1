"""Probes of hidden states: does a layer know more of the text than the model's output says?"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from memsinks.audit import TokenizedDocument
from memsinks.audit.controls import Contrast, control_sets
from memsinks.audit.findings import Curve, Figure, Findings
from memsinks.audit.hidden import Pass
from memsinks.audit.lenses import fit_decoder, fit_linear_lens, logit_lens, read_states
from memsinks.audit.probes import left_out_scores
from memsinks.audit.reading import ForcedReading
from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.sections.recovery.common import (
    SECTION,
    attacked,
    contrast_figure,
    mean_figure,
    rate_figure,
    target_of,
    tokens_of,
    unseen_of,
)
from memsinks.auditing.task import Cost, Task
from memsinks.errors import InputError
from memsinks.training.run import bf16_pays

_DECODER_SHARE = 0.5
"""Cost of a token in fitting the decoder, in tokens read with gradients."""
_ROWS = 512
"""Tokens in a step of fitting the decoder."""
_GAIN = (
    "How much lower the loss is through the probe than at the output. Above 0 the layer knows what the output does not "
    "say; for unseen text it is about 0 or below."
)
_SORTED = (
    "Each document is scored by a linear probe fitted on the others, from its mean hidden state. It also sorts texts "
    "that differ by themselves: compare with the reference."
)
_LENS_SHARE = 3
"""Cost of a token in reading it and its states through every lens, in tokens read."""
Lens = Callable[[torch.Tensor], torch.Tensor]


def tasks(bench: Bench, config: AuditConfig) -> list[Task]:
    """Two for each condition: lenses and the decoder, and the probe that sorts documents."""
    target, unseen = (tokens_of(bench, numbers) for numbers in (bench.texts.target, bench.texts.unseen))
    fitted = round(config.recovery.decoder_steps * _ROWS * _DECODER_SHARE)
    found = []
    for name in attacked(bench):
        for task, run, cost in (
            ("lenses", _lenses, Cost(forward=_LENS_SHARE * (target + unseen), backward=fitted)),
            ("sorting", _sorting, Cost(forward=target + unseen)),
        ):
            found.append(
                Task(
                    section=SECTION, name=task, condition=name, priority=2, cost=cost, run=partial(run, condition=name)
                )
            )
    return found


def _lenses(bench: Bench, *, condition: str) -> Findings:
    """Loss through every layer, and through a decoder from the middle one."""
    subject, config = bench.opened(condition), bench.config.recovery
    model, last = subject.model, int(subject.model.config.num_hidden_layers) - 1
    layers = _chosen(last, config.layers)
    held_back, fitted = _parted(bench)
    states = _pass(bench, condition, "unseen").states(fitted, [*layers, last])
    lenses = {layer: fit_linear_lens(states, layer, last) for layer in layers}
    middle = layers[(len(layers) - 1) // 2]
    decoder = fit_decoder(
        model,
        states,
        middle,
        lenses[middle],
        steps=config.decoder_steps,
        rate=config.decoder_rate,
        rows=_ROWS,
        seed=bench.config.seed,
    )
    sets = {
        texts: _pass(bench, condition, texts).states(documents, [*layers, last])
        for texts, documents in (("target", target_of(bench)), ("unseen", held_back))
    }

    def read(layer: int, lens: Lens) -> dict[str, ForcedReading]:
        return {
            texts: read_states(model, states, layer, lens, prefix=config.prefix, suffix=config.suffix)
            for texts, states in sets.items()
        }

    output = read(last, torch.nn.Identity())
    logit = {layer: read(layer, logit_lens(model)) for layer in layers}
    linear = {layer: read(layer, lens) for layer, lens in lenses.items()}
    decoded, name = read(middle, decoder), f"small decoder, layer {middle + 1}"
    rest: dict[str, Any] = {"section": SECTION, "condition": condition}
    figures = [
        figure
        for layer, readings in linear.items()
        for figure in _gains(output, readings, f"linear lens, layer {layer + 1}", condition)
    ]
    for texts, reading in decoded.items():
        figures.append(
            mean_figure(reading.losses.per_document, measure=f"loss, {name}", texts=texts, condition=condition)
        )
        measure = f"{config.suffix} tokens word for word, {name}"
        figures.append(rate_figure(reading, measure=measure, texts=texts, condition=condition))
    figures += _gains(output, decoded, name, condition)
    curves = [
        _by_layer({**readings, last: output}, f"loss by layer, {probe}", texts, rest)
        for probe, readings in (("logit lens", logit), ("linear lens", linear))
        for texts in sets
    ]
    return Findings(figures=tuple(figures), curves=tuple(curves))


def _by_layer(readings: dict[int, dict[str, ForcedReading]], measure: str, texts: str, rest: dict[str, Any]) -> Curve:
    return Curve(
        measure=measure,
        texts=texts,
        x_label="decoder layer",
        y_label="loss, nats per token",
        x=tuple(float(layer + 1) for layer in readings),
        y=tuple(float(reading[texts].losses.per_document.mean()) for reading in readings.values()),
        **rest,
    )


def _pass(bench: Bench, condition: str, texts: str) -> Pass:
    subject = bench.opened(condition)
    return Pass(
        model=subject.model,
        mode=subject.mode_for(texts),
        max_length=bench.config.text.max_length,
        autocast=bf16_pays(),
    )


def _chosen(last: int, most: int) -> list[int]:
    """Layers before the last one, at most so many, evenly spaced; of a model with one layer that one."""
    return sorted(set(np.linspace(0, max(0, last - 1), num=min(most, max(1, last))).round().astype(int).tolist()))


def _gains(
    output: dict[str, ForcedReading], readings: dict[str, ForcedReading], name: str, condition: str
) -> list[Figure]:
    return [
        mean_figure(
            output[texts].losses.per_document - reading.losses.per_document,
            measure=f"gain over the output, {name}",
            condition=condition,
            texts=texts,
            note=_GAIN,
        )
        for texts, reading in readings.items()
    ]


def _sorting(bench: Bench, *, condition: str) -> Findings:
    """Per layer: how well a linear probe tells the target from unseen text, and a control set from the rest."""
    last = int(bench.opened(condition).model.config.num_hidden_layers) - 1
    layers = [*_chosen(last, bench.config.recovery.layers), last]
    target, unseen = target_of(bench), unseen_of(bench)
    controls = control_sets(unseen, len(target), bench.config.recovery.controls, seed=bench.config.seed)
    if len(target) < 2 or len(controls) < 2:
        raise InputError("sorting needs two documents of the target, and unseen text for two control sets of as many")
    own = _pass(bench, condition, "target").means(target, layers)
    other = _pass(bench, condition, "unseen").means(unseen, layers)
    is_target = np.arange(len(target) + len(unseen)) < len(target)
    members = [np.isin([d.name for d in unseen], [d.name for d in control]) for control in controls]
    figures = []
    for layer in dict.fromkeys(layers):
        value = area(np.concatenate([own[layer], other[layer]]), is_target)
        contrast = Contrast(value, tuple(area(other[layer], chosen) for chosen in members))
        figures.append(
            contrast_figure(
                contrast,
                f"AUC {value:.3f}, {contrast.centre:.3f} for control sets. {_SORTED}",
                measure=f"linear probe, layer {layer + 1}",
                condition=condition,
                unit="AUC above control",
                number=len(target),
            )
        )
    return Findings(figures=tuple(figures))


def area(features: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve of left-out scores: the chance that a positive scores above a negative."""
    scores = left_out_scores(features, labels)
    above = scores[labels][:, None] - scores[~labels][None, :]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def _parted(bench: Bench) -> tuple[list[TokenizedDocument], list[TokenizedDocument]]:
    """Unseen text to measure on, and other unseen text to fit on."""
    unseen = unseen_of(bench)
    order = np.random.default_rng(bench.config.seed).permutation(len(unseen))
    count = min(bench.config.recovery.unseen, len(unseen) // 2)
    if count < 2:
        raise InputError(f"{len(unseen)} unseen documents are too few to fit a probe on half; hold out more text")
    return [unseen[i] for i in order[:count]], [unseen[i] for i in order[count:]]
