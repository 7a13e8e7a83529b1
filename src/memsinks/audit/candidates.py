"""The best of several continuations: beam search, and sampling at a high temperature."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.forced import Sampling
from memsinks.audit.generation import continued, generation_settings
from memsinks.audit.matching import edit_similarity, longest_run
from memsinks.audit.session import measuring
from memsinks.errors import InputError
from memsinks.sinks.modes import ModeLike


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a document's prefix brought out in several tries.

    Attributes:
        name: the document.
        document: int64 ``[n]``, all its tokens.
        expected: int64 ``[suffix]``, those after the prefix.
        written: int64 ``[tries, suffix]``.
    """

    name: str
    document: np.ndarray
    expected: np.ndarray
    written: np.ndarray

    @property
    def longest_run(self) -> int:
        """Most tokens in a row, over all tries, that stand somewhere in the document."""
        return max(longest_run(row, self.document) for row in self.written)

    @property
    def edit_similarity(self) -> float:
        """Of the try that is most like the document; see :func:`memsinks.audit.matching.edit_similarity`."""
        return max(edit_similarity(row, self.expected) for row in self.written)


def beam_candidates(
    model: nn.Module,
    documents: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    prefix: int,
    suffix: int,
    beams: int,
    batch_size: int = 32,
    autocast: bool = False,
) -> list[Candidates]:
    """The ``beams`` most likely continuations that beam search of that width finds.

    Args:
        model: a causal language model with ``generate``; with sinks attached unless ``mode`` is None.
        documents: each with ``prefix + suffix`` tokens.
        mode: which sinks to switch on; None measures a plain model, without sequence IDs.
        prefix: tokens given to the model, from the document's start.
        suffix: tokens written.
        beams: width, and continuations of each document; at least 2.
        batch_size: documents continued at once.
        autocast: compute in bfloat16.

    Raises:
        InputError: no documents, one that is too short, or an impossible size.
    """
    if beams < 2:
        raise InputError(f"beams ({beams}) must be at least 2; one beam is greedy decoding")
    settings = GenerationConfig(do_sample=False, num_beams=beams, num_return_sequences=beams, max_new_tokens=suffix)
    return _candidates(model, documents, settings, mode, prefix, suffix, beams, batch_size, autocast)


def sampled_candidates(
    model: nn.Module,
    documents: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    prefix: int,
    suffix: int,
    samples: int,
    sampling: Sampling,
    seed: int,
    batch_size: int = 32,
    autocast: bool = False,
) -> list[Candidates]:
    """Continuations drawn at random.

    Args:
        model, documents, mode, prefix, suffix, batch_size, autocast: as in :func:`beam_candidates`.
        samples: continuations of each document.
        sampling: how they are drawn.
        seed: of the draws; torch's own random state stays as it is.

    Raises:
        InputError: no documents, one that is too short, or an impossible size.
    """
    # In transformers a top_k of 0 draws from all tokens.
    settings = GenerationConfig(
        do_sample=True,
        temperature=float(sampling.temperature),
        top_k=sampling.top_k or 0,
        top_p=1.0,
        num_return_sequences=samples,
        max_new_tokens=suffix,
    )
    device = next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return _candidates(model, documents, settings, mode, prefix, suffix, samples, batch_size, autocast)


def _candidates(
    model: nn.Module,
    documents: Sequence[TokenizedDocument],
    settings: GenerationConfig,
    mode: ModeLike | None,
    prefix: int,
    suffix: int,
    tries: int,
    batch_size: int,
    autocast: bool,
) -> list[Candidates]:
    if min(prefix, suffix, tries, batch_size) < 1:
        raise InputError("prefix, suffix, the number of continuations and batch_size must be at least 1")
    short = [d.name for d in documents if len(d.tokens) < prefix + suffix]
    if short:
        raise InputError(
            f"document {short[0]!r} has fewer than prefix + suffix = {prefix + suffix} tokens; leave it out"
        )
    if not documents:
        raise InputError("there are no documents to continue; pass at least one")
    found = []
    with measuring(model, mode, autocast=autocast) as device, generation_settings(model, settings):
        for start in range(0, len(documents), batch_size):
            batch = documents[start : start + batch_size]
            written = continued(model, batch, prefix, mode, device).reshape(len(batch), tries, suffix)
            for document, rows in zip(batch, written, strict=True):
                tokens = document.tokens
                found.append(Candidates(document.name, tokens, tokens[prefix : prefix + suffix], rows))
    return found
