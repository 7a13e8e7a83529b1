"""What was measured of one arm."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from memsinks.audit import DocumentLosses


@dataclass(frozen=True)
class Measured:
    """An arm's measurements; ``data`` is what its file holds."""

    data: dict[str, Any]

    def losses(self, documents: str, mode: str) -> DocumentLosses:
        """Losses on a set of documents in a mode."""
        entry = self.data["losses"][documents][mode]
        return DocumentLosses(
            tuple(entry["names"]), np.array(entry["loss_sum"]), np.array(entry["tokens"], dtype=np.int64)
        )
