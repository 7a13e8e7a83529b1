"""The three ways to give rows to IDs, each worked out for one corpus: what survivors lose, and what it costs.

Shape legend: ``N`` governed IDs, ``M + 1`` numbers of removed units from 0 on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memsinks.planning.governed import GovernedText, Units
from memsinks.planning.overlap import ROUNDING, fraction_lost, fraction_lost_by_units, survivor_deviation
from memsinks.planning.question import Question
from memsinks.planning.simulation import Selector, Simulated, lost_fractions, simulate
from memsinks.runs.estimate import Estimate, estimate
from memsinks.sinks.config import Allocation, SinkConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One way to give rows to IDs.

    Attributes:
        config: the pool, with counts, large enough for its owners.
        owners: ``int64 [*]``, places of the IDs that own rows.
        sources: whose IDs these are, under hybrid allocation.
        of_run: the run file says so.
    """

    config: SinkConfig
    owners: np.ndarray
    sources: tuple[str, ...] = ()
    of_run: bool

    @property
    def name(self) -> Allocation:
        """The allocation policy."""
        return self.config.allocation

    @property
    def shared_rows(self) -> int:
        """Rows of a layer that IDs choose from."""
        return int(self.config.pool) - int(self.config.owned)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What survivors that share rows lose after a number of units left.

    Attributes:
        removed: units that left.
        expected: fraction of a survivor's sinks.
        deviation: standard deviation of one survivor's fraction, where each unit removes as many IDs.
        simulated: with the corpus's own IDs, or None where nobody shares rows.
    """

    removed: int
    expected: float
    deviation: float | None
    simulated: Simulated | None


@dataclass(frozen=True, kw_only=True)
class LikelyLoss:
    """What survivors that share rows lose after all sources that are expected to ask have left.

    Attributes:
        ids: that leave.
        survivors: IDs that share rows and stay.
        expected: fraction of a survivor's sinks.
        mean, worst: over the survivors, with the rows that these IDs select.
    """

    ids: int
    survivors: int
    expected: float
    mean: float
    worst: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a model with such a pool takes.

    Attributes:
        parameters: of all sinks.
        sink_flops: FLOPs a token, forward, of sinks; averaged over tokens with sinks on and off.
        flops: FLOPs a token of training, all together.
        sink_state: bytes of the sinks' fp32 weights and AdamW state.
        fp32, bf16: bytes of a device at the peak, by the precision of matrix products; weights are fp32 in both.
    """

    parameters: int
    sink_flops: float
    flops: float
    sink_state: float
    fp32: float
    bf16: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Assessment:
    """A candidate, worked out.

    Attributes:
        candidate: what was worked out.
        fits: the pool has at most the rows that may be trained.
        collateral: the loss that the deletion terms ask about.
        within: it is at most what survivors may bear.
        losses: by number of units that leave.
        curve: ``float64 [M + 1]``, the expected loss for each number up to the largest.
        likely: after the sources that are expected to ask have left, if any are named and somebody stays.
        cost: of the model.
    """

    candidate: Candidate
    fits: bool
    collateral: float
    within: bool
    losses: tuple[Loss, ...]
    curve: np.ndarray
    likely: LikelyLoss | None
    cost: Cost


