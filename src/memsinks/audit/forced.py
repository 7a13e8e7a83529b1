"""What a model would write, from one teacher-forced pass and without generation.

Greedy decoding reproduces a suffix exactly if, and only if, each of its tokens is the model's first choice after the
document's own tokens before it: as long as nothing differs, generation and document are the same input. So one forward
pass over a document decides every prefix length at once, and gives the chance of a suffix under sampling too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from memsinks.audit.chunks import batches_of
from memsinks.audit.documents import TokenizedDocument
from memsinks.audit.losses import SLICE_TOKENS
from memsinks.audit.session import measuring, sequence_id_inputs
from memsinks.errors import InputError
from memsinks.sinks.modes import ModeLike


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: divides the logits.
        top_k: only so many of the most likely tokens can be drawn, and their chances are scaled to a sum of 1; tokens
            as likely as the last of them can be drawn too. None: all.

    Raises:
        InputError: a temperature of 0 or less, or no token to draw from.
    """

    temperature: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise InputError(f"temperature ({self.temperature}) must be above 0; greedy decoding needs no sampling")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k ({self.top_k}) must be at least 1; None draws from all tokens")


@dataclass(frozen=True, eq=False)
class ForcedDocument:
    """What a model makes of each token of a document, given the document's tokens before it.

    Attributes:
        name: the document.
        first_choice: bool ``[n]``, the token is the most likely one; False for the first, which is given.
        log_chance: float64 ``[n]``, natural logarithm of the chance that it is drawn, -inf if it cannot be; 0 for the
            first.
    """

    name: str
    first_choice: np.ndarray
    log_chance: np.ndarray

    def matching(self, prefix: int, suffix: int) -> int:
        """Tokens that greedy decoding reproduces after ``prefix``, up to the first difference or ``suffix``.

        Raises:
            InputError: the document has no such suffix, or nothing would be given.
        """
        return int(self.first_choice[self._suffix(prefix, suffix)].cumprod().sum())

    def exact(self, prefix: int, suffix: int) -> bool:
        """Whether greedy decoding reproduces all of the suffix; see :meth:`matching`."""
        return self.matching(prefix, suffix) == suffix

    def suffix_log_chance(self, prefix: int, suffix: int) -> float:
        """Natural logarithm of the chance that one sample is the suffix, -inf if none can be; see :meth:`matching`."""
        return float(self.log_chance[self._suffix(prefix, suffix)].sum())

    @property
    def longest_run(self) -> int:
        """Most tokens in a row that greedy decoding reproduces, given all before them, from whichever place on."""
        edges = np.flatnonzero(np.diff(self.first_choice.astype(np.int8), prepend=0, append=0))
        return int((edges[1::2] - edges[0::2]).max(initial=0))

    def _suffix(self, prefix: int, suffix: int) -> slice:
        if min(prefix, suffix) < 1 or prefix + suffix > len(self.first_choice):
            raise InputError(
                f"document {self.name!r} has {len(self.first_choice)} tokens: no suffix of {suffix} after {prefix}"
            )
        return slice(prefix, prefix + suffix)


def forced(
    model: nn.Module,
    documents: Sequence[TokenizedDocument],
    *,
    mode: ModeLike | None,
    sampling: Sampling | None = None,
    batch_tokens: int = 16384,
    autocast: bool = False,
) -> list[ForcedDocument]:
    """Read each document once, whole.

    In bfloat16, as in any other precision, a token that is about as likely as the first choice may win or lose by
    rounding, and generation with a cache rounds differently.

    Args:
        model: a causal language model; with sinks attached unless ``mode`` is None.
        documents: each no longer than the model sees at once.
        mode: which sinks to switch on; None measures a plain model, without sequence IDs.
        sampling: of the chances; default from all tokens at temperature 1.
        batch_tokens: tokens (padding included) in one forward; documents of like length go together.
        autocast: compute in bfloat16; chances are taken in float32.

    Returns:
        One for each document, in their order.

    Raises:
        InputError: no documents, or one without tokens.
    """
    if not documents or not all(len(d.tokens) for d in documents):
        raise InputError("there is nothing to read: pass at least one document, and each with at least one token")
    sampling = sampling or Sampling()
    found: dict[int, ForcedDocument] = {}
    with measuring(model, mode, autocast=autocast) as device:
        for batch, inputs, mask, _ in batches_of(documents, max(len(d.tokens) for d in documents), batch_tokens):
            inputs, mask = inputs.to(device), mask.to(device)
            ids = sequence_id_inputs([documents[i].sequence_id for i in batch], mode, device)
            logits = model(input_ids=inputs, attention_mask=mask, use_cache=False, **ids).logits
            # Not logits without their last place: these would be copied, and are the largest thing in memory.
            first, chance = _judged(logits, inputs.roll(-1, dims=1), sampling)
            for row, index in enumerate(batch):
                later = len(documents[index].tokens) - 1
                found[index] = ForcedDocument(
                    documents[index].name,
                    np.concatenate([[False], first[row, :later]]),
                    np.concatenate([[0.0], chance[row, :later]]),
                )
    return [found[i] for i in range(len(documents))]


def _judged(logits: Tensor, tokens: Tensor, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """Whether each token is the first choice, and its log chance: ``[B, T]`` each."""
    parts = list(_sliced(logits.flatten(0, 1), tokens.flatten(), sampling))
    first = torch.cat([p[0] for p in parts]).view_as(tokens)
    chance = torch.cat([p[1] for p in parts]).view_as(tokens)
    return first.cpu().numpy(), chance.double().cpu().numpy()


def _sliced(logits: Tensor, tokens: Tensor, sampling: Sampling) -> Iterator[tuple[Tensor, Tensor]]:
    for part, own in zip(logits.split(SLICE_TOKENS), tokens.split(SLICE_TOKENS), strict=True):
        first = part.argmax(dim=-1) == own
        scores = part.float() / sampling.temperature
        if sampling.top_k is not None and sampling.top_k < scores.shape[-1]:
            last = scores.topk(sampling.top_k, dim=-1).values[:, -1:]
            scores = scores.masked_fill(scores < last, -torch.inf)
        yield first, scores.log_softmax(dim=-1).gather(1, own[:, None])[:, 0]
