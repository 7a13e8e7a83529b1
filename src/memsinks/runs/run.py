"""One run of ``memsinks train``: from its configuration to a model on disk, again and again until it is done."""

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from transformers import TrainerCallback

from memsinks.audit import TokenizedDocument, tokenized
from memsinks.baselines.adapters import Adapter
from memsinks.checkpoint.card import CardFacts, trained_sources, write_card
from memsinks.checkpoint.run import staged
from memsinks.config import config_hash, config_toml, flat_values
from memsinks.corpus import Corpus
from memsinks.corpus.storage import Place
from memsinks.errors import InputError
from memsinks.runs.build import Blueprint, build_model, plan_run
from memsinks.runs.config import RunConfig
from memsinks.runs.evaluation import Evaluation
from memsinks.runs.exposures import as_lines, exposures_table, show
from memsinks.runs.gauge import Gauge, RankMeter, training_flops_per_token
from memsinks.runs.lineage import RECORD, extended
from memsinks.runs.live import LiveView, RunLog
from memsinks.runs.metrics import METRICS, MetricsWriter
from memsinks.runs.peak import peak_flops
from memsinks.sinks.isolation import check_isolation
from memsinks.training import checkpoints
from memsinks.training.exposures import EXPOSURES
from memsinks.training.optimizer import uses_sinks
from memsinks.training.ranks import ranks
from memsinks.training.run import PLAN, TrainResult, TrainText, bf16_pays, planned_steps, train, training_rows
from memsinks.training.state import whole_weights
from memsinks.training.trainer import SinkTrainer

CONFIG, LOCK = "run.toml", ".lock"
ADAPTER = "adapter"
"""Key of the record that names the adapter of a run that has one."""
_FREE = ("model.attention", "sinks.kernel")
"""Settings of the model that may change when a run goes on: they decide how it is computed, not what."""


def corpus_of_run(run: Path, path: Place) -> Corpus:
    """Open the corpus at ``path`` with the sequence IDs that a finished run gave it.

    Raises:
        InputError: see :meth:`memsinks.corpus.Corpus.open`.
    """
    try:
        ids = json.loads((run / RECORD).read_text())["text"].get("ids")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        ids = None  # not a run of memsinks train, or one without a record
    return Corpus.open(path, ids=ids)


@dataclass(frozen=True)
class Finished:
    """How a run ended.

    Attributes:
        stopped: it was asked to stop before its end.
        summary: lines to show.
    """

    stopped: bool
    summary: list[str]


def working_directory(config: RunConfig) -> Path:
    """Where a run keeps checkpoints, metrics and log."""
    return working_directory_of(config.output)


def working_directory_of(output: Path) -> Path:
    """That of a run whose model goes to ``output``."""
    return output.with_name(f"{output.name}-run")


def execute(
    config: RunConfig,
    *,
    fresh: bool = False,
    compact: bool = False,
    follow: Mapping[str, Sequence[TokenizedDocument]] | None = None,
    adapter: Adapter | None = None,
    card_sources: bool = False,
) -> Finished:
    """Train, or go on from the newest checkpoint of the same run; all ranks call it.

    A run that is done is left as it is, so that a scheduler may start its command again.

    Args:
        config: of the run.
        fresh: forget an earlier start instead of going on from it.
        compact: show a bar and the loss only, as one of many runs does; the log has everything all the same.
        follow: sets of documents whose losses are followed; by default what is planned at least twice, ``repeated``,
            and what is held out, ``validation``.
        adapter: what learns in place of the model's own weights; the model is saved with it merged in.
        card_sources: name the sources of governed text in the model card.

    Raises:
        InputError: the output exists, a file cannot be used, or another command is training this run.
        WorkerError: a process of the loader died.
        ConfigError: settings do not fit, or an earlier start had others.
    """
    first = int(os.environ.get("RANK", 0)) == 0
    taken = config.output.exists() and (not config.output.is_dir() or any(config.output.iterdir()))
    named = {} if adapter is None else {ADAPTER: repr(adapter)}
    facts = {"config_sha256": config_hash(config), **named}
    if taken and (fresh or not _is_of(config, facts)):
        raise _not_empty(config)
    blueprint = plan_run(config)
    record_facts = {**facts, "text": blueprint.text.facts()}
    if taken:
        if not _is_of(config, record_facts):
            raise _not_empty(config)
        return Finished(False, [f"{config.output}: this run has already finished; nothing to do"])
    directory = working_directory(config)
    with ExitStack() as stack:
        if first:
            stack.enter_context(alone_in(directory))
        if fresh and first:
            _empty(directory)
        model = build_model(blueprint)
        merge = None if adapter is None else adapter.put_on(model)
        resume = bool(checkpoints.checkpoints(directory)) and not fresh
        if first:
            check_space(config, model)
        notes = [f"attention {blueprint.attention.reason}", *_text_notes(blueprint.text)]
        table = exposures_table(config, blueprint.text) if first else None
        if table is not None and not compact:
            show(table, stderr=True)
        view = None
        if config.logging.live:
            shown = [] if compact else notes
            view = stack.enter_context(LiveView(config.output.name, notes=shown, compact=compact))
        lines = [] if table is None else as_lines(table)
        log = RunLog(directory / "run.log", config.output.name, notes=[*notes, *lines])

        def say(message: str) -> None:
            if first:
                log.say(message)
                if view is not None:
                    view.note(message)

        result = train(
            model,
            blueprint.text,
            config,
            directory,
            resume=resume,
            callbacks=lambda trainer: _callbacks(blueprint, model, trainer, directory, log, view, follow),
            say=say,
            facts=facts,
            companions={CONFIG: config_toml(config)},
            settings={
                **{k: v for k, v in flat_values(config) if k.startswith(("model.", "sinks.")) and k not in _FREE},
                **named,
            },
            optimizer=None if adapter is None else adapter.optimizer(model, config.optimizer),
        )
        record = _record(blueprint, result, record_facts)
        if not result.stopped:
            if merge is not None:
                merge()
            _save(config, blueprint, result, record, directory, card_sources)
    if ranks() > 1:
        dist.barrier()
        dist.destroy_process_group()
    return Finished(result.stopped, _summary(config, result, record))


