"""One pass over the text itself: the loss of each document, and whether it would be continued word for word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.forced import forced
from memsinks.audit.losses import DocumentLosses
from memsinks.errors import InputError
from memsinks.sinks.modes import ModeLike


@dataclass(frozen=True, eq=False)
class ForcedReading:
    """What one pass over ``d`` documents found.

    Attributes:
        losses: of each document.
        exact: ``bool [d]``, whether every token of the passage is the most likely one; false where the document is too
            short to be tried.
        tried: ``bool [d]``, whether the document is long enough.
    """

    losses: DocumentLosses
    exact: np.ndarray
    tried: np.ndarray


def forced_reading(
    model: nn.Module,
    documents: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    max_length: int,
    prefix: int,
    suffix: int,
    autocast: bool = False,
    batch_tokens: int = 16384,
) -> ForcedReading:
    """Read the first ``max_length`` tokens of each document.

    Args:
        model: a causal language model; with sinks attached unless ``mode`` is None.
        documents: in the order of the result, each of at least two tokens.
        mode: which sinks to switch on; None measures a plain model.
        max_length: tokens of a document that are read.
        prefix: tokens before the passage that is to be reproduced.
        suffix: its length.
        autocast: compute in bfloat16; losses are taken in float32.
        batch_tokens: tokens in one forward, padding included; a single longer row is still run.

    Raises:
        InputError: no documents, one of fewer than two tokens, or an impossible size.
    """
    if min(prefix, suffix, batch_tokens) < 1 or max_length < 2:
        raise InputError(
            f"prefix ({prefix}), suffix ({suffix}) and batch_tokens ({batch_tokens}) must be at least 1, and "
            f"max_length ({max_length}) at least 2"
        )
    if not documents or min(len(d.tokens) for d in documents) < 2:
        raise InputError("there must be documents to read, of at least two tokens each; leave out shorter ones")
    tried = np.array([min(len(d.tokens), max_length) >= prefix + suffix for d in documents])
    cut = [replace(d, tokens=d.tokens[:max_length]) for d in documents]
    found = forced(model, cut, mode=mode, batch_tokens=batch_tokens, autocast=autocast)
    own = [f.log_chance[d.scored_from :] for f, d in zip(found, cut, strict=True)]
    losses = DocumentLosses(
        tuple(d.name for d in documents), np.array([-o.sum() for o in own]), np.array([len(o) for o in own])
    )
    exact = [bool(long) and f.exact(prefix, suffix) for f, long in zip(found, tried, strict=True)]
    return ForcedReading(losses, np.array(exact), tried)
