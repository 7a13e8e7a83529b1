"""What is decided where a request touches more than it names."""

from dataclasses import dataclass
from typing import Literal

Choice = Literal["remove", "keep"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Decisions; None is undecided.

    Attributes:
        shared_ids: where documents outside the request have the same sequence ID: remove it for all, or keep it.
        near_copies: where documents outside it are near-copies under other IDs: remove these too, or keep them.
        shared_rows: where surviving IDs chose the same rows: remove these, or keep them with what is left in them.
        without_sinks: where documents of the request trained without sinks: accept that they stay.
    """

    shared_ids: Choice | None = None
    near_copies: Choice | None = None
    shared_rows: Choice | None = None
    without_sinks: Literal["keep"] | None = None
