"""Which allocation suits the deletion terms, why, and what to write into the run file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tomlkit

from memsinks.planning.allocations import Assessment
from memsinks.planning.governed import GovernedText, Units
from memsinks.planning.overlap import ROUNDING, fraction_lost, fraction_lost_by_units, smallest_pool
from memsinks.planning.question import Question
from memsinks.report.format import count, percent
from memsinks.sinks.config import Allocation, SinkConfig


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """What to do.

    Attributes:
        allocation: the policy.
        pool: rows in a layer.
        active: rows of one ID.
        owned: rows that are kept for owners, where a part of the pool is.
        owners: the sources whose IDs own them.
        fits: within the rows that may be trained.
        as_in_run: the run file says so already.
        reasons: why, in sentences.
        settings: the keys of ``[sinks]`` that say so, as TOML.
    """

    allocation: Allocation
    pool: int
    active: int
    owned: int
    owners: tuple[str, ...]
    fits: bool
    as_in_run: bool
    reasons: tuple[str, ...]
    settings: str


def recommend(
    assessments: Sequence[Assessment],
    text: GovernedText,
    units: Units,
    question: Question,
    *,
    max_pool: int,
    likely: np.ndarray,
    shared_width: int | None = None,
) -> Recommendation:
    """The allocation with the fewest rows among those that fit and spare survivors; else the smallest that would.

    Args:
        assessments: of the candidates.
        text: governed text.
        units: what can be removed.
        question: the deletion terms.
        max_pool: most rows in a layer's pool.
        likely: ``int64 [*]``, places of the IDs that are expected to leave.
        shared_width: of the MLPs, if the run file has ``sinks.shared``, which fixes the pool.
    """
    chosen = [a for a in assessments if a.fits and a.within]
    if chosen:
        best = min(chosen, key=lambda a: _rank(a.candidate.config))
        config, candidate = best.candidate.config, best.candidate
        reasons = _why(best, units, question, max_pool)
        reasons += [_why_not(a, units, question, max_pool) for a in assessments if a not in chosen]
        reasons += [
            f"{a.candidate.name} would do too, with {count(int(a.candidate.config.pool))} sinks a layer instead of "
            f"{count(int(config.pool))}."
            for a in chosen
            if int(a.candidate.config.pool) > int(config.pool)
        ]
    else:
        enlarged = [(_enlarged(a, len(text), units, question, likely), a.candidate) for a in assessments]
        config, candidate = min(((c, who) for c, who in enlarged if c is not None), key=lambda pair: _rank(pair[0]))
        reasons = [_why_not(a, units, question, max_pool) for a in assessments]
        fewer = _fewer(assessments, units, question, likely, max_pool, len(text))
        reasons.append(
            f"The smallest pool that keeps to the terms is {config.allocation} with {count(int(config.pool))} sinks a "
            f"layer: raise --max-pool if that can be trained, allow a higher --collateral, or govern less text.{fewer}"
        )
    as_in_run = candidate.of_run and bool(chosen)
    reasons += _besides(config, text, units, question)
    if shared_width is not None and not as_in_run:
        reasons.append(
            "sinks.shared fixes the pool: leave it out of the run file, and give the model MLPs of "
            f"{count(shared_width)} hidden units (model.width, or intermediate_size in its configuration), as wide as "
            "they are shared now."
        )
    return Recommendation(
        allocation=config.allocation,
        pool=int(config.pool),
        active=int(config.active),
        owned=int(config.owned) if config.allocation == "hybrid" else 0,
        owners=candidate.sources,
        fits=bool(chosen),
        as_in_run=as_in_run,
        reasons=tuple(reasons),
        settings=_settings(config, candidate.sources),
    )


def _rank(config: SinkConfig) -> tuple[int, int]:
    """Fewest rows first; of equals the simplest."""
    order: list[Allocation] = ["hashed", "hybrid", "disjoint"]
    return int(config.pool), order.index(config.allocation)


def _besides(config: SinkConfig, text: GovernedText, units: Units, question: Question) -> list[str]:
    """What other IDs would change."""
    if units.kind != "source" or len(units) >= len(text) or question.terms == "together":
        return []
    sinks, active = count(int(config.active) * len(units)), count(int(config.active))
    return [
        f'With one ID for a source (corpus.ids = "source") disjoint allocation needs {sinks} sinks a layer for '
        f"{count(len(units))} sources instead of {count(int(config.active) * len(text))} for {count(len(text))} IDs; "
        f"all text of a source then shares {active} sinks."
    ]


def _why(best: Assessment, units: Units, question: Question, max_pool: int) -> list[str]:
    name, config = best.candidate.name, best.candidate.config
    sinks = f"{count(int(config.pool))} sinks a layer, of {count(max_pool)} that may be trained"
    if question.terms == "together":
        return [f"All governed text leaves together, so no survivor can lose anything, and {name} needs {sinks}."]
    if name == "disjoint":
        return [
            f"Each of {count(len(best.candidate.owners))} IDs owns {count(int(config.active))} sinks, so that removing "
            f"any of them takes nothing from the others; this needs {sinks}."
        ]
    whose = _request(question, best, units)
    if name == "hybrid":
        found = [f"The sources that are expected to ask own their sinks; this needs {sinks}."]
        if best.collateral == 0:
            found.append(f"After {whose}, nobody else loses a sink.")
        else:
            found.append(f"After {whose}, a survivor that shares sinks loses {percent(best.collateral)} of its sinks.")
        if question.terms == "likely" and best.losses:
            first = best.losses[0]
            found.append(
                f"Should others ask after all: a survivor that shares sinks loses {percent(first.expected)} of its "
                f"sinks after the removal of {units.some(first.removed)}, drawn from all."
            )
        return found
    return [
        f"After {whose}, a survivor loses {percent(best.collateral)} of its sinks; {percent(question.collateral)} is "
        f"allowed. The pool is shared, so that it needs {sinks}, whatever the number of {units.name}."
    ]


def _why_not(assessed: Assessment, units: Units, question: Question, max_pool: int) -> str:
    name, pool = assessed.candidate.name, int(assessed.candidate.config.pool)
    problems = []
    if not assessed.within:
        problems.append(
            f"a survivor that shares sinks loses {percent(assessed.collateral)} of its sinks after "
            f"{_request(question, assessed, units)}, where {percent(question.collateral)} is allowed"
        )
    if not assessed.fits:
        problems.append(f"it needs {count(pool)} sinks a layer, {pool / max_pool:.3g} times what may be trained")
    return f"Not {name}: {', and '.join(problems)}."


def _request(question: Question, assessed: Assessment, units: Units) -> str:
    if question.terms == "likely":
        return "the removal of all sources that are expected to ask"
    return f"the removal of {units.some(len(assessed.curve) - 1)}"


def _fewer(
    assessments: Sequence[Assessment], units: Units, question: Question, likely: np.ndarray, max_pool: int, ids: int
) -> str:
    """How many sinks an ID may switch on in the pool that may be trained, as a sentence; empty if none."""
    most = {"disjoint": max_pool // ids}
    hashed = next((a for a in assessments if a.candidate.name == "hashed"), None)
    if hashed is not None and question.collateral:
        block = hashed.candidate.config.block
        lost = _lost(hashed, ids, units, question, likely)
        low, high = 0, max_pool // block
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high)
                if lost(max_pool, middle * block) <= question.collateral + ROUNDING
                else (low, middle - 1)
            )
        most["hashed"] = low * block
    found = [f"at most {count(number)} under {name} allocation" for name, number in most.items() if number]
    return f" Or have an ID switch on fewer sinks (sinks.active): {', '.join(found)}." if found else ""


def _enlarged(
    assessed: Assessment, ids: int, units: Units, question: Question, likely: np.ndarray
) -> SinkConfig | None:
    """The candidate with as many shared rows as the terms need; None if no number of them is enough."""
    config = assessed.candidate.config
    if assessed.within:
        return config
    if question.collateral == 0:
        return None
    active, lost = int(config.active), _lost(assessed, ids, units, question, likely)
    rows = smallest_pool(lambda pool: lost(pool, active), active, question.collateral, config.block)
    return replace(config, pool=rows + int(config.owned))


def _lost(
    assessed: Assessment, ids: int, units: Units, question: Question, likely: np.ndarray
) -> Callable[[int, int], float]:
    """The loss that the terms ask about, by the rows that are shared and those of one ID."""
    most = len(assessed.curve) - 1
    sharing = np.ones(ids, dtype=bool)
    sharing[assessed.candidate.owners] = False
    if question.terms == "likely":
        removed = int(sharing[likely].sum())
        return lambda rows, active: fraction_lost(rows, active, removed)
    counts = units.counts(sharing)
    others = bool(units.unnamed)
    return lambda rows, active: float(fraction_lost_by_units(rows, active, counts, most, others=others)[-1])


def _settings(config: SinkConfig, owners: tuple[str, ...]) -> str:
    document = tomlkit.document()
    sinks = tomlkit.table()
    sinks["allocation"] = config.allocation
    sinks["pool"] = int(config.pool)
    sinks["active"] = int(config.active)
    if config.allocation == "hybrid":
        sinks["owned"] = int(config.owned)
        sinks["owners"] = list(owners)
    document["sinks"] = sinks
    return tomlkit.dumps(document)
