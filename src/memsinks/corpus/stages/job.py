"""What every task of a preparation knows."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from memsinks.corpus.identity import Identity
from memsinks.corpus.pieces import Piece
from memsinks.corpus.readers import Columns
from memsinks.corpus.settings import PrepareConfig
from memsinks.corpus.work import Work


@dataclass(frozen=True)
class Job:
    """A preparation.

    Attributes:
        work: the folder of the stages.
        config: of the corpus.
        reading: the tasks of the first stage.
    """

    work: Work
    config: PrepareConfig
    reading: list[list[Piece]] = field(repr=False)

    @functools.cached_property
    def identity(self) -> Identity:
        """How documents get their sequence IDs."""
        return Identity.parse(self.config.identity)

    @property
    def columns(self) -> Columns:
        """What is read: IDs and the split are read among the metadata, and governance may be."""
        columns, needed = self.config.columns, (self.identity.column, self.config.validation_column)
        present = columns.stored()
        missing = tuple(dict.fromkeys(c for c in needed if c is not None and c not in present))
        return replace(columns, metadata=(*columns.metadata, *missing))


Task: TypeAlias = Callable[[Job, int], None]
"""Does one task of a stage, by its number; a function of a module, so that it travels to other processes."""
