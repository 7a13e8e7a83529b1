"""Counts of exposures from weights, factors and caps: pure functions of arrays, whatever the order of the corpus.

Shape legend: ``D`` documents.
"""

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from memsinks.errors import InputError
from memsinks.stream.packing import _mix as mix

OTHERS = "*"
"""In weights: all sources that have none of their own, together."""
NO_SOURCE = ""
"""How weights and factors name the documents without a source."""

_COIN = np.uint64(0x6D69787475726573)
"""Salt of the coins, so that they are not the numbers that order the documents."""
_STEP = np.uint64(0x9E3779B97F4A7C15)
_WHOLE = 1e-9
"""A count this close to a whole number, relative to it, is meant to be one."""


class Text(NamedTuple):
    """A plan as arrays: ``int64`` counts and lengths and ``bool`` held out, each ``[D]``."""

    counts: np.ndarray
    lengths: np.ndarray
    is_validation: np.ndarray


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights divided by their sum, by name, so that the order in which they were written does not count.

    Raises:
        InputError: there are none, one is negative or not a finite number, or all are 0.
    """
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise InputError(f"the weight of {shown(name)} is {weight}; give a share of the tokens, 0 or more")
    total = math.fsum(weights.values())
    if not total > 0:
        raise InputError("the weights add up to 0; give at least one source a share of the tokens")
    return {name: weight / total for name, weight in sorted(weights.items())}


def check_factors(factors: Mapping[str, float]) -> None:
    """Raise :class:`InputError` for a factor that is not a finite number of at least 1."""
    for name, factor in factors.items():
        if not 1 <= factor < math.inf:
            raise InputError(
                f"the factor of {shown(name)} is {factor}; give 1 or more. To see less of a source, use weights "
                "and subsample"
            )


def shown(name: str) -> str:
    """A source or value in a message."""
    return repr(name) if name != NO_SOURCE else f"{NO_SOURCE!r} (without a source)"


def find_names(present: Sequence[str | None], wanted: Collection[str], what: str) -> np.ndarray:
    """Which of ``wanted`` each document has: ``int64 [D]``, -1 for none of them.

    Raises:
        InputError: no document has one of ``wanted``; the message has the nearest that occurs.
    """
    known = {value for value in present if value is not None}
    for value in wanted:
        if value not in known:
            close = difflib.get_close_matches(value, known, n=1) or sorted(known)[:3]
            raise InputError(f"no document has the {what} {value!r}; did you mean {', '.join(map(repr, close))}?")
    number = {value: i for i, value in enumerate(wanted)}
    return np.array([-1 if value is None else number.get(value, -1) for value in present], dtype=np.int64)


def check_exposed(text: Text, chosen: np.ndarray, what: str, setting: str) -> None:
    """Raise :class:`InputError` where none of the ``chosen`` documents (``bool [D]``) is exposed."""
    if (text.counts[chosen] > 0).any():
        return
    if chosen.any() and text.is_validation[chosen].all():
        raise InputError(f"{what} is held out for validation as a whole; take {setting} away")
    reason = "has no exposure in the plan" if chosen.any() else "has no document"
    raise InputError(f"{what} {reason}, and more or less of nothing is nothing; take {setting} away")


def weighted_factors(
    text: Text, sources: Sequence[str], share: Mapping[str, float], budget: float, *, subsample: bool
) -> tuple[np.ndarray, np.ndarray]:
    """What counts are multiplied by to give each source its share of ``budget``.

    Args:
        text: the plan that is scaled.
        sources: ``[D]``, of the documents.
        share: of the tokens, by source or :data:`OTHERS`; they add up to 1.
        budget: tokens in all.
        subsample: take factors that leave documents out.

    Returns:
        ``group``, ``int64 [D]``: which entry of the factors is each document's; and the factors, ``float64``.

    Raises:
        InputError: see :meth:`memsinks.ExposurePlan.weighted`.
    """
    named = [name for name in share if name != OTHERS]
    group = find_names(sources, named, "source")
    rest = (group < 0) & ~text.is_validation
    if OTHERS not in share and rest.any():
        name = shown(min(sources[i] for i in np.flatnonzero(rest).tolist()))
        raise InputError(
            f"the source {name} has no weight; give it one, or give {OTHERS!r} one "
            "for all other sources together (0 leaves them out)"
        )
    group[group < 0] = len(named)
    factors = np.zeros(len(named) + 1)
    tokens = text.counts * text.lengths
    smallest, scarce = 0.0, ""
    for i, name in enumerate([*named, OTHERS]):
        if not share.get(name):
            continue
        what = "the rest of the sources ('*')" if name == OTHERS else f"the source {shown(name)}"
        check_exposed(text, group == i, what, "its weight")
        here = (group == i) & (text.counts > 0)
        planned = int(tokens[here].sum())
        factors[i] = share[name] * budget / planned
        needed = planned / share[name] / int(text.counts[here].min())
        if needed > smallest:
            smallest, scarce = needed, f"{what} once within its share of {share[name]:.3g}"
    # A billionth for what was rounded on the way from a share to a budget and back.
    if budget < smallest * (1 - _WHOLE) and not subsample:
        raise InputError(
            f"a budget of {budget:,.0f} tokens ({budget / tokens.sum():.2f} epochs) is too small to show each document "
            f"of {scarce}; give mixture_tokens={math.ceil(smallest)} "
            f"(mixture_epochs={math.ceil(smallest / tokens.sum() * 100) / 100:.2f}) or more, or let documents be left "
            "out with subsample"
        )
    return group, factors


def hash_order(content_ids: np.ndarray, names: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An order of documents that depends on what they are and not on where they stand.

    Args:
        content_ids: ``uint64 [D]``.
        names: ``[D]``, all different; they order copies of a text.
        seed: any integer, taken modulo 2**64.

    Returns:
        ``int64 [D]``, the documents in their order, and ``uint64 [D]``, the hash of each.
    """
    with np.errstate(over="ignore"):
        state = mix(np.array([int(seed) % 2**64], dtype=np.uint64) + _STEP)
        keys = mix(content_ids ^ state)
    order = np.argsort(keys, kind="stable")
    if (np.diff(keys[order]) == 0).any():
        order = np.array(sorted(range(len(keys)), key=lambda i: (int(keys[i]), names[i])), dtype=np.int64)
    return order, keys


