"""Question 1: is the repeated and the sensitive text known, and is it governed?"""

from collections.abc import Sequence

from memsinks.corpus.card import counted as plural
from memsinks.readiness.answer import Answer, Evidence, Finding, answer, counted
from memsinks.readiness.facts import TextFacts
from memsinks.report.format import percent


def suitability(facts: TextFacts) -> Answer:
    """Judge the text by its facts."""
    evidence = [
        counted("documents that the run trains on", facts.documents),
        Evidence(
            what="governed: documents, share of the planned tokens",
            shown=f"{facts.governed_documents:,}, {percent(facts.governed_tokens / facts.tokens)}",
            value={"documents": facts.governed_documents, "tokens": facts.governed_tokens, "of": facts.tokens},
        ),
        counted("most passes over one text, its copies and near-copies together", facts.most_seen),
        Evidence(
            what="planned tokens of repeated text, of which governed",
            shown=f"{facts.repeated_tokens:,}, {_share(facts.repeated_governed, facts.repeated_tokens)}",
            value={"tokens": facts.repeated_tokens, "governed": facts.repeated_governed},
        ),
        counted("groups of repeated text that train with sinks off", len(facts.repeated_loose)),
        Evidence(
            what="copies of governed text that train with sinks off: documents, planned tokens",
            shown=f"{len(facts.copies):,}, {facts.copies_tokens:,}",
            value={"documents": facts.copies, "tokens": facts.copies_tokens},
        ),
        counted("pairs of a governed and another document that share a passage", facts.passages),
        Evidence(
            what="documents with deletion terms, of which not governed",
            shown="no such column"
            if facts.with_terms is None
            else f"{facts.with_terms:,}, {len(facts.with_terms_loose):,}",
            value=None
            if facts.with_terms is None
            else {"documents": facts.with_terms, "not_governed": facts.with_terms_loose},
        ),
    ]
    return answer(
        "data",
        "Is the text that may have to leave known, and does it train with sinks?",
        evidence,
        _findings(facts),
        well="Repeated text and text with deletion terms is governed, and no copy of it trains with sinks off.",
        not_covered="Text that is sensitive without being repeated or marked: nothing here reads for personal data or "
        "secrets. Translations, paraphrases and summaries of governed text are not found. Text seen once is learned "
        "too, if rarely word for word.",
    )


def _findings(facts: TextFacts) -> list[Finding]:
    found = []
    if facts.with_terms_loose:
        found.append(
            Finding(
                grave=True,
                says=f"{plural(len(facts.with_terms_loose), 'document')} with deletion terms "
                f"{_trains(facts.with_terms_loose)} with sinks off ({_named(facts.with_terms_loose)}) and could not be "
                "removed.",
                remedy="Govern all text with deletion terms: exposures.govern in the run file.",
            )
        )
    if facts.copies:
        found.append(
            Finding(
                grave=True,
                says=f"{plural(len(facts.copies), 'document')} {_trains(facts.copies)} with sinks off although a copy "
                f"or near-copy is governed ({_named(facts.copies)}): shared neurons would keep what removal takes.",
                remedy='Govern copies alike: corpus.ids = "group" and a policy that names all of their sources, or '
                "leave the other copies out of training.",
            )
        )
    if facts.repeated_loose:
        found.append(
            Finding(
                grave=False,
                says=f"{plural(len(facts.repeated_loose), 'group')} of repeated text "
                f"{_trains(facts.repeated_loose)} with sinks off ({_named(facts.repeated_loose)}) and will be "
                "memorised in shared neurons.",
                remedy="Govern repeated text, or cap it (exposures.cap_id), unless it is yours to keep.",
            )
        )
    if facts.passages:
        found.append(
            Finding(
                grave=False,
                says=f"{plural(facts.passages, 'pair')} of a governed and another document "
                f"{'shares' if facts.passages == 1 else 'share'} a passage, which stays with the other.",
                remedy="`memsinks why` shows the passages of a document; boilerplate needs nothing.",
            )
        )
    if not facts.repeated_tokens:
        found.append(
            Finding(
                grave=False,
                says="No text is seen more often than other text, so little is memorised word for word that sinks "
                "could hold.",
                remedy="If nothing is to be repeated, training without the text, or a filter, may serve better.",
            )
        )
    return found


def _trains(names: Sequence[str]) -> str:
    return "trains" if len(names) == 1 else "train"


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3:,} more"


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "none"
