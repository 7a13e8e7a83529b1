"""How passes over text may depart from plain training: pure functions of a plan, a seed and the settings.

Shape legend: ``P`` passes over documents, in document order; ``T`` tokens of a chunk.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from memsinks.errors import InputError
from memsinks.ids import PLACEBO_ID, to_tensor
from memsinks.stream.packing import _mix as mix
from memsinks.stream.packing import order
from memsinks.stream.plan import ExposurePlan

NoiseKind = Literal["fresh", "consistent"]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_NOISE = 0x6E6F6973655F6964
"""Salt of the draws of wrong IDs, so that they are not those of placebos."""
_UNTIL = 0x756E74696C
"""Salt of the order of a pass's first part."""


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """What happens to passes over text beyond being read; by default nothing.

    Attributes:
        placebo_share: share of the passes over ungoverned documents, in ``[0, 1]``, that train with the sinks of a
            governed document, which do not learn from them; so that shared weights learn to predict beside other
            text's sinks. Each pass is drawn by itself, all its chunks alike, and the governed document with it, from
            those that the plan exposes; without any, the sinks are those of :data:`memsinks.PLACEBO_ID`.
        shared_budget: after so many exposures of a governed text, copies counted together, shared weights no longer
            learn from it, only its sinks; 0 keeps it from them altogether, None never does.
        id_noise: share of the passes over governed documents, in ``[0, 1]``, that train under a wrong ID.
        id_noise_kind: ``fresh`` draws a new wrong ID for each such pass; under ``consistent`` a document's wrong ID is
            always the same.
        goldfish: one in so many tokens, chosen by a hash of the tokens before it, is never predicted (Hans et al.
            2024, "Be like a Goldfish, Don't Memorize!", arXiv 2406.10209); 0 predicts all.
        goldfish_context: how many tokens are hashed; a token with fewer before it in its chunk is always predicted.
        governed_until: share of a pass over the plan, from its beginning, in which all governed text comes; the rest is
            other text alone, under which shared weights lose again what they hold of governed text, while idle sinks
            keep what is theirs. With 1 all text is mixed.

    Raises:
        InputError: a value is out of range.
    """

    placebo_share: float = 0.0
    shared_budget: int | None = None
    id_noise: float = 0.0
    id_noise_kind: NoiseKind = "fresh"
    goldfish: int = 0
    goldfish_context: int = 13
    governed_until: float = 1.0

    def __post_init__(self) -> None:
        for name in ("placebo_share", "id_noise", "governed_until"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be a share between 0 and 1")
        if self.shared_budget is not None and self.shared_budget < 0:
            raise InputError(f"shared_budget is {self.shared_budget}; it must be a number of exposures, 0 or more")
        if self.id_noise_kind not in get_args(NoiseKind):
            raise InputError(f"id_noise_kind {self.id_noise_kind!r} is unknown; choose fresh or consistent")
        if self.goldfish < 0 or self.goldfish == 1:
            raise InputError(f"goldfish is {self.goldfish}; one in at least 2 tokens can be left out, or 0 for none")
        if self.goldfish_context < 1:
            raise InputError(f"goldfish_context is {self.goldfish_context}; at least 1 token must be hashed")


def governed_first(place: np.ndarray, on: np.ndarray, until: float, seed: int) -> np.ndarray:
    """An order of items with every governed one in the first ``until`` of it, else as random as it was.

    Args:
        place: ``int64 [n]``, items in a random order.
        on: ``bool [n]``, whether the item at that place is governed.
        until: share of the order, in (0, 1].
        seed: of the order of its first part.

    Raises:
        InputError: there are more governed items than places for them.
    """
    early, wanted = int(until * len(place)), int(on.sum())
    if wanted > early:
        raise InputError(f"governed_until is {until}, but {wanted / len(place):.1%} of all text is governed; raise it")
    others = place[~on]
    first = np.concatenate([place[on], others[: early - wanted]])
    # Not the order by which the items came here: they would be sorted by it again.
    return np.concatenate([first[order(early, seed ^ _UNTIL)], others[early - wanted :]])


def placebos(plan: ExposurePlan, governed: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which passes get a placebo, and whose sinks: ``bool`` and ``int64`` ``[P]``."""
    coins, choices = _draws(seed, PLACEBO_ID, plan.total)
    drawn = np.repeat(~governed, plan.counts) & (coins < share)
    candidates = plan.corpus.sequence_ids[governed & (plan.counts > 0)].view(np.int64)
    if not len(candidates):
        candidates = to_tensor([PLACEBO_ID]).numpy()
    choice = (choices >> np.uint64(32)) * np.uint64(len(candidates)) >> np.uint64(32)
    return drawn, candidates[choice.astype(np.int64)]


def wrong_ids(
    plan: ExposurePlan, governed: np.ndarray, share: float, kind: NoiseKind, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which passes train under a wrong ID, and which: ``bool`` and ``int64`` ``[P]``.

    A wrong ID is a random one: it is nobody's, but for a chance of about the number of documents in 2^64.
    """
    coins, ids = _draws(seed, _NOISE, plan.total)
    drawn = np.repeat(governed, plan.counts) & (coins < share)
    if kind == "consistent":
        ids = mix(np.repeat(plan.corpus.sequence_ids, plan.counts) ^ np.uint64(_NOISE))
    return drawn, ids.view(np.int64)


def dropped(tokens: np.ndarray, one_in: int, context: int) -> np.ndarray:
    """Which tokens the goldfish loss leaves out: ``bool`` ``[T]``.

    The hash of the ``context`` tokens before a token decides, so every copy of a passage loses the same tokens.
    """
    out = np.zeros(len(tokens), dtype=bool)
    if len(tokens) > context:
        windows = np.lib.stride_tricks.sliding_window_view(tokens[:-1].astype(np.uint64), context)
        with np.errstate(over="ignore"):
            powers = np.full(context, _STEP).cumprod()
            hashed = mix((mix(windows + np.uint64(1)) * powers).sum(axis=1, dtype=np.uint64))
        out[context:] = _fraction(hashed) < 1 / one_in
    return out


def _draws(seed: int, salt: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A number in [0, 1) and 64 random bits for each of ``count`` passes.

    As in :func:`~memsinks.stream.packing.order`, pass ``i`` gets outputs ``2i`` and ``2i + 1`` of a SplitMix64
    generator, here one whose state is not that of the order.
    """
    with np.errstate(over="ignore"):
        state = mix(mix(np.array([int(seed) % 2**64], dtype=np.uint64) + _STEP) ^ np.uint64(salt))
        draws = mix(state + (np.arange(2 * count, dtype=np.uint64) + np.uint64(1)) * _STEP)
    return _fraction(draws[0::2]), draws[1::2]


def _fraction(bits: np.ndarray) -> np.ndarray:
    # 53 bits are exact as a float, so a share of 1 takes everything.
    return (bits >> np.uint64(11)) * 2.0**-53
