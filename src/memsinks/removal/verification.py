"""What a removal shows of its result, against the thresholds of its plan."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transformers import AutoConfig

from memsinks.audit import (
    DocumentLosses,
    TokenizedDocument,
    bootstrap,
    bootstrap_difference,
    document_losses,
    greedy_extraction,
    wilson,
)
from memsinks.audit.discoverable import chance_within
from memsinks.audit.forced import forced
from memsinks.checkpoint.run import load
from memsinks.errors import InputError
from memsinks.removal.measured import Text
from memsinks.removal.plan import Planned
from memsinks.removal.thresholds import Thresholds
from memsinks.sinks.modes import Mode, ModeKind
from memsinks.training.run import bf16_pays

Verdict = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One figure against its threshold.

    Attributes:
        name: short.
        verdict: pass, fail or inconclusive, which is not a pass.
        figure: measured; None where it could not be.
        threshold: from the plan.
        low, high: 95 % interval of the figure, over documents.
        says: in a sentence.
    """

    name: str
    verdict: Verdict
    figure: float | None
    threshold: float | None
    low: float | None = None
    high: float | None = None
    says: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """All checks of a removal."""

    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """Fail if any check fails, else inconclusive if any is, else pass."""
        found = {check.verdict for check in self.checks}
        return "fail" if "fail" in found else "inconclusive" if "inconclusive" in found else "pass"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": "memsinks-verification",
            "format_version": 1,
            "verdict": self.verdict,
            "checks": [asdict(check) for check in self.checks],
        }


@dataclass(frozen=True, eq=False)
class Baseline:
    """What the checkpoint remembered before the removal.

    Attributes:
        held: losses of the removed text with its sinks; None for less than two documents.
        survivors: losses of the text of surviving sources with its sinks.
    """

    held: DocumentLosses | None
    survivors: dict[str, DocumentLosses]


def measure_before(planned: Planned, before: Path, *, progress: bool = False) -> Baseline:
    """What the model remembers before; needs nothing of the result.

    Args:
        planned: the removal.
        before: the checkpoint as it was.
        progress: show bars on standard error.

    Raises:
        CheckpointError: it is not whole, or was altered.
    """
    text, model = Text(planned, _context(before)), load(before)

    def losses(documents: list[TokenizedDocument]) -> DocumentLosses:
        return _losses(model, documents, "own", text.length, progress)

    return Baseline(
        held=losses(text.removed) if len(text.removed) > 1 else None,
        survivors={name: losses(documents) for name, documents in text.survivors.items()},
    )


def measure(planned: Planned, baseline: Baseline, after: Path, *, progress: bool = False) -> list[Check]:
    """What the model remembers after, against what it did before.

    Args:
        planned: the removal.
        baseline: of the checkpoint as it was.
        after: the checkpoint without the sinks.
        progress: show bars on standard error.

    Raises:
        CheckpointError: it is not whole, or was altered.
    """
    text, model = Text(planned, _context(after)), load(after)
    limits = planned.plan.thresholds
    checks = []
    modes: tuple[ModeKind, ...] = ("off", "all")
    for mode in modes:
        if baseline.held is not None and len(text.unseen) > 1:
            removed, unseen = (_losses(model, d, mode, text.length, progress) for d in (text.removed, text.unseen))
            checks.append(_recall(mode, baseline.held, removed, unseen, limits))
        else:
            checks.append(_unmeasured(f"recall, sinks {mode}", -limits.recall))
    checks += _extraction(planned, model, text)
    for name, documents in text.survivors.items():
        own = _losses(model, documents, "own", text.length, progress)
        checks.append(_survivor(name, baseline.survivors[name], own, limits.survivors))
    return [_finite(check) for check in checks]


def _context(folder: Path) -> int:
    return min(int(AutoConfig.from_pretrained(folder).max_position_embeddings), 1024)


def _losses(
    model: Any, documents: list[TokenizedDocument], mode: ModeKind, length: int, progress: bool
) -> DocumentLosses:
    return document_losses(
        model, documents, mode=Mode(mode), max_length=length, autocast=bf16_pays(), progress=progress
    )


def _recall(
    mode: str, held: DocumentLosses, removed: DocumentLosses, unseen: DocumentLosses, limits: Thresholds
) -> Check:
    """How much easier the removed text is than text never trained, against what its sinks held before."""
    memory = max(0.0, unseen.mean - held.mean)
    limit = max(limits.recall, limits.share * memory)
    interval = bootstrap(lambda a, b: a - b, removed, unseen, groups=["removed", "unseen"])
    figure = interval.estimate
    return Check(
        name=f"recall, sinks {mode}",
        verdict="pass" if interval.low >= -limit else "fail" if interval.high < -limit else "inconclusive",
        figure=figure,
        threshold=-limit,
        low=interval.low,
        high=interval.high,
        says=(
            f"the removed text has a loss of {removed.mean:.3f} nats per token, {abs(figure):.3f} "
            f"{'above' if figure >= 0 else 'below'} text that was never trained ({unseen.mean:.3f}; difference "
            f"{interval.low:+.3f} to {interval.high:+.3f}); with its sinks it had {held.mean:.3f}; {limit:.3f} below "
            "is allowed"
        ),
    )