def _is_of(config: RunConfig, facts: dict[str, Any]) -> bool:
    """Whether what is at the output is a finished run of which these facts are true."""
    try:
        record = json.loads((config.output / RECORD).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and facts.items() <= record.items()


def _not_empty(config: RunConfig) -> InputError:
    return InputError(f"{config.output} exists and is not empty; choose another output or move it away")


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Keep other commands out of a run's folder; the system lets go of it when this process ends, however it does.

    Raises:
        InputError: another command is in it.
    """
    lock = FileLock(directory / LOCK, blocking=False)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"another command is training in {directory}; wait until it is done, or choose another output"
        ) from error
    except OSError as error:
        raise InputError(
            f"{directory}: cannot be written ({error.strerror or error}); choose another output"
        ) from error
    try:
        yield
    finally:
        # While it is held: whoever gets it afterwards sees that the file has gone, and makes another.
        (directory / LOCK).unlink(missing_ok=True)
        lock.release()
        # A run that failed before its first checkpoint leaves nothing.
        with suppress(OSError):
            directory.rmdir()


def _empty(directory: Path) -> None:
    """Remove what is in a run's folder but for its lock."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink()


def check_space(config: RunConfig, model: Any) -> None:
    """Refuse before training what would fail after it.

    Raises:
        InputError: the disk has too little room for the checkpoints that are kept, and the model.
    """
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    # A checkpoint has two moments beside the weights; one more is there while the oldest is about to go.
    needed = weights + 3 * weights * (config.checkpoints.keep + 1)
    folder = config.output.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{config.output}: {config.checkpoints.keep} checkpoints and the model take about {needed / 1e6:,.0f} MB, "
            f"and {free / 1e6:,.0f} MB are free; make room, choose another disk or lower checkpoints.keep"
        )


