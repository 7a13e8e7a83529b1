"""What hidden states give away of the next token: logit lens, linear lens, and a small decoder.

A model may know text in a middle layer and not say it. A lens reads a layer's states as if they were the last; it is
fitted, if at all, on text that is not the target.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memsinks.audit.chunks import IGNORED
from memsinks.audit.hidden import States
from memsinks.audit.losses import SLICE_TOKENS, DocumentLosses
from memsinks.audit.reading import ForcedReading
from memsinks.sinks.families import family_of

RIDGE = 1e-3
"""Of the linear lens, as a share of the mean squared size of a hidden unit."""


def read_states(
    model: Any, states: States, layer: int, lens: Callable[[Tensor], Tensor], *, prefix: int, suffix: int
) -> ForcedReading:
    """Losses, and passages reproduced word for word, when the output is read from a layer's states through a lens.

    Args:
        model: whose states they are.
        states: of text.
        layer: number of the decoder layer, from 0.
        lens: from its states to states as they are after the final norm.
        prefix: tokens before the passage that is to be reproduced.
        suffix: its length.
    """
    losses, hits = [], []
    with torch.no_grad():
        for part, labels in zip(
            states.layers[layer].split(SLICE_TOKENS), states.labels.split(SLICE_TOKENS), strict=True
        ):
            logits = unembedded(model, lens(part))
            losses.append(F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none").double())
            hits.append(logits.argmax(-1) == labels)
    count = len(states.names)

    def summed(values: Tensor) -> Tensor:
        return torch.zeros(count, dtype=values.dtype, device=values.device).index_add_(0, states.documents, values)

    scored = (states.labels != IGNORED).long()
    passage = (states.positions >= prefix - 1) & (states.positions < prefix + suffix - 1)
    tokens = summed(scored).cpu().numpy()
    tried = summed((passage & (states.labels != IGNORED)).long()).cpu().numpy() == suffix
    exact = summed((passage & torch.cat(hits)).long()).cpu().numpy() == suffix
    return ForcedReading(
        DocumentLosses(states.names, summed(torch.cat(losses)).cpu().numpy(), tokens), exact & tried, tried
    )


def unembedded(model: Any, states: Tensor) -> Tensor:
    """Logits of states as they are after the final norm, with the cap that some families put on logits."""
    head = model.get_output_embeddings()
    logits = head(states.to(head.weight.dtype)).float()
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def logit_lens(model: Any) -> Callable[[Tensor], Tensor]:
    """The norm before the output projection, to read earlier layers through as if they were the last.

    See nostalgebraist 2020, "interpreting GPT: the logit lens". An identity for a family without such a norm.
    """
    inside = {m for layer in model.get_submodule(family_of(model.config).layers) for m in layer.modules()}
    norms = [m for m in model.modules() if m not in inside and type(m).__name__.endswith("Norm")]
    norm = norms[-1] if norms else nn.Identity()
    return lambda states: norm(states.to(model.dtype))


def fit_linear_lens(states: States, layer: int, last: int) -> nn.Linear:
    """The affine map from a layer's states to the model's last ones with the least squares, in closed form.

    It plays the part of a tuned lens (Belrose et al. 2023, arXiv 2303.08112), fitted as in Din et al. 2023,
    arXiv 2303.09435, with a small ridge penalty.
    """
    x, y = states.layers[layer].double(), states.layers[last].double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    centred = x - x_mean
    gram = centred.T @ centred
    gram += RIDGE * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype, device=x.device)
    weight = torch.linalg.solve(gram, centred.T @ (y - y_mean)).T
    lens = nn.Linear(x.shape[1], y.shape[1], device=x.device)
    with torch.no_grad():
        lens.weight.copy_(weight)
        lens.bias.copy_(y_mean - weight @ x_mean)
    return lens.requires_grad_(False)


class SmallDecoder(nn.Module):
    """A linear lens, and a gated path of one hidden layer beside it that begins at nothing.

    Args:
        lens: where it starts from; it goes on learning.
        hidden: units of the path.
    """

    def __init__(self, lens: nn.Linear, hidden: int) -> None:
        super().__init__()
        device = lens.weight.device
        self.lens = nn.Linear(lens.in_features, lens.out_features, device=device)
        self.lens.load_state_dict(lens.state_dict())
        self.norm = nn.LayerNorm(lens.in_features, device=device)
        self.inner = nn.Linear(lens.in_features, hidden, device=device)
        self.outer = nn.Linear(hidden, lens.out_features, device=device)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, states: Tensor) -> Tensor:
        """``[..., hidden]`` of the layer to ``[..., hidden]`` as after the final norm."""
        return self.lens(states) + self.outer(F.silu(self.inner(self.norm(states))))


def fit_decoder(
    model: Any, states: States, layer: int, lens: nn.Linear, *, steps: int, rate: float, rows: int, seed: int
) -> SmallDecoder:
    """Train a decoder from a layer's states to predict next tokens through the model's own output projection.

    Args:
        model: whose states they are; it is not changed.
        states: of text that is not the target.
        layer: number of the decoder layer, from 0.
        lens: of that layer, to start from.
        steps: of AdamW.
        rate: its learning rate.
        rows: tokens in a step.
        seed: of initial weights and order.
    """
    x, labels = states.layers[layer], states.labels
    predicted = torch.nonzero(labels != IGNORED).flatten()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = SmallDecoder(lens, x.shape[1])
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=rate, weight_decay=0.01)
    for _ in range(steps):
        chosen = predicted[torch.randint(len(predicted), (rows,), generator=draw).to(predicted.device)]
        loss = F.cross_entropy(unembedded(model, decoder(x[chosen])), labels[chosen])
        # Not backward(): that would leave gradients on the model's output projection.
        gradients = torch.autograd.grad(loss, list(decoder.parameters()))
        for parameter, gradient in zip(decoder.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    return decoder
