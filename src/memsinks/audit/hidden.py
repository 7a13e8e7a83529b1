"""What hidden states give away: logit lens, linear lens, a small decoder, and a probe that sorts documents.

A model may know text in a middle layer and not say it. Each tool here reads the hidden states of text and is fitted, if
at all, on text that is not the target.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.forced import ForcedReading, batches_of, token_results
from memsinks.audit.losses import IGNORED, SLICE_TOKENS, DocumentLosses
from memsinks.audit.session import measuring, sequence_id_inputs
from memsinks.errors import InputError
from memsinks.sinks.families import family_of
from memsinks.sinks.modes import ModeLike

RIDGE = 1e-3
"""Of the linear lens, as a share of the mean squared size of a hidden unit."""


@dataclass(frozen=True, eq=False)
class States:
    """Hidden states of documents, without padding.

    Attributes:
        names: of the documents.
        layers: ``float32 [tokens, hidden]`` after decoder layers, by their numbers from 0; the model's last one is
            after the final norm.
        labels: ``int64 [tokens]``, the next token, or -100 where none is predicted.
        documents: ``int64 [tokens]``, whose token it is.
        positions: ``int64 [tokens]``, where in its document.
    """

    names: tuple[str, ...]
    layers: dict[int, Tensor]
    labels: Tensor
    documents: Tensor
    positions: Tensor


@dataclass(frozen=True, kw_only=True)
class Pass:
    """How hidden states are read.

    Attributes:
        model: a causal language model; with sinks attached unless ``mode`` is None.
        mode: which sinks to switch on; None reads a plain model.
        max_length: tokens of a document that are read.
        autocast: compute in bfloat16.
        batch_tokens: tokens in one forward, padding included.
    """

    model: Any
    mode: ModeLike | None
    max_length: int
    autocast: bool = False
    batch_tokens: int = 16384

    @property
    def depth(self) -> int:
        """Decoder layers of the model."""
        return int(self.model.config.num_hidden_layers)

    def states(self, documents: Sequence[TokenizedDocument], layers: Sequence[int]) -> States:
        """Hidden states of documents after some layers.

        Raises:
            InputError: there are no documents.
        """
        parts = list(self._batches(documents))
        return States(
            tuple(document.name for document in documents),
            {layer: torch.cat([states[layer][kept].float() for states, kept, _, _ in parts]) for layer in layers},
            torch.cat([labels[kept] for _, kept, labels, _ in parts]),
            torch.cat([owner[kept] for _, kept, _, owner in parts]),
            torch.cat([torch.nonzero(kept)[:, 1] for _, kept, _, _ in parts]),
        )

    def means(self, documents: Sequence[TokenizedDocument], layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Mean state of each document after some layers, ``float64 [documents, hidden]``.

        Raises:
            InputError: there are no documents.
        """
        found: dict[int, dict[int, np.ndarray]] = {layer: {} for layer in layers}
        for states, kept, _, owner in self._batches(documents):
            counts = kept.sum(1, keepdim=True)
            for layer in layers:
                means = (states[layer].double() * kept[..., None]).sum(1) / counts
                found[layer].update(zip(owner[:, 0].tolist(), means.cpu().numpy(), strict=True))
        return {layer: np.stack([rows[i] for i in range(len(documents))]) for layer, rows in found.items()}

    def _batches(
        self, documents: Sequence[TokenizedDocument]
    ) -> Iterator[tuple[tuple[Tensor, ...], Tensor, Tensor, Tensor]]:
        """States after each layer ``[B, T, hidden]``, what is no padding, labels and whose it is, ``[B, T]``."""
        if not documents:
            raise InputError("there are no documents whose hidden states could be read; pass at least one")
        with measuring(self.model, self.mode, autocast=self.autocast) as device:
            for chosen, inputs, mask, labels in batches_of(documents, self.max_length, self.batch_tokens):
                ids = sequence_id_inputs([documents[i].sequence_id for i in chosen], self.mode, device)
                output = self.model(
                    input_ids=inputs.to(device),
                    attention_mask=mask.to(device),
                    use_cache=False,
                    output_hidden_states=True,
                    **ids,
                )
                owner = torch.tensor(chosen, device=device)[:, None].expand_as(labels)
                yield output.hidden_states[1:], mask.to(device).bool(), labels.to(device), owner


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
            loss, hit = token_results(unembedded(model, lens(part))[None], labels[None])
            losses.append(loss[0].double())
            hits.append(hit[0])
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
    logits = model.get_output_embeddings()(states).float()
    cap = getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def final_norm(model: Any) -> nn.Module:
    """What the logit lens (nostalgebraist 2020) reads earlier layers through: the norm before the output projection.

    An identity for a family without one.
    """
    inside = {m for layer in model.get_submodule(family_of(model.config).layers) for m in layer.modules()}
    norms = [m for m in model.modules() if m not in inside and type(m).__name__.endswith("Norm")]
    return norms[-1] if norms else nn.Identity()


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


def left_out_scores(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Scores of a linear probe that sorts documents, each by a probe fitted without it.

    Ridge regression on standardised features, with classes weighed alike; the penalty is the number of features. The
    label of the left-out document plays no part in its score, nor in the classes' weights.

    Args:
        features: ``float64 [documents, features]``.
        labels: ``bool [documents]``, at least two of either kind.

    Raises:
        InputError: fewer than two of a kind.
    """
    if min(labels.sum(), (~labels).sum()) < 2:
        raise InputError("a probe needs at least two documents of either kind; give more text")
    spread = features.std(0)
    x = (features - features.mean(0)) / np.where(spread == 0, 1, spread)
    x = np.hstack([x, np.ones((len(x), 1))])
    scores = np.empty(len(x))
    for left in range(len(x)):
        kept = np.arange(len(x)) != left
        a, b = x[kept], labels[kept]
        weight = np.where(b, 0.5 / b.sum(), 0.5 / (~b).sum())
        target = np.where(b, 1.0, -1.0)
        # As many unknowns as documents, not as features.
        kernel = a @ a.T / x.shape[1]
        dual = np.linalg.solve(kernel + np.diag(1 / (weight * len(a))), target)
        scores[left] = x[left] @ a.T @ dual / x.shape[1]
    return scores
