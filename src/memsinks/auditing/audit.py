"""An audit from its start to ``audit.json``."""

import hashlib
import json
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from memsinks.audit.findings import Findings
from memsinks.auditing.bench import Bench
from memsinks.auditing.conditions import least_context
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.costs import cost
from memsinks.auditing.document import AUDIT, FORMAT, FORMAT_VERSION, write_audit
from memsinks.auditing.limits import limits
from memsinks.auditing.runner import Done, Watch, carry_out
from memsinks.auditing.sections import PLANNERS, check_sections, planned
from memsinks.auditing.speed import Speed
from memsinks.auditing.subject import Audited
from memsinks.auditing.task import Task
from memsinks.auditing.texts import Texts
from memsinks.auditing.verdicts import verdicts
from memsinks.config import config_hash
from memsinks.errors import InputError

PLAN, TASKS, WORK = "plan.json", "tasks", "work"


@dataclass(frozen=True, eq=False)
class Audit:
    """An audit that is about to run.

    Attributes:
        audited: what.
        config: how.
        bench: what its tasks work on.
        tasks: in the order in which they run.
        speed: of the models.
    """

    audited: Audited
    config: AuditConfig
    bench: Bench
    tasks: tuple[Task, ...]
    speed: Speed

    @property
    def seconds(self) -> float:
        """Estimated, of all tasks."""
        return sum(self.speed.seconds(task.cost) for task in self.tasks)


def plan_audit(audited: Audited, config: AuditConfig, output: Path, *, sections: Sequence[str] = ()) -> Audit:
    """Plan the tasks, and measure how fast the model is.

    Args:
        audited: what.
        config: how; no more tokens are scored together than each of the models sees at once.
        output: a new folder, or that of the same audit, which was stopped.
        sections: names of those to run; default all.

    Raises:
        ConfigError: there is no section of such a name.
        InputError: ``output`` holds something else, or another audit.
    """
    check_sections(sections)
    config = _within_context(audited, config)
    bench = Bench(audited.texts, audited.conditions, config, output / WORK)
    tasks = planned(bench, sections)
    _claim(output, _identity(audited, config))
    first = bench.opened(next(iter(audited.conditions)))
    speed = Speed.of(first, int(first.model.config.vocab_size), config.text.max_length, seed=config.seed)
    return Audit(audited, config, bench, tasks, speed)


def _within_context(audited: Audited, config: AuditConfig) -> AuditConfig:
    length = min(config.text.max_length, least_context(audited.conditions.values()))
    return replace(config, text=replace(config.text, max_length=int(length)))


def run_audit(audit: Audit, output: Path, *, budget: float | None = None, watch: Watch | None = None) -> dict[str, Any]:
    """Run what has no result yet, and write ``audit.json``.

    Args:
        audit: planned.
        output: as in :func:`plan_audit`.
        budget: seconds; see :func:`~memsinks.auditing.runner.carry_out`.
        watch: is told of each task.

    Returns:
        What ``audit.json`` holds, see :mod:`memsinks.auditing.document`.
    """
    done = carry_out(audit.tasks, audit.bench, output / TASKS, speed=audit.speed, budget=budget, watch=watch)
    content = _content(audit, done)
    write_audit(content, output / AUDIT)
    shutil.rmtree(output / WORK, ignore_errors=True)
    return content


