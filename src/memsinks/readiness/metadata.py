"""Question 2: can the IDs be trusted?"""

from dataclasses import asdict

import numpy as np

from memsinks.corpus import Consistency
from memsinks.corpus.card import counted as plural
from memsinks.corpus.noise import NoiseEffect, noise_effect
from memsinks.ids import format_id
from memsinks.planning.governed import Unit
from memsinks.readiness.answer import Answer, Evidence, Finding, answer, counted
from memsinks.report.format import percent
from memsinks.training.run import TrainText

TOLERATED, KNOWN = 0.1, 0.01
"""Shares of governed tokens under another ID than most of their group: more than the first has to change (the share
that the paper's sinks tolerate, arXiv 2507.09937, section 6), more than the second has to be known."""


def reliability(text: TrainText, found: Consistency, unit: Unit) -> Answer:
    """Judge the IDs of a run's text.

    Args:
        text: of the run.
        found: of its corpus, opened as the run does.
        unit: what a request names.
    """
    corpus = text.corpus
    stray = stray_share(text, found)
    effect = noise_effect(stray)
    near = corpus.manifest["config"].get("groups") is not None
    keyed = bool(corpus.manifest["config"]["keyed"])
    governed = _governed(text)
    sources = {corpus.sources[i] for i in governed}
    governed_ids = set(map(format_id, np.unique(corpus.sequence_ids[governed]).tolist()))
    # What is wrong with text that nobody may ask to remove is no matter of removal.
    spanning = [i for i in found.spanning if i in governed_ids]
    variants = [names for names in found.variants if sources.intersection(names)]
    nameless = sum(corpus.sources[i] is None for i in governed)
    evidence = [
        Evidence(what="documents share an ID by", shown=found.ids, value=found.ids),
        Evidence(what="near-duplicates and passages were looked for", shown="yes" if near else "no", value=near),
        counted("groups of near-copies with several IDs", len(found.torn)),
        Evidence(what="governed tokens under another ID than most of their group", shown=percent(stray), value=stray),
        Evidence(
            what="forgetting with all sinks off at such a share: two IDs a text, an ID a copy; at none",
            shown=f"{effect.few:.2f}, {effect.many:.2f}; {effect.none:.2f} ({effect.basis})",
            value=asdict(effect),
        ),
        counted("governed IDs of several sources", len(spanning)),
        counted("governed sources spelled in several ways", len(variants)),
        counted("governed documents without a source", nameless),
        counted("rows that were rejected when the corpus was prepared", int(corpus.manifest["rejected"])),
        Evidence(
            what="chance that two IDs are equal by accident", shown=f"{found.collision:.1g}", value=found.collision
        ),
        Evidence(what="IDs are keyed", shown="yes" if keyed else "no", value=keyed),
    ]
    return answer(
        "metadata",
        "Can the IDs and sources be relied on?",
        evidence,
        [
            *_strays(stray, effect),
            *_sources(len(spanning), variants, nameless, unit),
            *_intake(near, int(corpus.manifest["rejected"])),
        ],
        well="Governed near-copies have one ID, no governed ID stands for several sources, and every governed document "
        "has a source.",
        not_covered="Whether a source is the true owner of its text: that is as good as the delivery's own columns. "
        "The forgetting is that of the ablation's stories, not of this corpus.",
    )


def stray_share(text: TrainText, found: Consistency) -> float:
    """The share of the governed tokens that train under another ID than most of their group; copies count as often as
    they stand in the corpus."""
    corpus, governed = text.corpus, set(_governed(text))
    total = sum(int(corpus.lengths[i]) for i in governed)
    strays = 0
    for group in found.torn:
        _, *others = group.documents.values()
        strays += sum(
            int(corpus.lengths[i]) for names in others for name in names if (i := corpus.index(name)) in governed
        )
    return strays / total if total else 0.0


def _governed(text: TrainText) -> list[int]:
    return (text.governed & (text.plan.counts > 0)).nonzero()[0].tolist()


def _strays(stray: float, effect: NoiseEffect) -> list[Finding]:
    if stray <= KNOWN:
        return []
    return [
        Finding(
            grave=stray > TOLERATED,
            says=f"{percent(stray)} of the governed tokens are under another ID than most of their near-copies. "
            f"Removing one ID leaves them with the others. {effect.sentence}",
            remedy='Give near-copies one ID: corpus.ids = "group".',
        )
    ]


def _sources(spanning: int, variants: list[list[str]], nameless: int, unit: Unit) -> list[Finding]:
    findings = []
    if spanning:
        findings.append(
            Finding(
                grave=unit == "source",
                says=f"{plural(spanning, 'governed ID')} {'belongs' if spanning == 1 else 'belong'} to several "
                "sources, so removing one source takes from the others.",
                remedy="Decide for each group that spans sources (card.md lists them) whose it is, before training.",
            )
        )
    if nameless:
        findings.append(
            Finding(
                grave=unit == "source",
                says=f"{plural(nameless, 'governed document')} {'has' if nameless == 1 else 'have'} no source, and no "
                "request by source can name them.",
                remedy="Name the source column when the corpus is prepared, or folder_source in columns.toml.",
            )
        )
    if variants:
        example = ", ".join(map(repr, variants[0]))
        findings.append(
            Finding(
                grave=False,
                says=f"{plural(len(variants), 'governed source')} {'is' if len(variants) == 1 else 'are'} spelled in "
                f"several ways ({example}), and a request for one spelling misses the others.",
                remedy="Use one spelling for a source, or name all of them in a request.",
            )
        )
    return findings


def _intake(near: bool, rejected: int) -> list[Finding]:
    findings = []
    if not near:
        findings.append(
            Finding(
                grave=False,
                says="Near-duplicates were not looked for, so it is not known how many have IDs of their own.",
                remedy="Prepare the corpus without --no-near.",
            )
        )
    if rejected:
        findings.append(
            Finding(
                grave=False,
                says=f"{plural(rejected, 'row')} could not be used and {'is' if rejected == 1 else 'are'} not in the "
                "corpus.",
                remedy="rejects.jsonl in the corpus folder names each with its reason.",
            )
        )
    return findings
