"""Continuations by ``generate``, whatever the model's generation settings say."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import GenerationConfig

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.session import sequence_id_inputs
from memsinks.sinks.modes import ModeLike


def continued(
    model: nn.Module, documents: Sequence[TokenizedDocument], prefix: int, mode: ModeLike | None, device: torch.device
) -> np.ndarray:
    """What the model writes after the first ``prefix`` tokens of each document.

    To be called inside :func:`memsinks.audit.session.measuring` and :func:`generation_settings`.

    Returns:
        ``int64 [documents * returned, new tokens]``, the sequences that the settings return for a document together.
    """
    prompts = torch.from_numpy(np.stack([d.tokens[:prefix] for d in documents])).to(device)
    ids = sequence_id_inputs([d.sequence_id for d in documents], mode, device)
    # transformers types generate as an attribute, not as a method.
    output = model.generate(input_ids=prompts, attention_mask=torch.ones_like(prompts), **ids)  # type: ignore[operator]
    return output[:, prefix:].cpu().numpy()


@contextmanager
def generation_settings(model: nn.Module, settings: GenerationConfig) -> Iterator[None]:
    """Generate with ``settings`` alone inside the block."""
    # Settings passed to generate() are filled up from the model's own (penalties, end of text), so those are replaced.
    hosts: list[Any] = [m for m in model.modules() if isinstance(vars(m).get("generation_config"), GenerationConfig)]
    before = [host.generation_config for host in hosts]
    for host in hosts:
        host.generation_config = settings
    try:
        yield
    finally:
        for host, previous in zip(hosts, before, strict=True):
            host.generation_config = previous