def round_counts(
    wanted: np.ndarray, lengths: np.ndarray, groups: Sequence[np.ndarray], order: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    """Whole counts of exposures near ``wanted``, with nearly its tokens.

    Each document gets the whole number below or above what is wanted, above with the probability of the fraction (over
    seeds). Documents are settled two at a time, and what one of them gains in tokens the other loses (the pivotal
    method of Deville and Tillé, 1998, at unequal sizes), first within the groups of ``groups[0]``, then what is left of
    them within those of ``groups[1]``, and so on, then all. So the tokens of each group are those wanted but for less
    than one document, its longest; and of all text but for half a document at most.

    Args:
        wanted: ``float64 [D]``, exposures, 0 or more.
        lengths: ``int64 [D]``, tokens.
        groups: any number of ``int64 [D]``, each a coarser grouping than the one before.
        order: ``int64 [D]``, in which documents are settled.
        keys: ``uint64 [D]``, random bits of each.

    Returns:
        ``int64 [D]``.
    """
    near = np.rint(wanted)
    wanted = np.where(np.abs(wanted - near) <= _WHOLE * np.maximum(near, 1), near, wanted)
    counts = np.floor(wanted).astype(np.int64)
    pending = order[(wanted > counts)[order]]
    # In tokens, which a pair exchanges one for one.
    part = {int(d): float((wanted[d] - counts[d]) * lengths[d]) for d in pending}
    size = {d: float(lengths[d]) for d in part}
    for level, group in enumerate([*groups, np.zeros(len(wanted), dtype=np.int64)]):
        pending = pending[np.argsort(group[pending], kind="stable")]
        # 53 bits are exact as a float.
        coins = (mix(keys ^ (_COIN + np.uint64(level))) >> np.uint64(11)) * 2.0**-53
        pending = _settle(pending, group, part, size, coins)
    # All but the last are 0 or full, up to rounding; the last goes to the nearer.
    counts[[d for d, tokens in part.items() if tokens >= size[d] / 2]] += 1
    return counts


def _settle(
    pending: np.ndarray, group: np.ndarray, part: dict[int, float], size: dict[int, float], coins: np.ndarray
) -> np.ndarray:
    """Bring ``part`` to 0 or ``size`` for all documents but at most one of each group; those are returned."""
    left: list[int] = []
    held, of = -1, -1
    for d, g, coin in zip(pending.tolist(), group[pending].tolist(), coins[pending].tolist(), strict=True):
        if held < 0 or g != of:
            if held >= 0:
                left.append(held)
            held, of = d, g
            continue
        a, b = part[held], part[d]
        up, down = min(size[held] - a, b), min(a, size[d] - b)
        if coin * (up + down) < down:
            # The exact ends, which sums of fractions would miss.
            part[held], part[d] = (a + b, 0.0) if up == b else (size[held], a + b - size[held])
        else:
            part[held], part[d] = (0.0, a + b) if down == a else (a + b - size[d], size[d])
        unsettled = [i for i in (held, d) if 0 < part[i] < size[i]]
        held = unsettled[0] if unsettled else -1
    return np.array([*left, *([held] if held >= 0 else [])], dtype=np.int64)


def cap_groups(counts: np.ndarray, groups: np.ndarray, times: int, order: np.ndarray) -> np.ndarray:
    """Counts of which no group has more than ``times`` in all.

    A group that has more keeps exactly ``times``, divided in proportion to its counts by largest remainders; where
    remainders are equal, ``order`` decides. All in integers.

    Args:
        counts: ``int64 [D]``.
        groups: ``[D]``, what documents have in common, such as their sequence IDs.
        times: at least 1.
        order: ``int64 [D]``, the documents in an order.

    Returns:
        ``int64 [D]``, none above its count.
    """
    _, group = np.unique(groups, return_inverse=True)
    totals = np.zeros(int(group.max(initial=-1)) + 1, dtype=np.int64)
    np.add.at(totals, group, counts)
    out = counts.copy()
    over = order[(totals[group] > times)[order]]
    if not len(over):
        return out
    # Python's integers, for a product of two counts may not fit 64 bits.
    products = counts[over].astype(object) * times
    out[over] = (products // totals[group[over]]).astype(np.int64)
    remainders = (products % totals[group[over]]).astype(np.int64)
    by_remainder = np.lexsort((-remainders, group[over]))
    ranked = over[by_remainder]
    first = np.flatnonzero(np.diff(group[ranked], prepend=-1))
    place = np.arange(len(ranked)) - np.repeat(first, np.diff(first, append=len(ranked)))
    given = np.zeros(len(totals), dtype=np.int64)
    np.add.at(given, group[over], out[over])
    out[ranked[place < times - given[group[ranked]]]] += 1
    return out
