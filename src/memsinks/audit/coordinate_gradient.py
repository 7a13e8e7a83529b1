"""Search for a prompt that makes a model write a given text: greedy coordinate gradient.

Zou et al. 2023, "Universal and transferable adversarial attacks on aligned language models", arXiv 2307.15043. In each
step the gradient with respect to the prompt's embeddings tells, for every place, which tokens promise the lowest loss
of the text; some single replacements are drawn from these at random, tried, and the best is kept.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from memsinks.audit.session import measuring, sequence_id_inputs
from memsinks.errors import InputError
from memsinks.sinks.modes import ModeLike


@dataclass(frozen=True, kw_only=True)
class SearchBudget:
    """How hard a prompt is searched for.

    Attributes:
        steps: replacements made at most.
        candidates: replacements tried in a step.
        promising: tokens for each place that the gradient proposes.

    Raises:
        InputError: any of them is below 1.
    """

    steps: int = 25
    candidates: int = 16
    promising: int = 64

    def __post_init__(self) -> None:
        if min(self.steps, self.candidates, self.promising) < 1:
            raise InputError(f"steps, candidates and promising must be at least 1, not {self}")


@dataclass(frozen=True, eq=False)
class Search:
    """What was found.

    Attributes:
        prompts: int64 ``[d, m]``, the best for each text.
        found: bool ``[d]``, greedy decoding after it writes the text.
    """

    prompts: np.ndarray
    found: np.ndarray


def search_prompts(
    model: nn.Module,
    texts: np.ndarray,
    *,
    mode: ModeLike | None,
    sequence_ids: Sequence[int],
    length: int,
    allowed: np.ndarray,
    budget: SearchBudget,
    seed: int,
    begin: Sequence[int] = (),
    autocast: bool = False,
) -> Search:
    """A prompt of ``length`` tokens for each text; a text whose prompt is found takes no further steps.

    A prompt never gets worse: where no replacement lowers the loss, it stays as it is for that step.

    Args:
        model: a causal language model; with sinks attached unless ``mode`` is None.
        texts: int64 ``[d, n]``, what shall be written.
        mode: which sinks to switch on; None for a plain model.
        sequence_ids: of each text; a search under the text's own sinks is one under all its prompts' too.
        length: tokens of a prompt, without ``begin``.
        allowed: int64, tokens that a prompt may have.
        budget: of each text.
        seed: of first prompts and replacements.
        begin: markers that stand before every prompt.
        autocast: compute in bfloat16.

    Raises:
        InputError: no text, no token allowed, or an impossible length.
    """
    texts, allowed = np.asarray(texts, dtype=np.int64), np.asarray(allowed, dtype=np.int64)
    if texts.ndim != 2 or not texts.size or not len(allowed) or length < 1 or len(sequence_ids) != len(texts):
        raise InputError(
            "a search needs texts [d, n] of one length with a sequence ID each, tokens that are allowed, and a prompt "
            "of at least 1 token"
        )
    random = np.random.default_rng(seed)
    prompts = random.choice(allowed, size=(len(texts), length))
    found = np.zeros(len(texts), dtype=bool)
    with measuring(model, mode, autocast=autocast) as device:
        run = _Run(model, mode, device, torch.tensor(list(begin), dtype=torch.int64, device=device))
        barred = torch.ones(run.embedding.shape[0], dtype=torch.bool, device=device)
        barred[torch.from_numpy(allowed).to(device)] = False
        for _ in range(budget.steps):
            left = np.flatnonzero(~found).tolist()
            if not left:
                break
            own = torch.from_numpy(texts[left]).to(device)
            ids = [sequence_ids[i] for i in left]
            promising = run.promising(prompts[left], own, ids, barred, min(budget.promising, len(allowed)))
            tried = _replaced(prompts[left], promising, budget.candidates, random)
            prompts[left], found[left] = run.best(tried, own, ids)
    return Search(prompts, found)


@dataclass(eq=False)
class _Run:
    model: Any
    mode: ModeLike | None
    device: torch.device
    begin: Tensor

    @property
    def embedding(self) -> Tensor:
        return self.model.get_input_embeddings().weight

    def promising(
        self, prompts: np.ndarray, texts: Tensor, ids: Sequence[int], barred: Tensor, count: int
    ) -> np.ndarray:
        """Tokens that the gradient proposes for each place: ``int64 [d, m, count]``."""
        with torch.enable_grad(), _captured(self.model.get_input_embeddings()) as outputs:
            losses, _ = self._judged(torch.from_numpy(prompts).to(self.device), texts, ids)
            (gradient,) = torch.autograd.grad(losses.sum(), outputs)
        at = slice(len(self.begin), len(self.begin) + prompts.shape[1])
        scores = gradient[:, at].float() @ self.embedding.detach().float().T
        return scores.masked_fill(barred, torch.inf).topk(count, largest=False).indices.cpu().numpy()

    def best(self, tried: np.ndarray, texts: Tensor, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The best of ``[d, c, m]`` prompts for each text, and whether the text comes out."""
        count, each, length = tried.shape
        flat = torch.from_numpy(tried.reshape(count * each, length)).to(self.device)
        many = [i for i in ids for _ in range(each)]
        losses, exact = self._judged(flat, texts.repeat_interleave(each, dim=0), many)
        # One that brings the text out wins over one with a lower loss that does not.
        ranked = torch.where(exact, losses - torch.finfo(torch.float32).max / 2, losses).view(count, each)
        chosen = ranked.argmin(dim=1).cpu().numpy()
        rows = np.arange(count)
        return tried[rows, chosen], exact.view(count, each).cpu().numpy()[rows, chosen]

    def _judged(self, prompts: Tensor, texts: Tensor, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Loss of each text after its prompt, and whether all its tokens are first choices."""
        begin = self.begin.expand(len(prompts), -1)
        inputs = torch.cat([begin, prompts, texts], dim=1)
        keywords = sequence_id_inputs(ids, self.mode, self.device)
        logits = self.model(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            use_cache=False,
            logits_to_keep=texts.shape[1] + 1,
            **keywords,
        ).logits[:, :-1]
        losses = F.cross_entropy(logits.float().transpose(1, 2), texts, reduction="none").sum(dim=1)
        return losses, (logits.argmax(dim=-1) == texts).all(dim=1)


def _replaced(prompts: np.ndarray, promising: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """The prompts as they are, and ``count`` copies with one token replaced: ``[d, 1 + count, m]``."""
    rows, length, width = promising.shape
    tried = np.repeat(prompts[:, None], 1 + count, axis=1)
    places = random.integers(length, size=(rows, count))
    picks = random.integers(width, size=(rows, count))
    row = np.arange(rows)[:, None]
    tried[row, 1 + np.arange(count), places] = promising[row, places, picks]
    return tried


@contextmanager
def _captured(embedding: nn.Module) -> Iterator[list[Tensor]]:
    """The output of the input embedding, as a leaf to differentiate by; works where ``inputs_embeds`` is not taken."""
    outputs: list[Tensor] = []

    def capture(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_())
        return outputs[-1]

    handle = embedding.register_forward_hook(capture)
    try:
        yield outputs
    finally:
        handle.remove()
