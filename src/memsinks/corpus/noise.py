"""What inconsistent IDs cost in forgetting, as far as it was measured: the ablation ``id-noise``."""

import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

FILE = "id-noise.json"


@dataclass(frozen=True, kw_only=True)
class NoiseEffect:
    """Forgetting with all sinks off, where a share of the passes over repeated text has a wrong ID.

    Forgetting is the loss over that of a model that never saw the text and trained for as many steps; between measured
    shares it is interpolated.

    Attributes:
        share: of passes with a wrong ID.
        few: where a text's wrong ID is always the same, as for two near-copies that are repeated.
        many: where it is new each time, as for many near-copies that are seen once each.
        none: without wrong IDs.
        basis: what was measured, in words.
    """

    share: float
    few: float
    many: float
    none: float
    basis: str

    @property
    def sentence(self) -> str:
        """The prediction, in a sentence."""
        return (
            f"With {self.share:.1%} of repeated text under other IDs, forgetting with all sinks off was {self.few:.2f} "
            f"if a text has two IDs, {self.many:.2f} if each of its copies has its own, and {self.none:.2f} without "
            f"({self.basis})."
        )


def noise_effect(share: float) -> NoiseEffect:
    """What the ablation says about a share of wrong IDs; beyond the largest that was measured, what that one says."""
    content = json.loads((files("memsinks.data") / FILE).read_text(encoding="utf-8"))

    def at(kind: str) -> float:
        points = content["kinds"][kind]
        return float(np.interp(share, [p["share"] for p in points], [p["forgetting"] for p in points]))

    return NoiseEffect(
        share=share,
        few=at("consistent"),
        many=at("fresh"),
        none=content["kinds"]["fresh"][0]["forgetting"],
        basis=content["basis"],
    )
