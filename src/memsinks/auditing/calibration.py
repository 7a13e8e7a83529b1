"""Does an audit accuse an innocent model? The same audit of sets of text that was never trained."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from memsinks.audit import wilson
from memsinks.audit.findings import Findings
from memsinks.auditing.audit import TASKS, Audit
from memsinks.auditing.bench import Bench
from memsinks.auditing.conditions import REFERENCE
from memsinks.auditing.runner import Watch, carry_out
from memsinks.auditing.sections import planned
from memsinks.auditing.texts import Texts
from memsinks.auditing.verdicts import DELIVERED, Verdict, verdicts
from memsinks.errors import ConfigError, InputError

CALIBRATION = "calibration.json"
FOLDER = "calibration"


def calibrate(
    audit: Audit, output: Path, sets: int, *, sections: Sequence[str] = (), watch: Watch | None = None
) -> dict[str, Any]:
    """Audit sets of held-out text as if they had been asked about, and count the answers that accuse.

    Each set has as many documents as the target, drawn from the held-out ones, and is compared with the rest of these,
    in the model that is handed out; a reference is used as in the audit itself. Of each question about one set in
    twenty, at most, may be answered with yes.

    Args:
        audit: planned.
        output: its folder; ``calibration.json`` is written there.
        sets: how many.
        sections: as in the audit.
        watch: is told of each task.

    Returns:
        What ``calibration.json`` holds: for each question, how many sets were answered how.

    Raises:
        ConfigError, InputError: see :func:`check_calibration`.
    """
    check_calibration(audit.audited.texts, sets)
    answers = []
    for number, bench in enumerate(_benches(audit, output, sets)):
        tasks, folder = planned(bench, sections), output / FOLDER / f"{TASKS}-{number}"
        done = carry_out(tasks, bench, folder, speed=audit.speed, watch=watch)
        shutil.rmtree(bench.work, ignore_errors=True)
        found = Findings.joined(d.findings for d in done if d.findings is not None)
        answers.append(verdicts(found.figures, complete=False))
    content = {
        "format": "memsinks-audit-calibration",
        "format_version": 1,
        "sets": sets,
        "documents": len(audit.audited.texts.target),
        "condition": _conditions(audit)[0],
        "questions": _counted(answers),
        "config": asdict(audit.config),
    }
    part = output / f".{CALIBRATION}.part"
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    part.replace(output / CALIBRATION)
    return content


def check_calibration(texts: Texts, sets: int) -> None:
    """Refuse what :func:`calibrate` cannot do, before anything is measured.

    Raises:
        ConfigError: there are no sets.
        InputError: too little text was held out.
    """
    size = len(texts.target)
    if sets < 1:
        raise ConfigError(f"--calibrate must be at least 1, not {sets}; leave it out for none")
    if len(texts.unseen) < 3 * size:
        raise InputError(
            f"{texts.corpus.place}: {len(texts.unseen)} held-out documents are too few to draw sets of {size} "
            "from, and to compare them with the rest; raise --text.unseen, or hold out more"
        )


def expected_seconds(audit: Audit, output: Path, sets: int, *, sections: Sequence[str] = ()) -> float:
    """What :func:`calibrate` will take, about: so many times what the first set takes."""
    if not sets:
        return 0.0
    tasks = planned(next(_benches(audit, output, 1)), sections)
    return sets * sum(audit.speed.seconds(task.cost) for task in tasks)


def _benches(audit: Audit, output: Path, sets: int) -> Iterator[Bench]:
    texts, conditions = audit.audited.texts, audit.audited.conditions
    random = np.random.default_rng(audit.config.seed)
    for number in range(sets):
        chosen = np.sort(random.permutation(len(texts.unseen))[: len(texts.target)])
        yield Bench(
            _innocent(texts, chosen),
            # Nothing of it has sinks, so that every mode but off would add those of others.
            {name: replace(conditions[name], mode=conditions[name].mode and "off") for name in _conditions(audit)},
            audit.config,
            output / FOLDER / f"work-{number}",
        )


def _conditions(audit: Audit) -> list[str]:
    """What is handed out, and what it is compared with."""
    there = audit.audited.conditions
    delivered = next(name for name in DELIVERED if name in there)
    references = (REFERENCE, audit.config.membership.reference)
    return list(dict.fromkeys([delivered, *(name for name in references if name in there)]))


def _innocent(texts: Texts, chosen: np.ndarray) -> Texts:
    """Some of the held-out text in place of the target, the rest of it to compare with."""
    rest = np.delete(texts.unseen, chosen)
    return replace(texts, target=texts.unseen[chosen], unseen=rest, survivors={}, same_source=True)


def _counted(answers: Sequence[Sequence[Verdict]]) -> list[dict[str, Any]]:
    found = []
    # By key: where one set's documents are too short for a question, it has one answer fewer or more.
    keys = dict.fromkeys(v.key for verdicts_of_set in answers for v in verdicts_of_set)
    for key in keys:
        asked = [v for several in answers for v in several if v.key == key and v.answer != "not measured"]
        if not asked:
            continue
        accused = [v for v in asked if v.answer == "yes"]
        found.append(
            {
                "key": key,
                "question": asked[0].question,
                "answered": len(asked),
                "yes": len(accused),
                "not sure": sum(v.answer == "not sure" for v in asked),
                "rate": wilson(len(accused), len(asked)).to_json(),
                "accused_by": sorted({measure for v in accused for measure in v.basis}),
            }
        )
    return found
