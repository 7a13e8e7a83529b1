"""All that can be said before training about what a run will be able to remove."""

from dataclasses import dataclass, replace

import numpy as np

from memsinks.errors import ConfigError, InputError
from memsinks.planning.allocations import Assessment, Candidate, Cost, assess, candidates, cost_of, of_run
from memsinks.planning.cautions import Caution, cautions
from memsinks.planning.governed import GovernedText, Units
from memsinks.planning.question import Question
from memsinks.planning.recommendation import Recommendation, recommend
from memsinks.runs.build import Blueprint, brings_sinks, plan_model, plan_run
from memsinks.runs.config import RunConfig
from memsinks.runs.estimate import Estimate
from memsinks.runs.memory import Geometry
from memsinks.sinks.config import SinkConfig, mlp_width


@dataclass(frozen=True, kw_only=True, eq=False)
class RemovalPlan:
    """What a run will be able to remove, and at what cost.

    Attributes:
        config: of the run.
        question: the deletion terms.
        corpus: SHA-256 of the corpus's manifest.
        vocabulary: tokens that the tokenizer knows.
        layers: with sinks.
        text: governed text.
        units: what can be removed.
        run: the run file's pool, large enough for its owners.
        max_pool: most rows in a layer's pool.
        layout: of a training step, for which costs are estimated; each cost has its own precision.
        plain: the cost of the model without sinks.
        assessments: of all allocations.
        recommendation: one of them, or a larger one.
        cautions: what must not be overlooked.
    """

    config: RunConfig
    question: Question
    corpus: str
    vocabulary: int
    layers: int
    text: GovernedText
    units: Units
    run: SinkConfig
    max_pool: int
    layout: Geometry
    plain: Cost
    assessments: tuple[Assessment, ...]
    recommendation: Recommendation
    cautions: tuple[Caution, ...]

    @property
    def likely(self) -> tuple[str, ...]:
        """Sources that are expected to ask."""
        return self.question.likely or self.config.sinks.owners

    @property
    def of_run(self) -> Assessment:
        """What the run file asks for."""
        return of_run(self.assessments)


def readable(config: RunConfig) -> RunConfig:
    """The run with a hashed pool of its size: its text and model can be planned whatever its owners need.

    Raises:
        ConfigError: the run has no sinks, or goes on with those of a pretrained model.
    """
    if not config.sinks.attach:
        raise ConfigError("sinks.attach is false: without sinks nothing can be removed, so there is nothing to plan")
    if brings_sinks(config):
        raise ConfigError(
            f"model.pretrained: {config.model.pretrained} has sinks already, and text that was trained before is in "
            "them; a plan is for a new pool, so give the model without its sinks"
        )
    pool = config.sinks.pool
    if config.sinks.allocation == "disjoint" and pool is None and config.sinks.shared is None:
        # Without a pool, active is a number of rows that need not fit into the default one.
        pool = config.sinks.active if isinstance(config.sinks.active, int) else None
    return replace(config, sinks=replace(config.sinks, allocation="hashed", owned=0, owners=(), pool=pool))


def make_plan(config: RunConfig, blueprint: Blueprint, like: Estimate, question: Question) -> RemovalPlan:
    """Work out the plan.

    Args:
        config: of the run.
        blueprint: of ``readable(config)``.
        like: an estimate of ``readable(config)``, whose layout of a step is kept.
        question: the deletion terms.

    Raises:
        InputError: nothing is governed, a source is unknown, or a number leaves no survivor.
        ConfigError: settings do not fit each other or the model.
    """
    corpus = blueprint.text.corpus
    text = GovernedText.of(blueprint.text)
    units = Units.of(text, question.unit)
    names = question.likely or config.sinks.owners
    if question.terms == "likely" and not names:
        raise InputError("--terms likely: name the sources that are expected to ask, with --likely")
    likely = text.owned_by(names)
    stated, run = _run_candidate(config, blueprint, text)
    max_pool = int(stated.pool) if question.max_pool is None else question.max_pool
    model_config = blueprint.model_config
    assessments = tuple(
        assess(
            candidate,
            text,
            units,
            question,
            likely,
            model_config=model_config,
            plain=like,
            max_pool=max_pool,
            seed=config.seed,
        )
        for candidate in candidates(run, len(text), likely, max_pool, names)
    )
    recommendation = recommend(
        assessments,
        text,
        units,
        question,
        max_pool=max_pool,
        likely=likely,
        shared_width=None if config.sinks.shared is None else mlp_width(model_config),
    )
    found = cautions(
        of_run(assessments),
        text,
        units,
        question,
        stated=stated,
        likely=names,
        vocabulary=len(corpus.tokenizer),
    )
    return RemovalPlan(
        config=config,
        question=question,
        corpus=corpus.hash,
        vocabulary=len(corpus.tokenizer),
        layers=len(stated.layer_numbers(model_config.num_hidden_layers)),
        text=text,
        units=units,
        run=run.config,
        max_pool=max_pool,
        layout=like.geometry,
        plain=cost_of(model_config, None, like),
        assessments=assessments,
        recommendation=recommendation,
        cautions=tuple(found),
    )


def plan_blueprint(config: RunConfig) -> Blueprint:
    """The blueprint that :func:`make_plan` takes."""
    return plan_run(readable(config))


def _run_candidate(config: RunConfig, blueprint: Blueprint, text: GovernedText) -> tuple[SinkConfig, Candidate]:
    """The pool as the run file says, and the same with as many owned rows as its owners need."""
    allocation = config.sinks.allocation
    by_owners = allocation == "disjoint" and config.sinks.pool is None
    _, stated = plan_model(config, blueprint.text.corpus, len(text) if by_owners else 0)
    assert stated is not None
    owners = np.arange(len(text)) if allocation == "disjoint" else text.owned_by(config.sinks.owners)
    missing = max(0, len(owners) * int(stated.active) - int(stated.owned))
    enough = replace(stated, pool=int(stated.pool) + missing, owned=int(stated.owned) + missing) if missing else stated
    return stated, Candidate(config=enough, owners=owners, sources=config.sinks.owners, of_run=True)
