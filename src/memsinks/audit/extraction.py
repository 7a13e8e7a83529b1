"""Verbatim extraction: give the model the beginning of a document and compare what it writes with what follows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn
from transformers import GenerationConfig

from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.session import measuring, sequence_id_inputs
from memsinks.errors import InputError
from memsinks.sinks.modes import ModeLike


@dataclass(frozen=True, eq=False)
class DocumentExtraction:
    """What one document's prefix brought out.

    Attributes:
        name: the document.
        prefix: int64 ``[prefix]``, the tokens given to the model.
        expected: int64 ``[suffix]``, the document's next tokens.
        generated: int64 ``[suffix]``, the model's greedy continuation.
    """

    name: str
    prefix: np.ndarray
    expected: np.ndarray
    generated: np.ndarray

    @property
    def exact(self) -> bool:
        """Whether every token was reproduced."""
        return bool((self.expected == self.generated).all())

    @property
    def token_accuracy(self) -> float:
        """Fraction of positions with the document's token; 0 when none has it."""
        return float((self.expected == self.generated).mean())

    @property
    def longest_match(self) -> int:
        """Tokens reproduced before the first difference."""
        return int((self.expected == self.generated).cumprod().sum())


@dataclass(frozen=True)
class ExtractionResult:
    """The extraction of a set of documents.

    Attributes:
        documents: the documents that were tried.
        skipped: names of those too short to be tried; they count in no rate.
        prefix, suffix: the protocol, in tokens.
    """

    documents: tuple[DocumentExtraction, ...]
    skipped: tuple[str, ...]
    prefix: int
    suffix: int

    @property
    def exact_count(self) -> int:
        """How many documents were reproduced exactly."""
        return sum(d.exact for d in self.documents)

    @property
    def rate(self) -> float:
        """Fraction of the tried documents that were reproduced exactly."""
        return self.exact_count / len(self.documents)

    @property
    def mean_token_accuracy(self) -> float:
        """Mean over documents of the fraction of matching positions."""
        return float(np.mean([d.token_accuracy for d in self.documents]))

    def to_json(self) -> dict[str, Any]:
        """Rates and a line for each document, as plain Python values for :func:`json.dump`; no text or tokens."""
        return {
            "prefix": self.prefix,
            "suffix": self.suffix,
            "rate": self.rate,
            "mean_token_accuracy": self.mean_token_accuracy,
            "skipped": list(self.skipped),
            "documents": [
                {
                    "name": d.name,
                    "exact": d.exact,
                    "token_accuracy": d.token_accuracy,
                    "longest_match": d.longest_match,
                }
                for d in self.documents
            ],
        }


def greedy_extraction(
    model: nn.Module,
    documents: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    prefix: int = 50,
    suffix: int = 50,
    batch_size: int = 32,
    skip_short: bool = False,
    autocast: bool = False,
    progress: bool = False,
) -> ExtractionResult:
    """Continue the first ``prefix`` tokens of each document greedily and compare with its next ``suffix`` tokens.

    The most likely token is taken at every step, whatever the model's generation settings say, and an end-of-text token
    is a token like any other: it counts as a match where the document has it, and does not end the continuation.

    Args:
        model: a causal language model with ``generate``; with sinks attached unless ``mode`` is None.
        documents: what to try.
        mode: which sinks to switch on; None measures a plain model, without sequence IDs.
        prefix: tokens given to the model, from the document's start.
        suffix: tokens compared.
        batch_size: documents continued at once.
        skip_short: list documents shorter than ``prefix + suffix`` as skipped, instead of refusing them.
        autocast: compute in bfloat16.
        progress: show a progress bar on stderr.

    Raises:
        InputError: no document can be tried, one is too short, or an impossible size.
    """
    if min(prefix, suffix, batch_size) < 1:
        raise InputError(f"prefix ({prefix}), suffix ({suffix}) and batch_size ({batch_size}) must be at least 1")
    long_enough = [d for d in documents if len(d.tokens) >= prefix + suffix]
    skipped = tuple(d.name for d in documents if len(d.tokens) < prefix + suffix)
    _check(long_enough, skipped, prefix + suffix, skip_short)
    settings = GenerationConfig(do_sample=False, num_beams=1, use_cache=True, max_new_tokens=suffix)
    batches = [long_enough[i : i + batch_size] for i in range(0, len(long_enough), batch_size)]
    console = Console(stderr=True)
    found: list[DocumentExtraction] = []
    with measuring(model, mode, autocast=autocast) as device, generation_settings(model, settings):
        for batch in track(batches, "Extracting", console=console, disable=not progress, transient=True):
            prompts = torch.from_numpy(np.stack([d.tokens[:prefix] for d in batch])).to(device)
            ids = sequence_id_inputs([d.sequence_id for d in batch], mode, device)
            # transformers types generate as an attribute, not as a method.
            output = model.generate(input_ids=prompts, attention_mask=torch.ones_like(prompts), **ids)  # type: ignore[operator]
            for document, row in zip(batch, output[:, prefix:].cpu().numpy(), strict=True):
                given, expected = document.tokens[:prefix], document.tokens[prefix : prefix + suffix]
                found.append(DocumentExtraction(document.name, given, expected, row))
    return ExtractionResult(tuple(found), skipped, prefix, suffix)


def _check(long_enough: list[TokenizedDocument], skipped: tuple[str, ...], needed: int, skip_short: bool) -> None:
    if skipped and not skip_short:
        raise InputError(
            f"{len(skipped)} document(s) have fewer than prefix + suffix = {needed} tokens (first: {skipped[0]!r}); "
            "shorten the prefix or suffix, leave them out, or pass skip_short=True to list them as skipped"
        )
    if not long_enough:
        raise InputError(f"no document has prefix + suffix = {needed} tokens, so there is nothing to extract")


@contextmanager
def generation_settings(model: nn.Module, settings: GenerationConfig) -> Iterator[None]:
    """Inside the block, ``generate`` follows ``settings`` and nothing else."""
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
