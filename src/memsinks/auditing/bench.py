"""What tasks work on: the texts, and the model of each condition, of which one at a time is in memory."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from memsinks.audit import DocumentLosses, TokenizedDocument, document_losses
from memsinks.auditing.conditions import Condition, Opened, opened
from memsinks.auditing.config import AuditConfig
from memsinks.auditing.texts import Texts
from memsinks.training.run import bf16_pays

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(eq=False)
class Bench:
    """What tasks work on.

    Attributes:
        texts: of the audit.
        conditions: by name, in the order of tables.
        config: of the audit.
        work: folder for what a task may leave between two runs of it; it is emptied when the audit is done.
    """

    texts: Texts
    conditions: dict[str, Condition]
    config: AuditConfig
    work: Path
    _opened: Opened | None = field(default=None, repr=False)

    def opened(self, name: str) -> Opened:
        """The model of a condition; the one that was in memory before goes."""
        if self._opened is None or self._opened.condition.name != name:
            self._opened = None
            self._opened = opened(self.conditions[name], self.texts.target_ids, seed=self.config.seed)
        return self._opened

    def losses(self, name: str, texts: str, documents: list[TokenizedDocument]) -> DocumentLosses:
        """Losses of documents of a set of texts under a condition, read as in training."""
        subject = self.opened(name)
        return document_losses(
            subject.model,
            documents,
            mode=subject.mode_for(texts),
            max_length=self.config.text.max_length,
            autocast=bf16_pays(),
        )

    @property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Of the corpus."""
        return self.texts.corpus.tokenizer
