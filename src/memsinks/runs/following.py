"""Where a run is, from what it logs, in words."""

from dataclasses import dataclass, field
from datetime import datetime

from memsinks.runs.metrics import parse_logs

_SHOWN = (
    ("loss", "loss", lambda v: f"{v:.4f}"),
    ("grad_norm", "gradient norm", lambda v: f"{v:.3g}"),
    ("learning_rate", "learning rate", lambda v: f"{v:.2e}"),
    ("tokens_per_second", "tokens/s", lambda v: f"{v:,.0f}"),
    ("mfu", "MFU", lambda v: f"{v:.1%}"),
    ("padding_share", "padding", lambda v: f"{v:.1%}"),
    ("waiting_share", "waiting for data", lambda v: f"{v:.1%}"),
    ("skipped_steps", "skipped steps", lambda v: f"{v:,.0f}" if v else ""),
)
"""Name in the logs, name on the screen, how it is written; what is written as nothing is left out."""


@dataclass
class Following:
    """What is known of a run at the moment.

    Attributes:
        step, max_steps: where it is, and where it ends.
        first_step: where this process took it up.
        training: the latest figures, by name in the logs.
        evaluation: documents -> mode -> latest loss.
        change: the same keys -> change since the measurement before.
        exposures: bin -> number of sequence IDs.
    """

    step: int = 0
    max_steps: int = 0
    first_step: int = 0
    training: dict[str, float] = field(default_factory=dict)
    evaluation: dict[str, dict[str, float]] = field(default_factory=dict)
    change: dict[str, dict[str, float]] = field(default_factory=dict)
    exposures: dict[str, float] = field(default_factory=dict)

    def lines(self, logs: dict[str, float], pace: str) -> list[str]:
        """Take in what was logged, and put it in lines of text."""
        entry = parse_logs(logs)
        head = f"step {self.step}/{self.max_steps}"
        found = []
        if entry.training:
            self.training = entry.training
            done = self.step / self.max_steps if self.max_steps else 1.0
            found.append("  ".join([f"{head} ({done:.0%})", *(f"{n} {v}" for n, v in self.figures()), pace]).rstrip())
        if entry.evaluation:
            self.change = {
                documents: {m: v - self.evaluation[documents][m] for m, v in losses.items() if m in before}
                for documents, losses in entry.evaluation.items()
                if (before := self.evaluation.get(documents))
            }
            self.evaluation = entry.evaluation
            parts = [
                f"{documents} " + ", ".join(f"{m} {v:.3f}{self._change(documents, m)}" for m, v in losses.items())
                for documents, losses in self.evaluation.items()
            ]
            found.append(f"{head}  loss of " + "; ".join(parts))
        if entry.exposures:
            self.exposures = entry.exposures
            found.append(f"{head}  IDs by exposures: " + ", ".join(f"{b}: {n:,.0f}" for b, n in self.exposures.items()))
        return found

    def figures(self) -> list[tuple[str, str]]:
        """Name and value of the latest figures, as shown."""
        shown = ((name, write(self.training[key])) for key, name, write in _SHOWN if key in self.training)
        return [(name, text) for name, text in shown if text]

    def _change(self, documents: str, mode: str) -> str:
        change = self.change.get(documents, {}).get(mode)
        return "" if change is None else f" ({change:+.3f})"


def span(seconds: float) -> str:
    """A length of time in its two largest units."""
    whole = round(seconds)
    for size, larger, smaller in ((86400, "d", "h"), (3600, "h", "min"), (60, "min", "s")):
        if whole >= size:
            unit = {"h": 3600, "min": 60, "s": 1}[smaller]
            return f"{whole // size} {larger} {whole % size // unit:02d} {smaller}"
    return f"{whole} s"


def moment(when: datetime, today: datetime) -> str:
    """The time of day, with the date unless it is today."""
    return f"{when:%H:%M}" if when.date() == today.date() else f"{when:%Y-%m-%d %H:%M}"
