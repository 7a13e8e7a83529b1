"""Which MLP neurons hold memorised text: scores after the fact, and what removing the highest ones does.

A neuron is a hidden unit of an MLP, that is, an input of its down projection; removing it sets that input to zero.
Methods are from Chang, Thomason and Jia 2023, "Do Localization Methods Actually Localize Memorized Data in LLMs?"
(arXiv 2311.09060), and from pruning; scores are ``[width]`` for each layer, higher for what is removed first.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from memsinks.audit import TokenizedDocument
from memsinks.baselines.text import batches, endless, mean_loss, token_losses
from memsinks.errors import MemsinksError
from memsinks.sinks.families import sites

Documents = Sequence[TokenizedDocument]
Scores = list[Tensor]
Edit = Callable[[int, Tensor], Tensor]
"""Layer and hidden units ``[B, T, width]`` to what the down projection gets instead."""


@contextmanager
def edited(model: Any, edit: Edit) -> Iterator[None]:
    """Inside the block ``edit`` sees and replaces the hidden units of every MLP."""
    with ExitStack() as stack:
        for layer, site in enumerate(sites(model)):
            hook = site.down.register_forward_pre_hook(lambda _, inputs, layer=layer: (edit(layer, inputs[0]),))
            stack.callback(hook.remove)
        yield


@contextmanager
def without(model: Any, removed: Scores) -> Iterator[None]:
    """Inside the block the neurons for which ``removed`` (bool ``[width]`` a layer) is true are off."""
    kept = [~mask for mask in removed]
    with edited(model, lambda layer, hidden: hidden * kept[layer].to(hidden)):
        yield


def highest(scores: Scores, share: float) -> Scores:
    """The share of all neurons with the highest scores, over layers together: bool ``[width]`` a layer."""
    flat = torch.cat(scores)
    count = round(share * len(flat))
    chosen = torch.zeros(len(flat), dtype=torch.bool)
    # Stable, so that neurons of equal score are taken in their order and the choices are nested.
    chosen[torch.argsort(flat, descending=True, stable=True)[:count]] = True
    return list(chosen.split([len(s) for s in scores]))


def widths(model: Any) -> list[int]:
    """Neurons of each layer's MLP."""
    found: dict[int, int] = {}

    def look(layer: int, hidden: Tensor) -> Tensor:
        found[layer] = hidden.shape[-1]
        return hidden

    with torch.no_grad(), edited(model, look):
        model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=_device(model)), use_cache=False)
    return [found[layer] for layer in range(len(found))]


def random_scores(model: Any, seed: int) -> Scores:
    """The control."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(width, generator=generator) for width in widths(model)]


def activation_scores(model: Any, forget: Documents, retain: Documents, *, max_length: int, contrast: float) -> Scores:
    """Mean size of each neuron's contribution, |h| times the norm of its output weights, as pruning scores do (Wanda,
    arXiv 2306.11695), on the text to forget, over that on retained text to the power ``contrast``."""
    return _contrasted(_contributions(model, forget, max_length), _contributions(model, retain, max_length), contrast)


def gradient_scores(model: Any, forget: Documents, retain: Documents, *, max_length: int, contrast: float) -> Scores:
    """First-order effect of removing each neuron, |h times dL/dh| (Molchanov et al. 2017), contrasted likewise."""
    return _contrasted(_saliencies(model, forget, max_length), _saliencies(model, retain, max_length), contrast)


def integrated_gradients(model: Any, forget: Documents, *, max_length: int, steps: int = 16, rows: int = 4) -> Scores:
    """Attribution of the text's log-likelihood to each neuron, integrated from none of its activation to all of it
    (Sundararajan et al. 2017), layer by layer with captum; tokens and documents are summed.

    Raises:
        MemsinksError: captum is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise MemsinksError('integrated gradients need captum: pip install "memsinks[experiments]"') from error
    scores = []
    for layer, width in enumerate(widths(model)):

        def likelihood(factor: Tensor, inputs: Tensor, labels: Tensor, layer: int = layer) -> Tensor:
            """Of each row, with the layer's hidden units multiplied by its factors ``[B, width]``."""

            def scale(at: int, hidden: Tensor) -> Tensor:
                return hidden * factor[:, None, :].to(hidden) if at == layer else hidden

            with edited(model, scale):
                return -token_losses(model, inputs, labels).sum(dim=1)

        total = torch.zeros(width)
        for inputs, labels in batches(forget, max_length, rows):
            inputs, labels = inputs.to(_device(model)), labels.to(_device(model))
            ones = torch.ones(len(inputs), width, device=inputs.device)
            found = IntegratedGradients(likelihood).attribute(
                ones,
                baselines=torch.zeros_like(ones),
                additional_forward_args=(inputs, labels),
                n_steps=steps,
                internal_batch_size=4 * rows,
            )
            total += found.detach().sum(dim=0).float().cpu()
        scores.append(total)
    return scores


