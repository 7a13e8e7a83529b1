"""Adversarial compression ratio: how short a prompt makes the model write a text.

Schwarzschild et al. 2024, "Rethinking LLM memorization through the lens of adversarial compression", arXiv 2404.15146:
a text counts as memorised if a prompt shorter than itself brings it out word for word: the ratio of their tokens is
above 1. The prompt is searched for on a budget (:mod:`memsinks.audit.coordinate_gradient`), so the ratio is a lower
bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from memsinks.audit.coordinate_gradient import SearchBudget, search_prompts
from memsinks.audit.documents import TokenizedDocument
from memsinks.errors import InputError
from memsinks.sinks.modes import ModeLike


@dataclass(frozen=True, eq=False)
class Compression:
    """The shortest prompt that was found for a text.

    Attributes:
        name: of the text.
        tokens: of the text.
        prompt: int64 ``[m]``; None if no prompt of the lengths that were tried was found.
    """

    name: str
    tokens: int
    prompt: np.ndarray | None

    @property
    def ratio(self) -> float:
        """Tokens of the text over those of its prompt; 0 if none was found."""
        return 0.0 if self.prompt is None else self.tokens / len(self.prompt)

    @property
    def memorised(self) -> bool:
        """Whether the ratio is above 1."""
        return self.ratio > 1


def compressions(
    model: nn.Module,
    texts: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    lengths: Sequence[int],
    allowed: np.ndarray,
    budget: SearchBudget,
    seed: int,
    begin: Sequence[int] = (),
    autocast: bool = False,
) -> list[Compression]:
    """Search prompts of each length in turn, from the shortest, for the texts that have none yet.

    Args:
        model: a causal language model; with sinks attached unless ``mode`` is None.
        texts: of one length, without begin markers.
        mode: which sinks to switch on; None for a plain model.
        lengths: of prompts, each below that of the texts.
        allowed: int64, tokens that a prompt may have.
        budget: of each text and length.
        seed: of the search.
        begin: markers that stand before every prompt and count nowhere.
        autocast: compute in bfloat16.

    Raises:
        InputError: no texts, texts of several lengths, or a length that is out of range.
    """
    sizes = {len(t.tokens) for t in texts}
    if len(sizes) != 1:
        raise InputError(f"texts must be of one length, not of {sorted(sizes)} tokens")
    size = sizes.pop()
    if not lengths or min(lengths) < 1 or max(lengths) >= size:
        raise InputError(
            f"prompts of {list(lengths)} tokens: each must have at least 1 and fewer than the text ({size})"
        )
    prompts: list[np.ndarray | None] = [None] * len(texts)
    for length in sorted(lengths):
        left = [i for i, prompt in enumerate(prompts) if prompt is None]
        if not left:
            break
        search = search_prompts(
            model,
            np.stack([texts[i].tokens for i in left]),
            mode=mode,
            sequence_ids=[texts[i].sequence_id for i in left],
            length=length,
            allowed=allowed,
            budget=budget,
            seed=seed,
            begin=begin,
            autocast=autocast,
        )
        for i, prompt, found in zip(left, search.prompts, search.found, strict=True):
            if found:
                prompts[i] = prompt
    return [Compression(t.name, size, prompt) for t, prompt in zip(texts, prompts, strict=True)]
