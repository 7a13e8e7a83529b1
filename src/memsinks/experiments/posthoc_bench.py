"""The bench on which methods that forget after training are compared: what they may use, and how they are judged.

A method has several trials, and each trial a range: shares of neurons removed, or steps of unlearning. The operating
point is the place with the most forgetting (1, that of a model that never saw the text, is enough) among those that
raise the loss of one half of the held-out stories by at most 5 %; it is reported on the other half.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Protocol

from memsinks.audit import DocumentLosses, TokenizedDocument, document_losses
from memsinks.experiments import relearning
from memsinks.experiments.lab import Arm
from memsinks.experiments.memory import extraction_row, loss_row, memory_rows
from memsinks.experiments.results import Row
from memsinks.experiments.stories import StoryLab
from memsinks.experiments.story_arms import STANDARD, UNSEEN
from memsinks.training.run import bf16_pays

HELD_OUT = 60
"""Held-out stories in each half: every place on every range is measured on both."""
ALLOWED = 1.05
"""Most that the validation loss may grow at the operating point."""
Visit = Callable[[float, Any], None]


class Trial(Protocol):
    """One setting of a method."""

    def range(self, visit: Visit) -> None:
        """Call ``visit`` with every place on the range, from 0, which changes nothing, and the model there."""

    def at(self, x: float) -> AbstractContextManager[Any]:
        """The model at one place."""


@dataclass(frozen=True)
class Point:
    """A place on a method's range: how far it went, and what the losses then are."""

    trial: int
    x: float
    losses: dict[str, DocumentLosses]
    selection: DocumentLosses


class Bench:
    """The standard model, its references, and the text that methods may use.

    ``forget`` is the text to forget; ``retain`` are stories seen once, none of which is measured.
    """

    def __init__(self, lab: StoryLab, documents: str) -> None:
        self.lab, self.target = lab, documents
        self.sets = lab.text.sets()
        validation = self.sets.pop("validation")[: 2 * HELD_OUT]
        self.sets["validation"], self.selection = validation[0::2], validation[1::2]
        self.sets.pop("seen_once")
        self.forget: list[TokenizedDocument] = self.sets[documents]
        self.retain = lab.text.documents(lab.text.once[-200:])
        self.length = lab.setting.max_length
        self.model = lab.model(STANDARD)
        self.standard = self.losses(self.model)
        self.unseen = lab.measured(UNSEEN).losses(documents, "plain")

    def losses(self, model: Any) -> dict[str, DocumentLosses]:
        """Losses of all that is reported."""
        return {name: self._measure(model, documents) for name, documents in self.sets.items()}

    def rows(self, method: str, trials: Sequence[Trial], facts: Any = None) -> list[Row]:
        """The range of every trial, and the operating point with its intervals; kept once measured.

        Args:
            method: whose rows these are.
            trials: as many for every method.
            facts: what else the measurement depends on.
        """
        key = {
            "version": version("memsinks"),
            "arms": [self.lab.measured(arm).data["fingerprint"] for arm in (STANDARD, UNSEEN)],
            "held_out": HELD_OUT,
            "trials": len(trials),
            "facts": facts,
        }
        name = f"{method}_{self.target}"
        found = self.lab.kept(name, key, lambda: [asdict(row) for row in self._rows(method, trials)])
        return [Row(**row) for row in found]

    def operating_point(self, found: Sequence[Point]) -> Point:
        """The most forgetting, 1 being enough, at a selection loss of at most 5 % more; of equals the least harmful.

        Where no point is allowed it is the untouched model, which every range begins with.
        """
        limit = ALLOWED * self._measure(self.model, self.selection).mean
        within = [point for point in found if point.selection.mean <= limit]

        def forgotten(point: Point) -> tuple[float, float]:
            return min(1.0, point.losses[self.target].mean / self.unseen.mean), -point.selection.mean

        return max(within, key=forgotten, default=found[0])

    def _rows(self, method: str, trials: Sequence[Trial]) -> list[Row]:
        found: list[Point] = []
        for number, trial in enumerate(trials):

            def visit(x: float, model: Any, number: int = number) -> None:
                found.append(Point(number, x, self.losses(model), self._measure(model, self.selection)))

            trial.range(visit)
        rows = []
        for point in found:
            name = f"{method}_{point.trial}"
            rows += [Row(arm=name, measure=n, x=point.x, value=losses.mean) for n, losses in point.losses.items()]
            share = point.losses[self.target].mean / self.unseen.mean
            rows += [Row(arm=name, measure="forgetting", x=point.x, value=share), self._rise(name, point, point.x)]
        best = self.operating_point(found)
        rows += [loss_row(method, n, losses) for n, losses in best.losses.items()]
        rows += memory_rows(method, best.losses, None, self.standard, self.unseen, documents=self.target)
        rows += [
            self._rise(method, best, None),
            Row(arm=method, measure="chosen_trial", value=best.trial),
            Row(arm=method, measure="chosen_x", value=best.x),
        ]
        with trials[best.trial].at(best.x) as model:
            rows += [extraction_row(method, self.lab.extraction(model)), self.relearned(method, model)]
        return rows

    def relearned_arm(self, arm: Arm) -> Row:
        """How much comes back to an arm as it is served, plain or with sinks off; kept once measured."""
        mode = "off" if arm.modes else "plain"
        key = [self.lab.measured(arm).data["fingerprint"], relearning.STEPS, relearning.ROWS, relearning.RATE]

        def measure() -> dict[str, Any]:
            return asdict(self.relearned(arm.name, self.lab.model(arm, plain=True), mode))

        return Row(**self.lab.kept(f"relearned_{arm.name}_{self.target}", key, measure))

    def relearned(self, arm: str, model: Any, mode: str = "plain") -> Row:
        """How much of the text comes back after a few steps on half of it; ``model`` is not changed."""
        losses = relearning.relearned(model, self.forget, max_length=self.length, seed=self.lab.seed)
        return loss_row(arm, "relearned", losses, mode)

    def _measure(self, model: Any, documents: list[TokenizedDocument]) -> DocumentLosses:
        return document_losses(model, documents, mode=None, max_length=self.length, autocast=bf16_pays())

    def _rise(self, name: str, point: Point, x: float | None) -> Row:
        rise = point.losses["validation"].mean - self.standard["validation"].mean
        return Row(arm=name, measure="degradation", value=rise, x=x)