def _callbacks(
    blueprint: Blueprint,
    model: Any,
    trainer: SinkTrainer,
    directory: Path,
    log: RunLog,
    view: LiveView | None,
    follow: Mapping[str, Sequence[TokenizedDocument]] | None,
) -> list[TrainerCallback]:
    config, text = blueprint.config, blueprint.text
    if trainer.args.should_save:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / CONFIG).write_text(config_toml(config))
        text.plan.save(directory / PLAN)
    steps = planned_steps(len(training_rows(text, config)), config)
    device = trainer.args.device
    peak = peak_flops(device, torch.bfloat16 if trainer.args.bf16 else torch.float32)
    gauge = Gauge(
        RankMeter(trainer),
        flops_per_token=training_flops_per_token(model, config.stream.max_length),
        peak_flops=None if peak is None else peak * ranks(),
        histogram_every=max(1, steps // 20),
    )
    trainer.extra_logs = gauge.extra_logs
    every = config.logging.evaluate_every
    every = max(1, steps // 20) if every is None else every
    callbacks: list[TrainerCallback] = [gauge]
    if config.stream.packed:
        callbacks.append(_Isolation())
    callbacks.append(MetricsWriter(directory / METRICS, gauge))
    callbacks += [log] if view is None else [log, view]
    if every:
        callbacks.append(
            Evaluation(
                model,
                _documents(text, config.logging.evaluate_documents) if follow is None else follow,
                ("own", "off") if uses_sinks(model) else (None,),
                every=every,
                max_length=config.stream.max_length,
                log=trainer.log,
                gauge=gauge,
            )
        )
    return callbacks


class _Isolation(TrainerCallback):
    """Shows, on the model as it will train, that packed documents do not see each other."""

    def on_train_begin(self, *args: Any, model: Any = None, **kwargs: Any) -> None:
        check_isolation(model)


def _documents(text: TrainText, most: int) -> dict[str, list[TokenizedDocument]]:
    kinds = {"repeated": text.plan.counts >= 2, "validation": text.corpus.is_validation}
    return {name: tokenized(text.corpus, np.flatnonzero(chosen)[:most]) for name, chosen in kinds.items()}


def _text_notes(text: TrainText) -> list[str]:
    planned = text.plan.counts > 0
    governed = int((planned & text.governed).sum())
    notes = [f"{text.plan.total:,} exposures of {int(planned.sum()):,} documents, {governed:,} of them governed"]
    if text.refused:
        notes.append(f"{text.refused:,} exposures of text that was removed from the pretrained model are left out")
    return notes


def _record(blueprint: Blueprint, result: TrainResult, facts: dict[str, Any]) -> dict[str, Any]:
    text = blueprint.text
    return {
        "format": "memsinks-run",
        "format_version": 2,
        **facts,
        "governed_documents": int(text.governed.sum()),
        "planned_exposures": text.plan.total,
        **({"refused_exposures": text.refused} if text.refused else {}),
        "steps": result.steps,
        "tokens": result.tokens,
        "padding_share": round(result.padding / result.slots, 4),
        "waiting_share": round(result.waiting_seconds / result.seconds, 4),
        "seconds": round(result.seconds, 1),
        "skipped_steps": result.skipped_steps,
        "world_size": result.trainer.args.world_size,
        "attention": {"name": blueprint.attention.name, "reason": blueprint.attention.reason},
        "bf16": bf16_pays() if blueprint.config.precision.bf16 is None else blueprint.config.precision.bf16,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("memsinks", "torch", "transformers", "accelerate")},
        },
    }


def _save(
    config: RunConfig,
    blueprint: Blueprint,
    result: TrainResult,
    record: dict[str, Any],
    directory: Path,
    card_sources: bool = False,
) -> None:
    """The model and what it came from; the first rank writes, all take part."""
    trainer = result.trainer
    weights = whole_weights(trainer.bare_model(), keep=trainer.args.should_save)
    if not trainer.args.should_save:
        return
    with staged(config.output) as staging:
        trainer.bare_model().save_pretrained(staging, state_dict=weights)
        blueprint.text.corpus.tokenizer.save_pretrained(staging)
        result.exposures.save(staging)
        facts = CardFacts()
        if uses_sinks(model := trainer.bare_model()):
            lineage = extended(blueprint, record)
            lineage.write(staging)
            facts = CardFacts(
                config=model.sink_config,
                table=model.sink_allocation,
                govern=config.exposures.govern,
                governed=record["governed_documents"],
                lineage=lineage,
                sources=trained_sources(blueprint.text.corpus, lineage) if card_sources else None,
            )
        write_card(staging, facts)
        blueprint.text.plan.save(staging / PLAN)
        shutil.copyfile(directory / METRICS, staging / METRICS)
        (staging / CONFIG).write_text(config_toml(config))
        (staging / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def _summary(config: RunConfig, result: TrainResult, record: dict[str, Any]) -> list[str]:
    directory = working_directory(config)
    if result.stopped:
        return [
            f"stopped after step {result.steps}; its checkpoint is in {directory}. The same command goes on from there."
        ]
    return [
        f"{result.steps} steps over {result.tokens:,} tokens; {record['padding_share']:.1%} of token slots were "
        f"padding, {record['waiting_share']:.1%} of this start's {result.seconds:.0f} s was spent waiting for data",
        f"{config.output}: the model (plain loaders read it with sinks off), {PLAN}, {EXPOSURES}, {METRICS}, {RECORD}, "
        f"{CONFIG}",
        f"{directory}: run.log and checkpoints; remove it when you no longer want to resume",
    ]
