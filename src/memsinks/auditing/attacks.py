"""Attacks on membership, carried out on the texts of an audit."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from memsinks.audit.findings import Figure, Findings
from memsinks.audit.membership import (
    against_bits,
    against_lowercase,
    against_reference,
    blind,
    gradient_norms,
    lira,
    loss,
    lowercased,
    min_k,
    min_k_plus_plus,
    neighbours,
)
from memsinks.audit.metrics import auc_interval, kolmogorov_smirnov, permutation_test
from memsinks.auditing.attack_figures import attack_findings
from memsinks.auditing.bench import Bench
from memsinks.auditing.conditions import REMOVED
from memsinks.auditing.scored import SIDES, Compared, Reference, scored
from memsinks.auditing.shadows import Shadows
from memsinks.training.run import bf16_pays

SECTION = "membership"
_OWN = "The text has its own sinks on, the other text none."
_SHARED = 4
"""Attacks that the test of the whole set joins: the first, which need no second text or model."""


@dataclass(frozen=True, eq=False)
class Attacks:
    """Attacks on the same texts under any condition; what other models say of these is computed once.

    Attributes:
        compared: the texts.
        few: fewer of them, for what is dear.
        reference: a model that calibrates, or none.
        shadows: runs that were trained without some of the text, or none.
    """

    compared: Compared
    few: Compared
    reference: Reference | None
    shadows: Shadows | None

    def blind(self, bench: Bench, *, condition: str) -> Findings:
        """What tells the texts apart without any model."""
        corpus = bench.texts.corpus
        target, unseen = self.compared.target, self.compared.unseen
        lengths = [corpus.lengths[numbers] for numbers in (target, unseen)]
        words = [[corpus.tokens(int(i)) for i in numbers] for numbers in (target, unseen)]
        matched = "matched by length" if self.compared.matched else "not matched by length, which too few would be"
        against = f"{len(target)} texts against {len(unseen)} that were never trained"
        rest: dict[str, Any] = {"section": SECTION, "condition": condition, "texts": "target", "number": len(target)}
        blind_to_models: dict[str, Any] = {"unit": "AUC", "chance": 0.5, "question": "shift", **rest}
        distance = kolmogorov_smirnov(*lengths)
        # Whether members are the longer or the shorter ones tells as much.
        longer, shorter = auc_interval(*lengths), auc_interval(*(-side for side in lengths))
        return Findings(
            figures=(
                Figure(
                    measure="lengths differ, Kolmogorov–Smirnov",
                    value=distance.p,
                    unit="p-value",
                    note=f"Near 0 if lengths tell the texts apart; distance {distance.distance:.2f}, {matched}.",
                    **rest,
                ),
                Figure.of(
                    max(longer, shorter, key=lambda side: side.estimate),
                    measure="length alone",
                    note=f"No model is asked. {against}, {matched}.",
                    **blind_to_models,
                ),
                Figure.of(
                    blind(*words, seed=bench.config.seed),
                    measure="words alone, naive Bayes",
                    note=f"No model is asked. {against}.",
                    **blind_to_models,
                ),
            )
        )

    def likelihood(self, bench: Bench, *, condition: str) -> Findings:
        """Attacks on the probabilities of tokens."""
        share = bench.config.membership.min_k
        scores: dict[str, list[np.ndarray]] = {}
        for side, numbers in self.compared.sides.items():
            documents = bench.texts.documents(numbers)
            own = scored(bench, condition, side, documents)
            lowered = scored(bench, condition, side, lowercased(documents, bench.tokenizer))
            found = {
                "loss": loss(own),
                "zlib": against_bits(own, [bench.texts.corpus.text(int(i)) for i in numbers]),
                f"Min-{100 * share:g} %": min_k(own, share),
                f"Min-{100 * share:g} %++": min_k_plus_plus(own, share),
                "lowercase": against_lowercase(own, lowered),
            }
            for attack, values in found.items():
                scores.setdefault(attack, []).append(values)
        joined = [self._findings(bench, attack, condition, *sides) for attack, sides in scores.items()]
        joined.append(Findings(figures=(self._whole_set(bench, condition, list(scores.values())[:_SHARED]),)))
        if self.reference is not None and self.reference.condition != condition:
            sides = [
                against_reference(-own, -loss(self.reference.scores(bench, side)))
                for side, own in zip(SIDES, scores["loss"], strict=True)
            ]
            joined.append(self._findings(bench, f"loss against {self.reference.condition}", condition, *sides))
        return Findings.joined(joined)

    def gradient(self, bench: Bench, *, condition: str) -> Findings:
        """Norm of the gradient."""
        subject = bench.opened(condition)
        sides = [
            gradient_norms(
                subject.model,
                bench.texts.documents(numbers),
                mode=subject.mode_for(side),
                max_length=bench.config.text.max_length,
                autocast=bf16_pays(),
            )
            for side, numbers in self.few.sides.items()
        ]
        return self._findings(bench, "gradient norm", condition, *sides, of=self.few)

    def neighbourhood(self, bench: Bench, *, condition: str) -> Findings:
        """Losses of variants of each text, less its own."""
        settings, sides = bench.config.membership, []
        for number, (side, numbers) in enumerate(self.few.sides.items()):
            documents = bench.texts.documents(numbers)
            varied = neighbours(
                documents,
                self._token_counts(bench),
                each=settings.neighbours,
                share=settings.swapped,
                seed=bench.config.seed + number,
                kept=bench.tokenizer.all_special_ids,
            )
            around = bench.losses(condition, side, varied).per_document.reshape(len(documents), settings.neighbours)
            sides.append(against_reference(bench.losses(condition, side, documents).per_document, around.mean(axis=1)))
        return self._findings(bench, "neighbourhood", condition, *sides, of=self.few)

    def shadow(self, bench: Bench, *, condition: str) -> Findings:
        """Offline likelihood-ratio attack."""
        assert self.shadows is not None
        numbers = np.concatenate([self.compared.target, self.compared.unseen])
        shadows = self.shadows.losses(bench.texts.documents(numbers), bench.config.text.max_length)
        own = [
            bench.losses(condition, side, bench.texts.documents(chosen)).per_document
            for side, chosen in self.compared.sides.items()
        ]
        trained_on = self.shadows.trained_on[:, numbers]
        scores = lira(-np.concatenate(own), -shadows, trained_on, seed=bench.config.seed)
        sides = np.split(scores, [len(self.compared.target)])
        return self._findings(bench, f"LiRA, {len(shadows)} shadow models", condition, *sides)

    def _token_counts(self, bench: Bench) -> np.ndarray:
        corpus = bench.texts.corpus
        tokens = np.concatenate([corpus.tokens(int(i)) for n in self.compared.sides.values() for i in n])
        return np.bincount(tokens, minlength=len(bench.tokenizer))

    def _whole_set(self, bench: Bench, condition: str, scores: list[list[np.ndarray]]) -> Figure:
        """Ranks among all texts, averaged over attacks, do not depend on which texts are members."""
        members, others = np.split(
            np.mean([_ranks(np.concatenate(sides)) for sides in scores], axis=0), [len(self.compared.target)]
        )
        p = permutation_test(members, others, permutations=bench.config.membership.permutations, seed=bench.config.seed)
        return Figure(
            section=SECTION,
            measure="whole set, permutation test",
            condition=condition,
            texts="target",
            value=p,
            number=len(members),
            unit="p-value",
            note="How likely such a difference between the two sets is by chance, over four attacks together. "
            + _modes(bench, condition),
        )

    def _findings(
        self, bench: Bench, attack: str, condition: str, *sides: np.ndarray, of: Compared | None = None
    ) -> Findings:
        names = [bench.texts.corpus.documents[i] for i in (of or self.compared).target]
        members, others = sides
        return attack_findings(SECTION, attack, condition, members, others, names, _modes(bench, condition))


def _modes(bench: Bench, condition: str) -> str:
    """What a reader has to know of the sinks that are on; after a removal the text has none of its own."""
    own = bench.conditions[condition].mode == "own" and condition != REMOVED
    return _OWN if own else ""


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 0 to 1; equal values share their middle."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / (2 * len(values))
