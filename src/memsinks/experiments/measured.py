"""What was measured of one arm."""

from dataclasses import dataclass
from typing import Any

from memsinks.audit import DocumentLosses


@dataclass(frozen=True)
class Measured:
    """An arm's measurements; ``data`` is what its file holds."""

    data: dict[str, Any]

    def losses(self, documents: str, mode: str) -> DocumentLosses:
        """Losses on a set of documents in a mode."""
        return DocumentLosses.from_json(self.data["losses"][documents][mode])
