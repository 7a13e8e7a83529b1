"""Hidden states of text, layer by layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memsinks.audit.chunks import batches_of
from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.session import measuring, sequence_id_inputs
from memsinks.errors import InputError
from memsinks.sinks.modes import ModeLike


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

    def states(self, documents: Sequence[TokenizedDocument], layers: Sequence[int]) -> States:
        """Hidden states of documents after some layers.

        Raises:
            InputError: there are no documents.
        """
        found: dict[int, list[Tensor]] = {layer: [] for layer in layers}
        facts: list[tuple[Tensor, Tensor, Tensor]] = []
        for states, kept, labels, owner in self._batches(documents):
            for layer, parts in found.items():
                parts.append(states[layer][kept].float())
            facts.append((labels[kept], owner[kept], torch.nonzero(kept)[:, 1]))
        names = tuple(document.name for document in documents)
        return States(
            names,
            {layer: torch.cat(parts) for layer, parts in found.items()},
            *map(torch.cat, zip(*facts, strict=True)),
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
