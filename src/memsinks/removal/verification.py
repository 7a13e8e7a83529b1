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
    document_losses,
    greedy_extraction,
    in_windows,
    tokenized,
    wilson,
)
from memsinks.audit.discoverable import chance_within
from memsinks.audit.forced import forced
from memsinks.checkpoint.run import load
from memsinks.errors import InputError
from memsinks.removal.plan import Planned
from memsinks.removal.thresholds import Thresholds
from memsinks.sinks.modes import Mode, ModeKind
from memsinks.training.run import bf16_pays

Verdict = Literal["pass", "fail", "inconclusive"]
FEW = 20
"""Documents below which they are scored in windows."""


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


def measure(planned: Planned, before: Path, after: Path, *, progress: bool = False) -> list[Check]:
    """What the models remember before and after.

    Args:
        planned: the removal.
        before, after: the checkpoint as it was, and without the sinks.
        progress: show bars on standard error.
    """
    text = _Text(planned)
    limits = planned.plan.thresholds
    length = min(int(AutoConfig.from_pretrained(before).max_position_embeddings), 1024)
    checks = []

    def losses(model: Any, documents: list[TokenizedDocument], mode: ModeKind) -> DocumentLosses:
        return document_losses(
            model, documents, mode=Mode(mode), max_length=length, autocast=bf16_pays(), progress=progress
        )

    few = min(len(text.removed), len(text.unseen)) < FEW
    removed, unseen = (in_windows(documents, length) if few else documents for documents in (text.removed, text.unseen))
    survivors = {
        name: in_windows(documents, length) if len(documents) < FEW else documents
        for name, documents in text.survivors.items()
    }
    original = load(before)
    held = losses(original, removed, "own") if len(removed) > 1 else None
    own_before = {name: losses(original, documents, "own") for name, documents in survivors.items()}
    del original
    result = load(after)
    modes: tuple[ModeKind, ...] = ("off", "all")
    for mode in modes:
        if held is not None and len(unseen) > 1:
            found = losses(result, removed, mode), losses(result, unseen, mode)
            checks.append(_recall(mode, held, *found, limits))
        else:
            checks.append(_unmeasured(f"recall, sinks {mode}", -limits.recall))
    checks += _extraction(planned, result, text, length)
    for name, documents in survivors.items():
        checks.append(_survivor(name, own_before[name], losses(result, documents, "own"), limits.survivors))
    return [_finite(check) for check in checks]


class _Text:
    """What is measured, each kind at most as many documents as the plan says."""

    def __init__(self, planned: Planned) -> None:
        subject, scope, most = planned.subject, planned.scope, planned.plan.thresholds.measured
        corpus = subject.corpus
        gone = scope.documents | scope.also
        sources = np.array([source or "" for source in corpus.sources])
        # The most exposed first: they are remembered best.
        order = np.argsort(-subject.exposures, kind="stable")
        self.removed = tokenized(corpus, order[gone[order]][:most])
        held_out = corpus.is_validation & np.isin(sources, np.unique(sources[gone]))
        if held_out.sum() < FEW:
            held_out = corpus.is_validation
        self.unseen = tokenized(corpus, np.flatnonzero(held_out)[:most])
        self.survivors: dict[str, list[TokenizedDocument]] = {}
        stays = subject.with_sinks & np.isin(corpus.sequence_ids, scope.survivors)
        names, counts = np.unique(sources[stays], return_counts=True)
        # All of the few, and the largest of many: a threshold for each of ten thousand sources says nothing.
        for name in names[np.argsort(-counts, kind="stable")][:20].tolist():
            self.survivors[name] = tokenized(corpus, np.flatnonzero(stays & (sources == name))[:most])


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


def _extraction(planned: Planned, model: Any, text: _Text, length: int) -> Iterator[Check]:
    limits = planned.plan.thresholds
    needed = limits.prefix + limits.suffix
    # A model that sees fewer tokens at once than are given and compared cannot be asked for them.
    removed = [d for d in text.removed if needed <= min(length, len(d.tokens))]
    unseen = [d for d in text.unseen if needed <= min(length, len(d.tokens))]
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
    chances = [_chances(model, documents, planned) for documents in (removed, unseen)]
    excess = float(chances[0].mean() - chances[1].mean())
    yield Check(
        name="extraction, sampled",
        verdict="pass" if excess <= limits.extraction else "fail",
        figure=excess,
        threshold=limits.extraction,
        says=(
            f"in {limits.samples} continuations drawn at temperature 1 the text of a removed document is found with "
            f"chance {chances[0].mean():.2%}, of one that was never trained {chances[1].mean():.2%}"
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
    interval = bootstrap(lambda a, b: b - a, before, after, groups=[0, 0])
    verdict: Verdict = "pass" if interval.high <= limit else "fail" if interval.low > limit else "inconclusive"
    shown = repr(name) if name else "without a source"
    return Check(
        name=f"survivor {shown}",
        verdict=verdict,
        figure=interval.estimate,
        threshold=limit,
        low=interval.low,
        high=interval.high,
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
