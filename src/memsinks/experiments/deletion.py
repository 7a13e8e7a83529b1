"""Deleting the sinks of a text, and what that does to it beside deleting as many sinks of another."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from memsinks.audit import DocumentLosses, TokenizedDocument, document_losses, set_aside
from memsinks.errors import InputError


def deletion_losses(
    model: nn.Module, documents: Sequence[TokenizedDocument], *, max_length: int, autocast: bool = False
) -> dict[str, DocumentLosses]:
    """Losses of documents with their sinks on, after a deletion.

    Args:
        model: with sinks attached.
        documents: at least two, each with an ID of its own.
        max_length, autocast: as of :func:`memsinks.audit.document_losses`.

    Returns:
        ``right``: each document after its own sinks were deleted; ``placebo``: after as many sinks of the document
        before it were (the last, for the first one).

    Raises:
        InputError: there are fewer than two documents.
    """
    if len(documents) < 2:
        raise InputError(f"a placebo deletion needs the sinks of another document; {len(documents)} were given")
    sums = {name: np.zeros(len(documents)) for name in ("right", "placebo")}
    tokens = np.zeros(len(documents), dtype=np.int64)
    for place, document in enumerate(documents):
        after = (place + 1) % len(documents)
        with set_aside(model, [document.sequence_id]):
            found = document_losses(
                model, [document, documents[after]], mode="own", max_length=max_length, autocast=autocast
            )
        sums["right"][place], sums["placebo"][after] = found.loss_sum
        tokens[place] = found.tokens[0]
    names = tuple(document.name for document in documents)
    return {name: DocumentLosses(names, value, tokens) for name, value in sums.items()}