def candidates(
    run: Candidate, count: int, likely: np.ndarray, max_pool: int, sources: tuple[str, ...] = ()
) -> list[Candidate]:
    """Hashed, disjoint and, if somebody is likely to ask, hybrid allocation for the same IDs and active rows.

    Hashed has the run's rows and disjoint as many as its owners need. Hybrid adds the rows of its owners to the run's
    as far as ``max_pool`` allows, and else takes them from the shared part; where nothing would be left to share, it
    is the pool that it would need.

    Args:
        run: what the run file says.
        count: governed IDs.
        likely: ``int64 [*]``, places of the IDs that are expected to leave.
        max_pool: most rows in a layer's pool.
        sources: whose IDs these are.

    Returns:
        In this order, the run's own among them, or after them if its owners are others.
    """
    base = run.config
    active, everybody = int(base.active), np.arange(count)
    found = [_made(run, allocation="hashed", owners=everybody[:0])]
    slots = active * count
    found.append(_made(run, allocation="disjoint", pool=slots, owned=slots, mask="per_layer", owners=everybody))
    if 0 < len(likely) < count:
        owned = active * len(likely)
        whole = int(base.pool) - int(base.owned if base.allocation == "hybrid" else 0) + owned
        squeezed = min(whole, max_pool // base.block * base.block)
        pool = squeezed if squeezed - owned >= active else whole
        found.append(_made(run, allocation="hybrid", pool=pool, owned=owned, owners=likely, sources=sources))
    return found if any(candidate.of_run for candidate in found) else [*found, run]


def assess(
    candidate: Candidate,
    text: GovernedText,
    units: Units,
    question: Question,
    likely: np.ndarray,
    *,
    model_config: Any,
    plain: Estimate,
    max_pool: int,
    seed: int,
) -> Assessment:
    """Work out one candidate.

    Args:
        candidate: to work out.
        text: governed text.
        units: what can be removed.
        question: the deletion terms.
        likely: ``int64 [*]``, places of the IDs that are expected to leave.
        model_config: transformers configuration, at the shared width.
        plain: an estimate of the run, whose layout, tokens and rate are kept.
        max_pool: most rows in a layer's pool.
        seed: of the simulation.

    Raises:
        ConfigError: a number is out of range.
    """
    config = candidate.config
    selector = Selector(ids=text.ids, config=config, layers=model_config.num_hidden_layers, owners=candidate.owners)
    numbers = question.numbers(units)
    sharing = units.counts(selector.sharing)
    others = bool(units.unnamed)
    curve = np.zeros(1 + max(numbers, default=0))
    if sharing.any():
        pool, active = candidate.shared_rows // config.block, int(config.active) // config.block
        curve = fraction_lost_by_units(pool, active, sharing, max(numbers, default=0), others=others)
    simulated = {s.removed: s for s in simulate(selector, units, numbers, draws=question.draws, seed=seed)}
    gone = likely_loss(selector, candidate, likely) if len(likely) else None
    collateral = {
        "each": float(curve[-1]),
        "likely": 0.0 if gone is None else gone.expected,
        "together": 0.0,
    }[question.terms]
    return Assessment(
        candidate=candidate,
        fits=int(config.pool) <= max_pool,
        collateral=collateral,
        within=collateral <= question.collateral + ROUNDING,
        losses=tuple(
            Loss(
                removed=number,
                expected=float(curve[number]),
                deviation=_deviation(candidate, sharing, number, selector.layers),
                simulated=simulated.get(number),
            )
            for number in numbers
        ),
        curve=curve,
        likely=gone,
        cost=cost_of(model_config, config, plain),
    )


def likely_loss(selector: Selector, candidate: Candidate, likely: np.ndarray) -> LikelyLoss | None:
    """What others lose when all IDs at ``likely`` leave; None if nobody who shares rows stays."""
    leaves = np.zeros(len(selector.ids), dtype=bool)
    leaves[likely] = True
    sharing = selector.sharing
    survivors = np.flatnonzero(sharing & ~leaves)
    if not len(survivors):
        return None
    losses = lost_fractions(selector, np.flatnonzero(sharing & leaves), survivors)
    removed = int((sharing & leaves).sum())
    return LikelyLoss(
        ids=len(likely),
        survivors=len(survivors),
        expected=fraction_lost(candidate.shared_rows, int(candidate.config.active), removed),
        mean=float(losses.mean()),
        worst=float(losses.max()),
    )


def cost_of(model_config: Any, config: SinkConfig | None, like: Estimate) -> Cost:
    """What a model with such a pool, or without one, takes when it trains as ``like`` does."""
    fp32, bf16 = (
        estimate(model_config, config, replace(like.geometry, bf16=precision), tokens=like.tokens)
        for precision in (False, True)
    )
    none = estimate(model_config, None, replace(like.geometry, bf16=False), tokens=like.tokens)
    return Cost(
        parameters=fp32.parameters.sinks,
        sink_flops=fp32.flops.sinks,
        flops=fp32.flops.total,
        sink_state=fp32.memory.weights + fp32.memory.moments - none.memory.weights - none.memory.moments,
        fp32=fp32.memory.peak,
        bf16=bf16.memory.peak,
    )


def _made(run: Candidate, *, owners: np.ndarray, sources: tuple[str, ...] = (), **changes: Any) -> Candidate:
    """The run's candidate if it has this allocation and these owners, else one with its pool changed."""
    if run.name == changes["allocation"] and np.array_equal(run.owners, owners):
        return run
    config = replace(run.config, **({"owned": 0} | changes))
    return Candidate(config=config, owners=owners, sources=sources, of_run=False)


def _deviation(candidate: Candidate, sharing: np.ndarray, number: int, layers: int) -> float | None:
    config = candidate.config
    if not len(sharing) or not sharing[0] or (sharing != sharing[0]).any():
        return None
    independent = 1 if config.mask == "shared" else len(config.layer_numbers(layers))
    pool, active = candidate.shared_rows // config.block, int(config.active) // config.block
    return survivor_deviation(pool, active, number * int(sharing[0]), independent)


def of_run(assessments: Sequence[Assessment]) -> Assessment:
    """The one that the run file asks for."""
    return next(a for a in assessments if a.candidate.of_run)