def _content(audit: Audit, done: list[Done]) -> dict[str, Any]:
    audited, config = audit.audited, audit.config
    texts = audited.texts
    # By section, not by when they were measured.
    told = sorted(done, key=lambda d: list(PLANNERS).index(d.section))
    found = Findings.joined(d.findings for d in told if d.findings is not None)
    sources = sorted({texts.corpus.sources[i] or "" for i in texts.target.tolist()})
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "run": {"name": audited.folder.resolve().name, **_model_facts(audit)},
        "target": {
            "asked": audited.asked,
            "removed": audited.gone,
            "documents": len(texts.target),
            "complete": texts.complete,
            "tokens": int(texts.corpus.lengths[texts.target].sum()),
            "ids": len(texts.target_ids),
            "sources": sources,
            "least_exposures": int(audited.exposures.min()),
            "most_exposures": int(audited.exposures.max()),
            "sha256": _text_hash(texts, texts.target),
        },
        "unseen": {
            "documents": len(texts.unseen),
            "tokens": int(texts.corpus.lengths[texts.unseen].sum()),
            "same_source": texts.same_source,
            "sha256": _text_hash(texts, texts.unseen),
        },
        "conditions": [
            {
                "name": condition.name,
                "says": condition.says,
                "model": condition.folder.resolve().name,
                "in_memory": bool(condition.without),
            }
            for condition in audited.conditions.values()
        ],
        "lineage": _lineage_facts(audited),
        **found.to_json(),
        "left_out": [{"task": d.task, "why": d.why} for d in done if d.findings is None],
        "config": asdict(config),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("memsinks", "torch", "transformers")},
        },
        "seconds": round(sum(d.seconds for d in done), 1),
    }
    answers = [*verdicts(found.figures, complete=texts.complete), cost(found.figures)]
    return {**content, "verdicts": [asdict(answer) for answer in answers], "limits": limits(content, answers)}


def _model_facts(audit: Audit) -> dict[str, Any]:
    model = audit.bench.opened(next(iter(audit.audited.conditions))).model
    return {
        "family": model.config.model_type,
        "parameters": sum(p.numel() for p in model.parameters()),
        "corpus": audit.audited.texts.corpus.hash,
    }


def _lineage_facts(audited: Audited) -> dict[str, Any] | None:
    if audited.lineage is None:
        return None
    return {
        "trainings": [asdict(stage) for stage in audited.lineage.stages],
        "removals": [asdict(removal) for removal in audited.lineage.removals],
    }


def _text_hash(texts: Texts, numbers: np.ndarray) -> str:
    """Of documents by their content, in any order and under any sequence IDs: audits of the same text have the same."""
    return hashlib.sha256(np.sort(texts.corpus.content_ids[numbers]).tobytes()).hexdigest()


def _identity(audited: Audited, config: AuditConfig) -> dict[str, Any]:
    """What an audit is of: results of another are not its own."""
    texts = audited.texts
    return {
        "format": "memsinks-audit-plan",
        "config": config_hash(config),
        "corpus": texts.corpus.hash,
        "target": hashlib.sha256(
            texts.corpus.sequence_ids[texts.target].tobytes() + texts.target.tobytes()
        ).hexdigest(),
        "texts": _sets_hash(audited),
        "models": {name: _weights_hash(condition.folder) for name, condition in audited.conditions.items()},
        "memsinks": version("memsinks"),
    }


def _sets_hash(audited: Audited) -> str:
    """Of what was asked and of every set: two questions may have the same target, cut to its most exposed documents."""
    texts = audited.texts
    sets = {"unseen": texts.unseen, **texts.survivors, **{f"held out: {k}": v for k, v in texts.validation.items()}}
    content = [audited.asked, audited.gone, texts.complete, {name: n.tolist() for name, n in sets.items()}]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _weights_hash(folder: Path) -> str:
    """Of names, sizes and headers of the weights: enough to tell models apart, without reading gigabytes."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            digest.update(
                f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}".encode() + opened.read(1 << 20)
            )
    return digest.hexdigest()


def _claim(output: Path, identity: dict[str, Any]) -> None:
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file; choose a new folder for the audit")
    plan = output / PLAN
    if plan.is_file():
        try:
            before = json.loads(plan.read_text("utf-8"))
        except ValueError:
            before = {}
        if before != identity:
            differs = next((k for k in identity if before.get(k) != identity[k]), "format")
            raise InputError(
                f"{output} holds another audit (its {differs} differs); choose a new folder, or remove this one"
            )
        return
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output} exists and is not empty; choose a new folder for the audit")
    output.mkdir(parents=True, exist_ok=True)
    part = output / f".{PLAN}.part"
    part.write_text(json.dumps(identity, indent=1) + "\n", "utf-8")
    part.replace(plan)