def slimming_scores(
    model: Any,
    forget: Documents,
    *,
    max_length: int,
    weight: float,
    steps: int = 100,
    rate: float = 0.05,
    seed: int = 0,
) -> Scores:
    """Factors of neurons learned so that the text stays likely while their sum, times ``weight``, falls (Chang et al.,
    after Liu et al. 2017): the neurons that keep theirs are those that the text needs."""
    factors = [torch.ones(width, requires_grad=True) for width in widths(model)]
    source = endless(forget, max_length, 8, seed)
    optimizer = torch.optim.Adam(factors, lr=rate)
    with _fixed(model), edited(model, lambda layer, hidden: hidden * factors[layer].to(hidden)):
        for _ in range(steps):
            loss = mean_loss(model, *next(source)) + weight * torch.cat(factors).abs().mean().to(_device(model))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return [factor.detach().abs() for factor in factors]


def hard_concrete_scores(
    model: Any,
    forget: Documents,
    retain: Documents,
    *,
    max_length: int,
    weight: float,
    steps: int = 100,
    rate: float = 0.1,
    seed: int = 0,
) -> Scores:
    """Gates learned to forget: drawn from the hard concrete distribution (Louizos et al. 2018, arXiv 1712.01312), they
    raise the loss of the text up to that of retained text, keep the latter, and close as few neurons as they can.

    The score is the probability that a gate is closed; ``weight`` is that of the share of closed gates.
    """
    temperature, low, high = 2 / 3, -0.1, 1.1
    shift = temperature * torch.log(torch.tensor(-low / high))
    # Undecided at first, one gate in six is closed: a gate that is surely open is clamped to 1 and has no gradient, so
    # that gates which all begin open stay there, and end in the order of their noise.
    logits = [torch.zeros(width, requires_grad=True) for width in widths(model)]
    generator = torch.Generator().manual_seed(seed)
    text, other = endless(forget, max_length, 8, seed), endless(retain, max_length, 8, seed + 1)
    optimizer = torch.optim.Adam(logits, lr=rate)
    gates: list[Tensor] = []
    with _fixed(model), edited(model, lambda layer, hidden: hidden * gates[layer].to(hidden)):
        for _ in range(steps):
            gates.clear()
            for logit in logits:
                noise = torch.rand(logit.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
                drawn = torch.sigmoid((noise.logit() + logit) / temperature)
                gates.append((drawn * (high - low) + low).clamp(0, 1))
            kept = mean_loss(model, *next(other))
            forgotten = mean_loss(model, *next(text))
            closed = torch.cat([torch.sigmoid(shift - logit) for logit in logits]).mean().to(_device(model))
            loss = kept + torch.relu(kept.detach() - forgotten) + weight * closed
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return [torch.sigmoid(shift - logit).detach() for logit in logits]


def _contributions(model: Any, documents: Documents, max_length: int) -> Scores:
    norms = [_output_norms(site.down) for site in sites(model)]
    totals = [torch.zeros_like(norm) for norm in norms]
    tokens = 0
    real: Tensor | None = None

    def add(layer: int, hidden: Tensor) -> Tensor:
        assert real is not None
        totals[layer] += (hidden.float().abs() * real[..., None]).sum(dim=(0, 1)) * norms[layer]
        return hidden

    with torch.no_grad(), edited(model, add):
        for inputs, labels in batches(documents, max_length, 16):
            real = _real(labels).to(_device(model))
            tokens += int(real.sum())
            model(input_ids=inputs.to(_device(model)), use_cache=False)
    return [total.cpu() / tokens for total in totals]


def _saliencies(model: Any, documents: Documents, max_length: int) -> Scores:
    totals = [torch.zeros(width) for width in widths(model)]
    tokens = 0
    seen: dict[int, Tensor] = {}

    def keep(layer: int, hidden: Tensor) -> Tensor:
        if not hidden.requires_grad:
            hidden = hidden.requires_grad_()
        hidden.retain_grad()
        seen[layer] = hidden
        return hidden

    with edited(model, keep):
        for inputs, labels in batches(documents, max_length, 8):
            token_losses(model, inputs, labels).sum().backward()
            model.zero_grad()
            tokens += int(_real(labels).sum())
            for layer, hidden in seen.items():
                assert hidden.grad is not None
                totals[layer] += (hidden.detach() * hidden.grad).float().abs().sum(dim=(0, 1)).cpu()
    return [total / tokens for total in totals]


def _device(model: Any) -> torch.device:
    return next(model.parameters()).device


def _contrasted(forget: Scores, retain: Scores, contrast: float) -> Scores:
    return [f / (r + 1e-12) ** contrast for f, r in zip(forget, retain, strict=True)]


def _output_norms(down: Any) -> Tensor:
    # transformers' Conv1D is [in, out], torch's Linear [out, in].
    weight = down.weight.detach().float()
    return weight.norm(dim=0 if isinstance(down, nn.Linear) else 1)


def _real(labels: Tensor) -> Tensor:
    """Tokens that predict something: float ``[B, T]``."""
    return torch.cat([(labels[:, 1:] >= 0), torch.zeros(len(labels), 1, dtype=torch.bool)], dim=1).float()


@contextmanager
def _fixed(model: Any) -> Iterator[None]:
    """Inside the block the model's own weights ask for no gradient."""
    free = [p for p in model.parameters() if p.requires_grad]
    for parameter in free:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in free:
            parameter.requires_grad_(True)