def _extraction(planned: Planned, model: Any, text: Text) -> Iterator[Check]:
    limits = planned.plan.thresholds
    needed = limits.prefix + limits.suffix
    # A model that sees fewer tokens at once than are given and compared cannot be asked for them.
    removed, unseen = (
        [d for d in documents if needed <= min(text.length, len(d.tokens))]
        for documents in (text.whole_removed, text.whole_unseen)
    )
    if not removed or not unseen:
        for kind in ("greedy", "sampled"):
            yield _unmeasured(f"extraction, {kind}", limits.extraction)
        return
    found = [
        greedy_extraction(
            model, documents, mode=Mode("off"), prefix=limits.prefix, suffix=limits.suffix, autocast=bf16_pays()
        )
        for documents in (removed, unseen)
    ]
    own, other = (wilson(r.exact_count, len(r.documents)) for r in found)
    limit = other.high + limits.extraction
    count = found[0].exact_count
    yield Check(
        name="extraction, greedy",
        verdict="fail" if own.low > limit else "pass" if not count or own.high <= limit else "inconclusive",
        figure=own.estimate,
        threshold=limit,
        low=own.low,
        high=own.high,
        says=(
            f"given {limits.prefix} tokens, {count} of {len(removed)} removed documents come out word for word, and "
            f"{found[1].exact_count} of {len(unseen)} that were never trained"
        ),
    )
    yield _sampled(_chances(model, removed, planned), _chances(model, unseen, planned), limits)


def _sampled(removed: np.ndarray, unseen: np.ndarray, limits: Thresholds) -> Check:
    """By how much likelier an attacker finds removed documents than others; the interval is over documents."""
    if len(unseen) < 2:
        return _unmeasured("extraction, sampled", limits.extraction)
    excess, limit = bootstrap_difference(removed, unseen), limits.extraction
    low, high = (round(bound, 4) or 0.0 for bound in excess.bounds)
    return Check(
        name="extraction, sampled",
        verdict="pass" if excess.high <= limit else "fail" if excess.low > limit else "inconclusive",
        figure=excess.estimate,
        threshold=limit,
        low=excess.low,
        high=excess.high,
        says=(
            f"in {limits.samples} continuations drawn at temperature 1 the text of a removed document is found with "
            f"chance {removed.mean():.2%}, of one that was never trained {unseen.mean():.2%} (difference "
            f"{low:+.2%} to {high:+.2%}); {limit:.0%} more is allowed"
        ),
    )


def _chances(model: Any, documents: list[TokenizedDocument], planned: Planned) -> np.ndarray:
    """Chance, for each document, that one of so many samples at temperature 1 is its suffix; no sampling is needed.

    (n, p)-discoverable extraction, Hayes et al. 2025, arXiv 2410.19482.
    """
    limits = planned.plan.thresholds
    needed = limits.prefix + limits.suffix
    parts = [TokenizedDocument(d.name, d.tokens[:needed], d.sequence_id) for d in documents]
    read = forced(model, parts, mode=Mode("off"), autocast=bf16_pays())
    return chance_within([d.suffix_log_chance(limits.prefix, limits.suffix) for d in read], limits.samples)


def _survivor(name: str, before: DocumentLosses, after: DocumentLosses, limit: float) -> Check:
    figure = after.mean - before.mean
    # A single window is all that there is of the source, and has no interval.
    several = len(before) > 1
    low, high = bootstrap(lambda a, b: b - a, before, after, groups=[0, 0]).bounds if several else (figure, figure)
    verdict: Verdict = "pass" if high <= limit else "fail" if low > limit else "inconclusive"
    shown = repr(name) if name else "without a source"
    return Check(
        name=f"survivor {shown}",
        verdict=verdict,
        figure=figure,
        threshold=limit,
        low=low if several else None,
        high=high if several else None,
        says=(
            f"with its own sinks the text of {shown} has a loss of {after.mean:.3f} nats per token, {before.mean:.3f} "
            f"before; a rise of {limit:g} is allowed"
        ),
    )


def _unmeasured(name: str, threshold: float) -> Check:
    return Check(
        name=name,
        verdict="inconclusive",
        figure=None,
        threshold=threshold,
        says="not measured: the corpus holds no documents that were held out from training, none is long enough, or "
        "the model sees too few tokens at once",
    )


def _finite(check: Check) -> Check:
    """A figure that is no number fails."""
    if check.figure is None or math.isfinite(check.figure):
        return check
    return Check(name=check.name, verdict="fail", figure=None, threshold=check.threshold, says="the loss is no number")


def read_verification(file: Path) -> Verification:
    """Read a verification.

    Raises:
        InputError: it is none.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
        return Verification(checks=tuple(Check(**check) for check in content["checks"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: cannot be read as a verification ({error}); restore it from a copy") from error
